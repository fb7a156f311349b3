"""The pictures in the package as a gallery that any loaded model can search.

Names are known in five languages; a query's language decides which are shown. Refuses nothing of its own.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from cjkclip import moji
from cjkclip.gallery.store import Gallery

if TYPE_CHECKING:
    from cjkclip.clip import Clip


@dataclass(frozen=True, kw_only=True)
class Bundled:
    """The gallery, and per picture what it shows and the picture itself as a WebP file."""

    gallery: Gallery  # named in English
    concepts: tuple[moji.Concept, ...]
    pictures: tuple[bytes, ...]


def bundled(
    clip: "Clip", design: str = "noto", *, progress: Callable[[int], None] | None = None, batch_size: int = 64
) -> Bundled:
    """Encode the bundled pictures of `design`, "noto" or "fluent". Raises InputError for another one."""
    shown = moji.gallery(design)
    concepts, pictures = tuple(concept for concept, _ in shown), tuple(picture for _, picture in shown)
    names = [concept.names["en"] for concept in concepts]
    gallery = Gallery.from_pictures(clip, pictures, names, progress=progress, batch_size=batch_size)
    return Bundled(gallery=gallery, concepts=concepts, pictures=pictures)


def guess_language(text: str) -> str:
    """The language of a short text, as far as its letters tell: kana are Japanese, Hangul is Korean.

    Han alone may be any of three: the one whose bundled words use most of the characters, then the one that has
    the word, then Simplified Chinese. What has none of these counts as English.

    >>> [guess_language(text) for text in ("ねこ", "고양이", "貓咪", "猫咪", "cat")]
    ['ja', 'ko', 'zh-Hant', 'zh', 'en']
    """
    if re.search("[\\u3041-\\u30fa\\u30fd-\\u30ff\\u31f0-\\u31ff\\uff66-\\uff9d]", text):
        return "ja"
    if re.search("[\\u1100-\\u11ff\\u3130-\\u318f\\ua960-\\ua97f\\uac00-\\ud7ff]", text):
        return "ko"
    han = re.findall("[\\u3400-\\u9fff\\uf900-\\ufaff\\U00020000-\\U0003ffff]", text)
    if not han:
        return "en"
    return max(("zh", "zh-Hant", "ja"), key=lambda language: _known(text, han, language))


def _known(text: str, han: list[str], language: str) -> tuple[int, bool]:
    """How many of the characters a language's bundled words use, and whether the text is one of the words."""
    return sum(char in _letters(language) for char in han), text in _words(language)


@cache
def _words(language: str) -> frozenset[str]:
    return frozenset(
        word for concept in moji.concepts() for word in (concept.names[language], *concept.keywords[language])
    )


@cache
def _letters(language: str) -> frozenset[str]:
    return frozenset(char for word in _words(language) for char in word)
