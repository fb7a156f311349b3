"""Names and keywords of emoji in five languages, from Unicode's CLDR annotations."""

from typing import Any

from tools.moji_data.concepts import Emoji
from tools.moji_data.packages import ANNOTATIONS, DERIVED

LANGUAGES = ("en", "zh", "zh-Hant", "ja", "ko")
Annotations = list[dict[str, dict[str, list[str]]]]
Captions = dict[str, dict[str, tuple[str, tuple[str, ...]]]]  # language -> code points -> (name, keywords)


def read_captions(emoji: list[Emoji]) -> Captions:
    """Return names and keywords of all emoji in all five languages."""
    tables = {language: read_annotations(language) for language in LANGUAGES}
    return {lang: {e.cp: caption(e.char, table) for e in emoji} for lang, table in tables.items()}


def read_annotations(language: str) -> Annotations:
    """Return the tables in search order: single emoji, then sequences derived from them."""
    single: Any = ANNOTATIONS.read(f"annotations/{language}/annotations.json")
    derived: Any = DERIVED.read(f"annotationsDerived/{language}/annotations.json")
    return [single["annotations"]["annotations"], derived["annotationsDerived"]["annotations"]]


def caption(char: str, tables: Annotations) -> tuple[str, tuple[str, ...]]:
    """Return the name of an emoji and its other keywords, in CLDR's order. Raises KeyError if it has no name.

    Most of CLDR's keys omit U+FE0F, so both forms are looked up.
    """
    for table in tables:
        for key in (char.replace("\ufe0f", ""), char):
            if key in table:
                (name,) = table[key]["tts"]
                return name, tuple(dict.fromkeys(word for word in table[key]["default"] if word != name))
    raise KeyError(f"CLDR has no name for {char!r} ({'-'.join(f'{ord(c):x}' for c in char)})")
