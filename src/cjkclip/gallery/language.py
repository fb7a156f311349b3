"""The language of a short text, from its characters and the words of the bundled images."""

import re
from functools import cache

from cjkclip import moji


def guess_language(text: str) -> str:
    """Guess the language of a short text: kana are Japanese, Hangul is Korean, no such character is English.

    Han characters alone may be three languages: the one whose bundled words use most of the characters wins, then
    the one that has the word, then Simplified Chinese.

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
    """Count the characters that a language's bundled words use, and whether the text is one of the words."""
    return sum(char in _letters(language) for char in han), text in _words(language)


@cache
def _words(language: str) -> frozenset[str]:
    return frozenset(
        word for concept in moji.concepts() for word in (concept.names[language], *concept.keywords[language])
    )


@cache
def _letters(language: str) -> frozenset[str]:
    return frozenset(char for word in _words(language) for char in word)
