"""From what a search found to a contact sheet in a file.

Refuses: a file whose ending is no picture's. Where no font has the characters, it says which package has one.
"""

import io
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from cjkclip.cli.screen import Report, safe
from cjkclip.errors import ImageError, InputError
from cjkclip.gallery.sheet import LANGUAGES, PICTURE, TALLEST, SheetImage, SheetRow, draw_sheet
from cjkclip.gallery.sheet.fonts import ADVICE, find_fonts
from cjkclip.image.picture import decode, named

FORMATS = {".png": "PNG", ".webp": "WEBP", ".jpg": "JPEG", ".jpeg": "JPEG"}
LIMITS = {"WEBP": 16_383}  # pixels on a side, where a format has less than a sheet may have


def check_sheet(out: Path) -> None:
    """Raise InputError if a sheet cannot be written there, before anything is computed."""
    if out.suffix.lower() not in FORMATS:
        raise InputError(f"--sheet {str(out)!r} must end in .png, .webp or .jpg")
    if not out.parent.is_dir():
        raise InputError(f"--sheet {str(out)!r}: there is no folder {str(out.parent)!r}, make it first")


def write_sheet(report: Report, out: Path, places: list[list[int]], pictures: Sequence[bytes] | None) -> None:
    """Draw the report's results. `places`: per result the index of each hit in `pictures`, if bundled.

    Raises InputError.
    """
    rows = [
        _row(report, result, places[i], pictures, number=i + 1) for i, result in enumerate(report.answer["results"])
    ]
    kind = FORMATS[out.suffix.lower()]
    sheet = draw_sheet(rows, find_fonts(), LIMITS.get(kind, TALLEST))
    drawn = BytesIO()  # whole before the file is touched
    try:
        sheet.image.save(drawn, kind)
        out.write_bytes(drawn.getbuffer())
    except OSError as error:
        raise InputError(f"{str(out)!r} cannot be written: {error.strerror or error}") from error
    report.answer["sheet"] = str(out)
    if sheet.left_out:
        report.note(f"{len(sheet.left_out)} texts are not on the sheet (first: {sheet.left_out[0]!r}): {ADVICE}")
    report.show(f"contact sheet written to {safe(str(out))}")


def _row(
    report: Report,
    result: dict[str, Any],
    places: list[int],
    pictures: Sequence[bytes] | None,
    *,
    number: int,
) -> SheetRow:
    found = [
        SheetImage(
            picture=_open(report, hit["path"]) if pictures is None else Image.open(io.BytesIO(pictures[place])),
            name=hit["name"],
            score=hit["score"],
            plain=hit.get("names", {}).get("en", ""),
        )
        for hit, place in zip(result["hits"], places, strict=True)
    ]
    language = result["language"]
    is_picture = result["kind"] == "picture"
    name = Path(result["query"]).name if is_picture else result["query"]
    return SheetRow(
        query=safe(name),
        language=language,
        found=found,
        picture=_open(report, result["query"]) if is_picture else None,
        plain=f"query {number}, in {LANGUAGES[language]}",
    )


def _open(report: Report, path: str) -> Image.Image:
    """The picture, as small as it is drawn; an empty card where it has gone since it was encoded."""
    try:
        with named(path):
            image = decode(path, False, 2 * PICTURE)
            image.thumbnail((PICTURE, PICTURE), Image.Resampling.LANCZOS)
            return image
    except ImageError as error:
        report.problem(path, error)
        return Image.new("RGB", (1, 1), "white")
