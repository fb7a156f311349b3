"""`cjkclip embed`: write the vectors of images and texts to a file."""

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

LONG = 10  # seconds; a run that takes longer ends with advice
JPEG = (".jpg", ".jpeg", ".jpe", ".jfif")

Inputs = Annotated[
    list[str] | None,
    typer.Argument(metavar="INPUT", help="Image files, directories of images, or texts."),
]
Lines = Annotated[
    list[Path] | None,
    typer.Option("--lines", metavar="FILE", help="A UTF-8 file with one text per line. - is standard input."),
]
Fast = Annotated[
    bool, typer.Option("--fast", help="Fast mode: approximate resizing, large JPEG files decoded in part.")
]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        metavar="N",
        help="Batch size. Default: 32 images (256 on a GPU), 256 texts. Lower it if memory is short.",
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
    run: ModelOptions,
    json: Json = False,
) -> None:
    """Encode images and texts as unit vectors, one row each, and write them to a file.

    FILE.safetensors is a gallery for 'cjkclip search --in'.
    FILE.npz contains names and vectors for NumPy, FILE.npy only the vectors.
    Inputs that cannot be used are reported and have no row.

    Example: cjkclip embed photos/ --out photos.safetensors
    """
    if not inputs and not lines:
        raise typer.BadParameter("nothing to embed: pass image files, directories or texts, or --lines FILE")
    _require_sense(out, batch_size)
    with Report("embed", as_json=json) as report:
        sources = _sorted(report, inputs or [], kind, _lines(report, lines or []))
        if not is_folder(str(out.parent)):
            raise InputError(f"--out {str(out)!r}: the directory {str(out.parent)!r} does not exist; create it first")
        check_names(out, sources.names)
        clip = run.load()
        with Rows(out, clip.embed_dim) as rows:
            seconds = _index(report, rows, clip, sources, fast, batch_size)
            if not len(rows):
                raise InputError("none of the inputs could be used (see the messages above)")
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
        raise typer.BadParameter(
            f"--batch-size {batch_size} is not accepted: pass a whole number of at least 1, for example --batch-size 32"
        )


def time_line(seconds: Seconds, pictures: int) -> str:
    """Return one line that shows how the time was spent.

    >>> time_line(Seconds(reading=35, encoding=24, writing=2.04), 20_000)
    '20,000 images in 61 s (328/s): waiting for reading and resizing 35 s, encoding 24 s, writing 2.0 s'
    """
    parts = (seconds.reading, seconds.encoding, seconds.writing, seconds.whole)
    reading, encoding, writing, whole = map(_rounded, parts)
    rate = f"{pictures / max(seconds.whole, 1e-9):,.0f}/s"
    shares = f"waiting for reading and resizing {reading}, encoding {encoding}, writing {writing}"
    return f"{pictures:,} images in {whole} ({rate}): {shares}"


def advice(seconds: Seconds, inputs: IndexInputs, fast: bool) -> list[str]:
    """Return advice for a run that took long; empty if there is none."""
    if seconds.whole < LONG:
        return []
    if seconds.encoding >= seconds.reading:
        return ["encoding takes longest: use a smaller model, or --engine torch on a GPU"]
    if not fast and any(inputs.names[i].lower().endswith(JPEG) for i in inputs.pictures):
        return ["reading takes longest: --fast decodes large JPEG files at a fraction of their size"]
    return []


def _rounded(value: float) -> str:
    return f"{value:,.0f} s" if value >= 10 else f"{value:.1f} s"


def _sorted(report: Report, inputs: list[str], kind: Kind, lines: list[str]) -> IndexInputs:
    """Sort inputs into images and texts. A directory is replaced by its images, unless everything is a text."""
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
        raise InputError("nothing to embed: the files of --lines contain no text; write one text per line")
    return sources


def _lines(report: Report, files: list[Path]) -> list[str]:
    """Return the lines that are not blank. A note counts the blank ones, which get no row."""
    texts: list[str] = []
    for path in files:
        lines = read_lines(path)
        texts += filter(None, lines)
        blank = [number for number, line in enumerate(lines, start=1) if not line]
        if blank:
            report.note(
                f"{str(path)!r}: {len(blank):,} of {len(lines):,} lines are blank and skipped (first: line {blank[0]})"
            )
    return texts
