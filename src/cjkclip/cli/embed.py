"""`cjkclip embed`: vectors of pictures and texts, in a file."""

import time
from bisect import bisect
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import cjkclip
from cjkclip.cli.inputs import is_folder, read_lines, sort_inputs, worded
from cjkclip.cli.options import As, Json, Kind, Out, Run
from cjkclip.cli.screen import Report, safe
from cjkclip.errors import ImageError, InputError
from cjkclip.gallery.files import picture_names
from cjkclip.gallery.rows import ENDINGS, Rows

Vectors = tuple[list[int], np.ndarray]  # places among the inputs, and a row for each
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


def embed(
    out: Out,
    inputs: Inputs = None,
    *,
    lines: Lines = None,
    kind: As = "auto",
    fast: Fast = False,
    run: Run,
    json: Json = False,
) -> None:
    """Turn pictures and texts into unit vectors, one row each, and write them to a file.

    FILE.safetensors is a gallery for 'cjkclip search --in'.
    FILE.npz holds names and vectors for NumPy, FILE.npy the vectors alone.
    Inputs that cannot be used are left out and reported.

    Example: cjkclip embed photos/ --out photos.safetensors
    """
    if out.suffix not in ENDINGS:
        raise typer.BadParameter(f"--out {str(out)!r} must end in one of {' '.join(ENDINGS)}")
    if not inputs and not lines:
        raise typer.BadParameter("nothing to embed: name pictures, folders or texts, or pass --lines FILE")
    with Report("embed", as_json=json) as report:
        wanted = _sorted(inputs or [], kind, [line for path in lines or [] for line in read_lines(path)])
        if not out.parent.is_dir():
            raise InputError(f"--out {str(out)!r}: there is no folder {str(out.parent)!r}, make it first")
        clip = run.load()
        with Rows(out, clip.embed_dim) as rows:
            spent = _fill(rows, report, clip, wanted, fast)
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


def _sorted(inputs: list[str], kind: Kind, lines: list[str]) -> Wanted:
    """A folder stands for the pictures in it, unless everything is a text."""
    wanted = Wanted(names=[], texts=[], pictures=[])

    def add(names: Sequence[str], places: list[int]) -> None:
        places += range(len(wanted.names), len(wanted.names) + len(names))
        wanted.names.extend(names)

    for word in inputs:
        if kind != "text" and is_folder(word):
            add(picture_names(Path(word)), wanted.pictures)
        else:
            [one] = sort_inputs([word], kind)
            add([str(one)], wanted.pictures if isinstance(one, Path) else wanted.texts)
    add(lines, wanted.texts)
    return wanted


def _fill(rows: Rows, report: Report, clip: "cjkclip.Clip", wanted: Wanted, fast: bool) -> Spent:
    """A row for every input that can be used, in their order: texts are encoded at once, pictures as they come."""
    places = [i for i in wanted.texts if worded(report, wanted.names[i])]
    words = [wanted.names[i] for i in places]
    texts = places, clip.encode_text(words) if words else np.zeros((0, clip.embed_dim), np.float32)
    spent = Spent()
    with closing(_pictures(report, clip, wanted, fast, spent)) as pictures:
        for found, vectors in _in_order(texts, pictures):
            began = time.perf_counter()
            rows.add([wanted.names[i] for i in found], vectors)
            spent.writing += time.perf_counter() - began
    return spent


def _pictures(report: Report, clip: "cjkclip.Clip", wanted: Wanted, fast: bool, spent: Spent) -> Generator[Vectors]:
    """The pictures among the inputs, batch by batch; the bad ones are reported."""
    if not wanted.pictures:
        return
    paths = [wanted.names[i] for i in wanted.pictures]
    batches = clip.encode_image_batches(paths, exact=not fast)
    with closing(batches), report.progress("reading pictures", len(paths)) as progress:
        for batch in batches:
            spent.reading += batch.waited
            spent.encoding += batch.encoded
            for index, why in batch.problems:
                report.problem(paths[index], ImageError(f"picture {index}: {why}"))
            end = batch.start + len(batch.features)
            progress(end)
            yield wanted.pictures[batch.start : end], batch.features


def _in_order(texts: Vectors, pictures: Iterable[Vectors]) -> Iterator[Vectors]:
    """Both in the order of the inputs: with each batch of pictures go the texts that stand before its last.

    >>> rows = np.arange(5.0)[:, None]
    >>> parts = _in_order(([0, 3, 9], rows[:3]), [([1, 4], rows[3:])])
    >>> [(places, vectors[:, 0].tolist()) for places, vectors in parts]
    [([0, 1, 3, 4], [0.0, 3.0, 1.0, 4.0]), ([9], [2.0])]
    """
    places, vectors = texts
    told = 0
    for found, features in pictures:
        until = bisect(places, found[-1])
        both = [*places[told:until], *found]
        order = sorted(range(len(both)), key=both.__getitem__)
        yield [both[i] for i in order], np.concatenate([vectors[told:until], features])[order]
        told = until
    if told < len(places):
        yield places[told:], vectors[told:]
