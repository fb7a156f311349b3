"""Draw the contact sheet: each query with its best images, their names and scores, in one image.

Sizes are pixels. Text is drawn with faces that have every one of its characters; if no font has them, the
English name is drawn instead, or nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from cjkclip.errors import InputError
from cjkclip.gallery.sheet.fonts import Fonts
from cjkclip.gallery.sheet.pen import Pen

MARGIN, GAP, CARD, PICTURE, COLUMNS, LEAST = 48, 18, 188, 128, 6, 2  # LEAST: columns, for the width of a query
CARD_HEIGHT, HEADING, MOST_PIXELS, TALLEST = 242, 68, 150_000_000, 60_000
PAPER, WHITE, EDGE, BEST = "#f3f4f6", "#ffffff", "#e1e4e8", "#3b6fd6"
INK, GREY = "#1c2128", "#69717c"
LANGUAGES = {
    "zh": "Simplified Chinese",
    "zh-Hant": "Traditional Chinese",
    "ja": "Japanese",
    "ko": "Korean",
    "en": "English",
}


@dataclass(frozen=True, kw_only=True)
class SheetImage:
    """An image on the sheet. `plain` is drawn if no font has the characters of `name`."""

    picture: Image.Image
    name: str
    score: float
    plain: str = ""


@dataclass(frozen=True, kw_only=True)
class SheetRow:
    """A query and its images, best first. `picture`: the query itself if it is an image, which `query` names."""

    query: str
    language: str
    found: Sequence[SheetImage]
    picture: Image.Image | None = None
    plain: str = ""


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """The drawn sheet, and the texts that no font could draw."""

    image: Image.Image
    left_out: tuple[str, ...]


def draw_sheet(rows: Sequence[SheetRow], fonts: Fonts, tallest: int = TALLEST) -> Sheet:
    """Draw the sheet, at most `tallest` pixels high. Raises InputError if it would be empty or too tall."""
    if not rows or not any(row.found for row in rows):
        raise InputError("the sheet is empty; expected a query with a result: search a gallery that is not empty")
    columns = min(COLUMNS, max(len(row.found) for row in rows))
    wide = max(columns, LEAST)
    width = 2 * MARGIN + wide * CARD + (wide - 1) * GAP
    height = MARGIN + sum(_height(row, columns) for row in rows)
    if width * height > MOST_PIXELS or height > tallest:
        other = ", or write .png, which may be taller" if tallest < TALLEST else ""
        raise InputError(
            f"the sheet would be {width} x {height} pixels; expected a height of up to {tallest}: "
            f"use fewer queries, or a smaller k{other}"
        )
    image = Image.new("RGB", (width, height), PAPER)
    pen, y = Pen(image, fonts), MARGIN
    for row in rows:
        _heading(pen, row, y, width - 2 * MARGIN)
        for i, found in enumerate(row.found):
            x = MARGIN + i % columns * (CARD + GAP)
            _card(pen, found, (x, y + HEADING + i // columns * (CARD_HEIGHT + GAP)), row.language, best=i == 0)
        y += _height(row, columns)
    return Sheet(image=image, left_out=tuple(pen.left_out))


def _height(row: SheetRow, columns: int) -> int:
    return HEADING + -(-len(row.found) // columns) * (CARD_HEIGHT + GAP) + 22


def _heading(pen: Pen, row: SheetRow, y: int, whole: int) -> None:
    x, width = MARGIN, whole
    if row.picture is not None:
        pen.image.paste(_framed(row.picture, 56), (x, y - 4))
        x, width = x + 72, width - 72
    spoken = LANGUAGES.get(row.language, "") if row.picture is None else ""
    text = pen.choose(row.query, row.plain, row.language)
    tag = pen.width(spoken, 15, "en")
    room = width - tag - 24
    if pen.width(text, 28, row.language) > room:  # the query is more important than the name of its language
        spoken, room = "", width
    pen.write((MARGIN + whole - tag, y + 36), spoken, 15, "en", GREY)
    pen.write((x, y + 36), pen.shorten(text, 28, row.language, room), 28, row.language, INK)


def _card(pen: Pen, found: SheetImage, at: tuple[int, int], language: str, *, best: bool) -> None:
    x, y = at
    pen.image.paste(_rounded(CARD, CARD_HEIGHT, 18, best=best), at)
    side = (CARD - PICTURE) // 2
    pen.image.paste(_framed(found.picture, PICTURE), (x + side, y + side))
    name, inner = pen.choose(found.name, found.plain, language), CARD - 24
    lines = pen.wrap(name, 17, language, inner)
    for i, line in enumerate(lines):
        left = x + (CARD - pen.width(line, 17, language)) / 2
        pen.write((left, y + 176 + 22 * i + 11 * (2 - len(lines))), line, 17, language, INK)
    score = f"{found.score:.3f}"
    pen.write((x + (CARD - pen.width(score, 14, "en")) / 2, y + 227), score, 14, "en", GREY)


def _rounded(width: int, height: int, radius: int, *, best: bool) -> Image.Image:
    """Return a white card with round corners, drawn four times too large so that its edge is smooth."""
    big = Image.new("RGB", (4 * width, 4 * height), PAPER)
    edge, line = (BEST, 12) if best else (EDGE, 6)
    box = (0, 0, 4 * width - 1, 4 * height - 1)
    ImageDraw.Draw(big).rounded_rectangle(box, 4 * radius, fill=WHITE, outline=edge, width=line)
    return big.resize((width, height), Image.Resampling.BOX)


def _framed(picture: Image.Image, side: int) -> Image.Image:
    """Return the whole image, centred on a white square."""
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    small = picture.convert("RGBA").resize(size, Image.Resampling.LANCZOS)
    square = Image.new("RGB", (side, side), WHITE)
    square.paste(small, ((side - size[0]) // 2, (side - size[1]) // 2), small)
    return square
