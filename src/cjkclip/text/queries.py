"""Queries to the bundled model, brought nearer to the captions that it was trained on: names and keywords of emoji.

A caption stays as it is. Another text loses marks that carry no meaning. An emoji becomes its English name, unless its
name stands beside it. If the text is then a caption up to marks, spaces, an article, plural or the kind of kana, it
becomes that caption; else plurals that no caption uses become the singulars that captions use.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import cache

from cjkclip import moji
from cjkclip.text.clean import clean

_INVISIBLE = re.compile("[\\u00ad\\u200b-\\u200f\\u202a-\\u202e\\u2060-\\u206f\\ufe00-\\ufe0f\\ufeff]")
TONE = "[\\ufe0f\\U0001f3fb-\\U0001f3ff]?"  # variation selector or skin tone, which the bundled images do not have
_TONES = re.compile(TONE)
_EMOJI_MARKS = re.compile(r"[^\w\s'-]+")
MOST_MARKS = 8  # at either end of a caption that has marks of its own
_ARTICLE = re.compile(r"(?:a|an|the) (?=\S)")
_KATAKANA = {code: code - 0x60 for code in range(0x30A1, 0x30F7)}  # to hiragana
_ENDINGS = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", ""), ("men", "man"))  # of English plurals


def normal(text: str) -> str:
    """Return a cleaned query.

    >>> [normal(query) for query in ("「パンダ」。", "ぱんだ", "The Pandas!", "🐼", "熊猫 🐼")]
    ['パンダ', 'パンダ', 'panda', 'panda', '熊猫']
    """
    text = clean(text)
    if text in _captions():
        return text
    text = _named(text)
    whole = _words(text) or text
    bare = _ARTICLE.sub("", whole, count=1)
    forms = (*_trimmed(text), whole, bare, _singular(whole), _singular(bare))
    return next((known for form in forms if (known := _known(form))), _singular(whole))


def _known(text: str) -> str | None:
    """Return the caption that a text is, or is up to marks, spaces and the kind of kana."""
    return text if text in _captions() else _folded().get(_fold(text))


def _named(text: str) -> str:
    """Replace each known emoji by its English name, or by nothing if the text has one of its captions."""
    words = f" {_EMOJI_MARKS.sub(' ', text)} "  # English captions count as whole words only
    table, pattern = _emoji()

    @cache
    def name(emoji: str) -> str:
        english, captions = table[emoji]
        beside = any((f" {each} " in words) if each.isascii() else (each in text) for each in captions)
        return " " if beside else f" {english} "

    text = pattern.sub(lambda match: name(_TONES.sub("", match[0])), text)
    return _INVISIBLE.sub("", text)


def _trimmed(text: str) -> Iterator[str]:
    """Yield captions between marks at the ends, the longest first."""
    first = next((i for i, c in enumerate(text) if not _is_edge(c)), 0)
    last = next((i for i in range(len(text), 0, -1) if not _is_edge(text[i - 1])), 0)
    cuts = [
        text[start:end]
        for start in range(first + 1)[:MOST_MARKS]
        for end in range(len(text), last - 1, -1)[:MOST_MARKS]
    ]
    yield from sorted(filter(_captions().__contains__, cuts), key=len, reverse=True)


def _is_edge(c: str) -> bool:
    return c == " " or _is_mark(c)


def _words(text: str) -> str:
    """Return the text without punctuation and symbols; those between two letters or digits stay."""
    marks = "".join(" " if c == "_" or (_is_mark(c) and not _is_inside(text, i)) else c for i, c in enumerate(text))
    return " ".join(marks.split())


def _is_mark(c: str) -> bool:
    return unicodedata.category(c)[0] in "PS" and c not in "ー゛゜〜"


def _is_inside(text: str, at: int) -> bool:
    """Whether a character stands between two letters or digits, as in rock'n'roll and 3.5."""
    sides = text[max(0, at - 1) : at], text[at + 1 : at + 2]
    return text[at] in "'’.-&/+" and all(side.isalnum() and side.isascii() for side in sides)


def _singular(text: str) -> str:
    """Return the text with English plurals that captions do not use replaced by singulars that they use."""
    used = _vocabulary()
    return " ".join(
        word if word in used else next(filter(used.__contains__, _stems(word)), word) for word in text.split(" ")
    )


def _stems(word: str) -> list[str]:
    return [word.removesuffix(end) + new for end, new in _ENDINGS if word.endswith(end) and word.isascii()]


def _fold(text: str) -> str:
    """Return what a query and a caption have in common: letters and digits, with hiragana for katakana."""
    composed = unicodedata.normalize("NFKC", text).lower().translate(_KATAKANA)
    return "".join(c for c in composed if c.isalnum() or c == "ー")


@cache
def _captions() -> frozenset[str]:
    """Every name and keyword, cleaned."""
    return frozenset(clean(caption) for concept in moji.concepts() for caption in _captions_of(concept))


def _captions_of(concept: moji.Concept) -> list[str]:
    return [c for language in moji.LANGUAGES for c in (concept.names[language], *concept.keywords[language])]


@cache
def _folded() -> dict[str, str]:
    """The caption of each folded form that no other caption has."""
    table: dict[str, str] = {}
    double = set[str]()
    for caption in _captions():
        key = _fold(caption)
        double |= {key} if key in table else set()
        table[key] = caption
    return {key: caption for key, caption in table.items() if key and key not in double}


@cache
def _vocabulary() -> frozenset[str]:
    """The words of English captions."""
    return frozenset(word for caption in _captions() if caption.isascii() for word in caption.split(" "))


@cache
def _emoji() -> tuple[dict[str, tuple[str, frozenset[str]]], re.Pattern[str]]:
    """The English name and all captions of each emoji, and a pattern that finds emoji, the longest first."""
    names = {
        _TONES.sub("", clean(concept.char)): (clean(concept.names["en"]), frozenset(map(clean, _captions_of(concept))))
        for concept in moji.concepts()
    }
    spelled = sorted(names, key=len, reverse=True)
    first = "".join(sorted({re.escape(chars[0]) for chars in spelled}))  # most characters begin no emoji
    forms = "|".join("".join(re.escape(char) + TONE for char in chars) for chars in spelled)
    return names, re.compile(f"(?=[{first}])(?:{forms})")
