"""Write texts on the sheet: in runs of one face each, shortened or broken to fit a width in pixels."""

import unicodedata
from bisect import bisect_right

from PIL import Image, ImageDraw

from cjkclip.gallery.sheet.fonts import Fonts, Run, open_face

_STRAIGHT = str.maketrans("‘’“”", "''\"\"")  # curly quotes are as wide as a Chinese character in Chinese fonts


class Pen:
    """Writes on one image, and collects the texts that no font can draw."""

    def __init__(self, image: Image.Image, fonts: Fonts) -> None:
        self.image, self.fonts, self.draw = image, fonts, ImageDraw.Draw(image)
        self.left_out: dict[str, None] = {}

    def choose(self, text: str, plain: str, language: str) -> str:
        """Return `text` if it can be drawn, else `plain`, else nothing."""
        text = unicodedata.normalize("NFC", text)[:300]  # a card has no space for more
        if language == "en":
            text = text.translate(_STRAIGHT)
        if self.fonts.runs(text, language) is not None:
            return text
        self.left_out[text] = None
        plain = plain.translate(_STRAIGHT)
        return plain if self.fonts.runs(plain, "en") is not None else ""

    def width(self, text: str, size: int, language: str) -> float | int:
        """Return the width of a text in pixels."""
        return sum(open_face(face, size).getlength(part) for part, face in self._runs(text, language))

    def write(self, at: tuple[float | int, int], text: str, size: int, language: str, colour: str) -> None:
        """Write on the baseline that starts at `at`; all faces of a text share it."""
        x, y = at
        for part, face in self._runs(text, language):
            font = open_face(face, size)
            self.draw.text((x, y), part, fill=colour, font=font, anchor="ls")
            x += font.getlength(part)

    def shorten(self, text: str, size: int, language: str, width: float | int) -> str:
        """Return `text`, or as much of its beginning as fits before an ellipsis."""
        if self.width(text, size, language) <= width:
            return text
        chinese_or_japanese = language in {"zh", "zh-Hant", "ja"} and self.fonts.runs("…", language)
        dots = "…" if chinese_or_japanese else "..."
        return text[: self._fitting(text, size, language, width - self.width(dots, size, language))].rstrip() + dots

    def wrap(self, text: str, size: int, language: str, width: int) -> list[str]:
        """Return `text` on one or two lines: broken at a space if possible, the second line shortened."""
        if self.width(text, size, language) <= width:
            return [text]
        fits = max(1, self._fitting(text, size, language, width))
        space = text.rfind(" ", 0, fits + 1)
        cut = space if space > 0 else fits
        return [text[:cut].rstrip(), self.shorten(text[cut:].lstrip(), size, language, width)]

    def _fitting(self, text: str, size: int, language: str, width: float | int) -> int:
        """Return how many characters of the beginning fit."""
        lengths = range(1, len(text) + 1)
        return bisect_right(lengths, width, key=lambda n: self.width(text[:n], size, language))

    def _runs(self, text: str, language: str) -> list[Run]:
        return self.fonts.runs(text, language) or []
