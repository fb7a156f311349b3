"""`cjkclip embed`: vectors of pictures and texts, in a file.

However many there are, the vectors of one part of the texts and of a few batches of pictures are in memory at once.
"""

import time
from bisect import bisect
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import cjkclip
from cjkclip.cli.inputs import globbed, is_folder, leads_to_folder, read_lines, require_filled, sort_input, worded
from cjkclip.cli.options import As, Json, Kind, Out, Run
from cjkclip.cli.screen import Report, safe
from cjkclip.errors import ImageError, InputError, TruncatedTextWarning
from cjkclip.gallery.files import picture_names
from cjkclip.gallery.rows import ENDINGS, Rows, check_names

Vectors = tuple[list[int], np.ndarray]  # places among the inputs, and a row for each
NONE: Vectors = [], np.zeros((0, 0), np.float32)
SHOWN = 60  # characters of a text in a note
PART = 4096  # texts that are encoded in one call: enough of each length to fill batches
LONG = 10  # seconds, from which on it is worth saying what would be faster
JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")

Inputs = Annotated[
    list[str] | None,
    typer.Argument(metavar="INPUT", help="Picture files, folders of pictures, or texts."),
]
Lines = Annotated[
    list[Path] | None,
    typer.Option("--lines", metavar="FILE", help="A UTF-8 file with one text per line; - is standard input."),
]
Fast = Annotated[bool, typer.Option("--fast", help="Decode large JPEG files at a fraction of their size.")]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        help="How many the model gets at once, where memory is short; else 32 pictures (256 on a GPU) or 256 texts.",
    ),
]


def embed(
    out: Out,
    inputs: Inputs = None,
    *,
    lines: Lines = None,
    kind: As = Kind.AUTO,
    fast: Fast = False,
    batch_size: Batch = None,
    run: Run,
    json: Json = False,
) -> None:
    """Turn pictures and texts into unit vectors, one row each, and write them to a file.

    FILE.safetensors is a gallery for 'cjkclip search --in'.
    FILE.npz holds names and vectors for NumPy, FILE.npy the vectors alone.
    Inputs that cannot be used are left out and reported.

    Example: cjkclip embed photos/ --out photos.safetensors
    """
    if not inputs and not lines:
        raise typer.BadParameter("nothing to embed: name pictures, folders or texts, or pass --lines FILE")
    _require_sense(out, batch_size)
    with Report("embed", as_json=json) as report:
        wanted = _sorted(report, inputs or [], kind, _lines(report, lines or []))
        if not is_folder(str(out.parent)):
            raise InputError(f"--out {str(out)!r}: there is no folder {str(out.parent)!r}, make it first")
        check_names(out, wanted.names)
        clip = run.load()
        with Rows(out, clip.embed_dim) as rows:
            spent = _fill(rows, report, clip, wanted, fast, batch_size)
            if not len(rows):
                raise InputError("nothing is left to embed: see above")
            began = time.perf_counter()
            rows.save(clip.fingerprint)
            spent.writing += time.perf_counter() - began
        report.answer |= {"model": run.model, "fingerprint": clip.fingerprint, "out": str(out)}
        report.answer |= {"rows": len(rows), "width": clip.embed_dim, "names": rows.names}
        report.show(f"{len(rows)} rows of {clip.embed_dim} numbers written to {safe(str(out))}")
        if wanted.pictures:
            _tell(report, wanted, spent, fast)


def _require_sense(out: Path, batch_size: int | None) -> None:
    if out.suffix not in ENDINGS:
        raise typer.BadParameter(f"--out {str(out)!r} must end in one of {' '.join(ENDINGS)}")
    if batch_size is not None and batch_size < 1:
        raise typer.BadParameter(f"--batch-size {batch_size} must be at least 1: the model gets so many at once")


@dataclass(kw_only=True)
class Spent:
    """Seconds of the loop over pictures: waiting until they were read, encoding them, writing."""

    reading: float = 0.0
    encoding: float = 0.0
    writing: float = 0.0

    @property
    def whole(self) -> float:
        """All of them."""
        return self.reading + self.encoding + self.writing

    def told(self, pictures: int) -> str:
        """One line for people.

        >>> Spent(reading=35, encoding=24, writing=2.04).told(20_000)
        '20,000 pictures in 61 s (328/s): reading and resizing 35 s of waiting, encoding 24 s, writing 2.0 s'
        """
        reading, encoding, writing, whole = map(_seconds, (self.reading, self.encoding, self.writing, self.whole))
        rate = f"{pictures / max(self.whole, 1e-9):,.0f}/s"
        parts = f"reading and resizing {reading} of waiting, encoding {encoding}, writing {writing}"
        return f"{pictures:,} pictures in {whole} ({rate}): {parts}"

    def advice(self, wanted: "Wanted", fast: bool) -> list[str]:
        """What would make it faster, if it took long and there is something."""
        if self.whole < LONG:
            return []
        if self.encoding >= self.reading:
            return ["encoding takes the longest: a smaller model, or --engine torch on a GPU, is faster"]
        if not fast and any(wanted.names[i].lower().endswith(JPEG) for i in wanted.pictures):
            return ["reading takes the longest: --fast decodes large JPEG files at a fraction of their size"]
        return []


def _tell(report: Report, wanted: "Wanted", spent: Spent, fast: bool) -> None:
    report.answer |= {"pictures": len(wanted.pictures), "seconds": asdict(spent)}
    report.show(spent.told(len(wanted.pictures)), *spent.advice(wanted, fast))


def _seconds(value: float) -> str:
    return f"{value:,.0f} s" if value >= 10 else f"{value:.1f} s"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be encoded: every input's text or path, and the places of the texts and of the pictures."""

    names: list[str]
    texts: list[int]
    pictures: list[int]


