"""Write search results as a contact sheet. If no font has the characters, a note tells which package to install."""

import io
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from PIL import Image

from cjkclip.answers.records import SearchResult
from cjkclip.cli.report import Report
from cjkclip.cli.streams import safe
from cjkclip.errors import ImageError, InputError
from cjkclip.gallery.sheet import LANGUAGES, PICTURE, TALLEST, SheetImage, SheetRow, draw_sheet
from cjkclip.gallery.sheet.fonts import ADVICE, find_fonts
from cjkclip.image.picture import decode, named

FORMATS = {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG", ".jpeg": "JPEG"}
LIMITS = {"WEBP": 16_383}  # pixels per side, for formats that allow less than a sheet may need


def check_sheet(out: Path) -> None:
    """Raise InputError early if a sheet cannot be written to `out`."""
    if out.suffix.lower() not in FORMATS:
        raise InputError(f"--sheet {str(out)!r} must end in .png, .webp or .jpg")
    if not out.parent.is_dir():
        raise InputError(f"--sheet {str(out)!r}: the directory {str(out.parent)!r} does not exist; create it first")


def write_sheet(
    report: Report,
    out: Path,
    results: Sequence[SearchResult],
    places: list[list[int]],
    pictures: Sequence[bytes],
) -> None:
    """Draw the results and write the file. `places`: per result the index of each hit in the bundled `pictures`.

    Raises InputError.
    """
    rows = [_row(report, result, places[i], pictures, number=i + 1) for i, result in enumerate(results)]
    kind = FORMATS[out.suffix.lower()]
    sheet = draw_sheet(rows, find_fonts(), LIMITS.get(kind, TALLEST))
    buffer = BytesIO()  # complete before the file is opened
    try:
        sheet.image.save(buffer, kind)
        out.write_bytes(buffer.getbuffer())
    except OSError as error:
        raise InputError(f"{str(out)!r} cannot be written: {error.strerror or error}") from error
    if sheet.left_out:
        report.note(f"{len(sheet.left_out)} texts are missing on the sheet (first: {sheet.left_out[0]!r}): {ADVICE}")
    report.show(f"contact sheet written to {safe(str(out))}")


def _row(
    report: Report,
    result: SearchResult,
    places: list[int],
    pictures: Sequence[bytes],
    *,
    number: int,
) -> SheetRow:
    images = [
        SheetImage(
            picture=_open(report, hit["path"]) if "path" in hit else Image.open(io.BytesIO(pictures[place])),
            name=hit["name"],
            score=hit["score"],
            plain="" if "path" in hit else hit["names"]["en"],
        )
        for hit, place in zip(result["hits"], places, strict=True)
    ]
    language = result["language"]
    is_picture = result["kind"] == "picture"
    name = Path(result["query"]).name if is_picture else result["query"]
    return SheetRow(
        query=safe(name),
        language=language,
        found=images,
        picture=_open(report, result["query"]) if is_picture else None,
        plain=f"query {number}, in {LANGUAGES[language]}",
    )


def _open(report: Report, path: str) -> Image.Image:
    """Open an image at the size of a card; an empty card if the file disappeared after it was encoded."""
    try:
        with named(path):
            image = decode(path, False, 2 * PICTURE)
            image.thumbnail((PICTURE, PICTURE), Image.Resampling.LANCZOS)
            return image
    except ImageError as error:
        report.problem(path, error)
        return Image.new("RGB", (1, 1), "white")
