"""`cjkclip embed`: vectors of pictures and texts, in a file."""

import time
from pathlib import Path
from typing import Annotated

import typer

import cjkclip
from cjkclip.answers import embed_answer
from cjkclip.cli.inputs import globbed, read_lines, require_filled, sort_input
from cjkclip.cli.options import As, Json, Kind, ModelOptions, Out
from cjkclip.cli.report import Report
from cjkclip.cli.streams import safe
from cjkclip.errors import InputError
from cjkclip.gallery.files import is_folder, leads_to_folder, picture_names
from cjkclip.gallery.index import IndexInputs, Seconds, index
from cjkclip.gallery.rows import ENDINGS, Rows, check_names

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
    kind: As = "auto",
    fast: Fast = False,
    batch_size: Batch = None,
    run: ModelOptions,
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
        sources = _sorted(report, inputs or [], kind, _lines(report, lines or []))
        if not is_folder(str(out.parent)):
            raise InputError(f"--out {str(out)!r}: there is no folder {str(out.parent)!r}, make it first")
        check_names(out, sources.names)
        clip = run.load()
        with Rows(out, clip.embed_dim) as rows:
            seconds = _index(report, rows, clip, sources, fast, batch_size)
            if not len(rows):
                raise InputError("nothing is left to embed: see above")
            start = time.perf_counter()
            rows.save(clip.fingerprint)
            seconds.writing += time.perf_counter() - start
        report.show(f"{len(rows)} rows of {clip.embed_dim} numbers written to {safe(str(out))}")
        if sources.pictures:
            report.show(time_line(seconds, len(sources.pictures)), *advice(seconds, sources, fast))
        report.answer = embed_answer(run.model, clip.fingerprint, rows, len(sources.pictures), seconds)


def _index(
    report: Report, rows: Rows, clip: "cjkclip.Clip", sources: IndexInputs, fast: bool, batch_size: int | None
) -> Seconds:
    with report.progress("encoding") as progress:
        return index(
            rows,
            clip,
            sources,
            exact=not fast,
            batch_size=batch_size,
            on_error=lambda i, error: report.problem(sources.names[i], error),
            note=report.note,
            progress=progress,
        )


def _require_sense(out: Path, batch_size: int | None) -> None:
    if out.suffix not in ENDINGS:
        raise typer.BadParameter(f"--out {str(out)!r} must end in one of {' '.join(ENDINGS)}")
    if batch_size is not None and batch_size < 1:
        raise typer.BadParameter(f"--batch-size {batch_size} must be at least 1: the model gets so many at once")


def time_line(seconds: Seconds, pictures: int) -> str:
    """One line for people.

    >>> time_line(Seconds(reading=35, encoding=24, writing=2.04), 20_000)
    '20,000 pictures in 61 s (328/s): reading and resizing 35 s of waiting, encoding 24 s, writing 2.0 s'
    """
    parts = (seconds.reading, seconds.encoding, seconds.writing, seconds.whole)
    reading, encoding, writing, whole = map(_rounded, parts)
    rate = f"{pictures / max(seconds.whole, 1e-9):,.0f}/s"
    shares = f"reading and resizing {reading} of waiting, encoding {encoding}, writing {writing}"
    return f"{pictures:,} pictures in {whole} ({rate}): {shares}"


def advice(seconds: Seconds, inputs: IndexInputs, fast: bool) -> list[str]:
    """What would make it faster, if it took long and there is something."""
    if seconds.whole < LONG:
        return []
    if seconds.encoding >= seconds.reading:
        return ["encoding takes the longest: a smaller model, or --engine torch on a GPU, is faster"]
    if not fast and any(inputs.names[i].lower().endswith(JPEG) for i in inputs.pictures):
        return ["reading takes the longest: --fast decodes large JPEG files at a fraction of their size"]
    return []


def _rounded(value: float) -> str:
    return f"{value:,.0f} s" if value >= 10 else f"{value:.1f} s"


def _sorted(report: Report, inputs: list[str], kind: Kind, lines: list[str]) -> IndexInputs:
    """A folder stands for the pictures in it, unless everything is a text."""
    sources = IndexInputs()
    for word in inputs if kind == "text" else globbed(inputs):
        if kind != "text":
            require_filled(word)
        if kind != "text" and leads_to_folder(word):
            sources.add_pictures(picture_names(Path(word), report.problem))
        elif isinstance(one := sort_input(word, kind), Path):
            sources.add_pictures([str(one)])
        else:
            sources.add_texts([one])
    sources.add_texts(lines)
    if not sources.names and not report.problems:
        raise InputError("nothing to embed: the files of --lines hold no text, expected one per line")
    return sources


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