def _sorted(report: Report, inputs: list[str], kind: Kind, lines: list[str]) -> Wanted:
    """A folder stands for the pictures in it, unless everything is a text."""
    wanted = Wanted(names=[], texts=[], pictures=[])

    def add(names: Sequence[str], places: list[int]) -> None:
        places += range(len(wanted.names), len(wanted.names) + len(names))
        wanted.names.extend(names)

    for word in inputs if kind == "text" else globbed(inputs):
        if kind != "text":
            require_filled(word)
        if kind != "text" and leads_to_folder(word):
            add(picture_names(Path(word), report.problem), wanted.pictures)
        else:
            one = sort_input(word, kind)
            add([str(one)], wanted.pictures if isinstance(one, Path) else wanted.texts)
    add(lines, wanted.texts)
    if not wanted.names and not report.problems:
        raise InputError("nothing to embed: the files of --lines hold no text, expected one per line")
    return wanted


def _lines(report: Report, files: list[Path]) -> list[str]:
    """The lines of the files but blank ones, which a note counts: who counts lines must know that rows are missing."""
    found: list[str] = []
    for path in files:
        lines = read_lines(path)
        found += filter(None, lines)
        blank = [number for number, line in enumerate(lines, start=1) if not line]
        if blank:
            report.note(
                f"{str(path)!r}: {len(blank):,} of {len(lines):,} lines are blank and have no row (first: {blank[0]})"
            )
    return found


def _fill(
    rows: Rows, report: Report, clip: "cjkclip.Clip", wanted: Wanted, fast: bool, batch_size: int | None
) -> Spent:
    """A row for every input that can be used, in their order, written as they come."""
    places = [i for i in wanted.texts if worded(report, wanted.names[i])]
    spent = Spent()
    with report.progress("encoding", len(places) + len(wanted.pictures)) as progress:
        encoded = {"texts": 0, "pictures": 0}

        def tell(what: str, done: int) -> None:
            encoded[what] = done
            progress(sum(encoded.values()))

        texts = _texts(report, clip, wanted.names, places, batch_size, partial(tell, "texts"))
        pictures = _pictures(report, clip, wanted, fast, batch_size, spent, partial(tell, "pictures"))
        with closing(pictures):
            for found, vectors in _in_order(texts, pictures):
                began = time.perf_counter()
                rows.add([wanted.names[i] for i in found], vectors)
                spent.writing += time.perf_counter() - began
    return spent


def _texts(
    report: Report,
    clip: "cjkclip.Clip",
    names: Sequence[str],
    places: Sequence[int],
    batch_size: int | None,
    tell: Callable[[int], None],
) -> Iterator[Vectors]:
    """The texts at `places`, part by part; at the end the report hears how many were cut."""
    part, cut, limit = max(PART, batch_size or 0), list[int](), 0
    for start in range(0, len(places), part):
        some = list(places[start : start + part])
        words = [names[i] for i in some]
        vectors = clip.encode_text(words, batch_size=batch_size, progress=lambda n, start=start: tell(start + n))
        if report.take(TruncatedTextWarning):  # it counts within a part, and there may be many parts
            tokens = clip.tokenize(words)
            limit = tokens.ids.shape[1]
            cut += [some[i] for i in tokens.truncated]
        yield some, vectors
    if cut:
        first = names[cut[0]]
        shown = first if len(first) <= SHOWN else f"{first[:SHOWN]}…"
        report.note(
            f"{len(cut):,} of {len(places):,} texts are longer than {limit} tokens and were cut (first: {shown!r})"
        )


def _pictures(
    report: Report,
    clip: "cjkclip.Clip",
    wanted: Wanted,
    fast: bool,
    batch_size: int | None,
    spent: Spent,
    tell: Callable[[int], None],
) -> Generator[Vectors]:
    """The pictures among the inputs, batch by batch; the bad ones are reported."""
    if not wanted.pictures:
        return
    paths = [wanted.names[i] for i in wanted.pictures]
    with closing(clip.encode_image_batches(paths, batch_size=batch_size, exact=not fast)) as batches:
        for batch in batches:
            spent.reading += batch.waited
            spent.encoding += batch.encoded
            for index, why in batch.problems:
                report.problem(paths[index], ImageError(f"picture {index}: {why}"))
            done = batch.start + len(batch.features)
            tell(done)
            yield wanted.pictures[batch.start : done], batch.features


def _in_order(*streams: Iterator[Vectors]) -> Iterator[Vectors]:
    """Parts of several streams as one stream in the order of the inputs, with one part of each held at a time.

    >>> rows = np.arange(5.0)[:, None]
    >>> texts, pictures = iter([([0, 3], rows[:2]), ([9], rows[2:3])]), iter([([1, 4], rows[3:])])
    >>> [(places, vectors[:, 0].tolist()) for places, vectors in _in_order(texts, pictures)]
    [([0, 1, 3], [0.0, 3.0, 1.0]), ([4], [4.0]), ([9], [2.0])]
    """
    held = [NONE for _ in streams]
    while True:
        held = [part if part[0] else next(stream, NONE) for part, stream in zip(held, streams, strict=True)]
        ends = [places[-1] for places, _ in held if places]
        if not ends:
            return
        counts = [bisect(places, min(ends)) for places, _ in held]  # of rows before which nothing can come any more
        ready = [(places[:n], vectors[:n]) for (places, vectors), n in zip(held, counts, strict=True) if n]
        held = [(places[n:], vectors[n:]) for (places, vectors), n in zip(held, counts, strict=True)]
        found = [place for places, _ in ready for place in places]
        order = sorted(range(len(found)), key=found.__getitem__)
        yield [found[i] for i in order], np.concatenate([vectors for _, vectors in ready])[order]
