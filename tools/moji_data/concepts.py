"""Decide which emoji are concepts, which are variants of a concept, and the split of each.

1,914 emoji without skin tones -> 1,400 core concepts -> 1,379 that Noto, Twemoji and Fluent all contain. Other counts
raise ValueError, because another input or rule would give other splits.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tools.moji_data.packages import EMOJI

MAN, WOMAN, ADULT = "1f468", "1f469", "1f9d1"
PEOPLE = {MAN, WOMAN, ADULT, "1f466", "1f467", "1f9d2"}  # and boy, girl, child
SIGNS = {"2640", "2642"}  # the female and the male sign, which mark a gendered variant
HAIR = {"1f9b0", "1f9b1", "1f9b2", "1f9b3"}
KEYCAP, RIGHT, JOINER = "20e3", "27a1", "200d"
CLOCKS = {f"{point:x}" for point in range(0x1F550, 0x1F568)}
HEART, KISS = "2764", "1f48b"
EMOJI_COUNT, CORE_COUNT = 1914, 1400
SPLIT_COUNTS = {"test": 123, "valid": 135, "train": 1121}


@dataclass(frozen=True, kw_only=True)
class Emoji:
    """One emoji: `cp` is its code points (see `code_points`), `base` the concept that determines its split."""

    cp: str
    char: str
    name: str  # unicode-emoji-json's English name
    group: str
    core: bool
    base: str

    @property
    def fold(self) -> int:
        """The fold: 0 is test, 1 validation, 2-9 train."""
        return fold(self.base)


def code_points(char: str) -> str:
    """Return the id of an emoji: lower-case hexadecimal code points joined by "-", without U+FE0F.

    >>> code_points("❤️‍🔥"), code_points("©️")
    ('2764-200d-1f525', 'a9')
    """
    return "-".join(f"{ord(c):x}" for c in char if c != "\ufe0f")


def plain(cp: str) -> str:
    """Return that id for a spelling with fe0f, capitals or leading zeros.

    >>> plain("00A9-FE0F")
    'a9'
    """
    return "-".join(part.lower().lstrip("0") for part in cp.split("-") if part.lower() != "fe0f")


def fold(cp: str) -> int:
    """Return the fold of a concept, 0 to 9, from a hash of its id.

    >>> fold("1f601"), fold("a9")
    (0, 3)
    """
    return int(hashlib.sha256(cp.encode()).hexdigest(), 16) % 10


def split(fold: int) -> str:
    """Return the split of a fold: 0 is test, 1 validation, the others train."""
    return {0: "test", 1: "valid"}.get(fold, "train")


def base(cp: str, group: str) -> str:
    """Return the concept of which `cp` is a variant, or `cp` itself if it is a concept.

    Flags and clock faces are not core concepts. The base of a flag that is derived from another is its first code
    point, the base of all clock faces is the first of them, and the base of keycaps is the keycap 10, which is core.

    >>> base("1f3c3-200d-2640-200d-27a1", "People & Body"), base("1f468-200d-1f33e", "People & Body")
    ('1f3c3', '1f9d1-200d-1f33e')
    """
    parts = cp.split("-")
    if group == "Flags":
        return cp if parts[0] not in ("1f3f3", "1f3f4") else parts[0]
    if cp in CLOCKS:
        return min(CLOCKS)
    if parts[-1] == KEYCAP:
        return "1f51f"
    if JOINER not in parts:
        return cp
    if sum(part in PEOPLE for part in parts) > 1:
        return _together(parts)
    links = [p for p in parts if p != JOINER and p not in SIGNS | HAIR | ({RIGHT} if parts[-1] == RIGHT else set())]
    if len(links) > 1 and links[0] in (MAN, WOMAN):
        links[0] = ADULT
    return f"-{JOINER}-".join(links)


def _together(parts: list[str]) -> str:
    """Return the concept of several people: kiss, couple with heart, holding hands, or family."""
    if KISS in parts:
        return "1f48f"
    if HEART in parts:
        return "1f491"
    return "1f46b" if "1f91d" in parts else "1f46a"


def read_emoji() -> list[Emoji]:
    """Return all 1,914 emoji, concepts and variants, in Unicode's order. Raises ValueError for other counts."""
    emoji: list[Emoji] = []
    for char, record in EMOJI.read("data-by-emoji.json").items():
        cp, group = code_points(char), record["group"]
        own = base(cp, group)
        core = own == cp and group != "Flags" and cp not in CLOCKS
        emoji.append(Emoji(cp=cp, char=char, name=record["name"], group=group, core=core, base=own))
    _check("emoji", len(emoji), EMOJI_COUNT)
    _check("core concepts", sum(e.core for e in emoji), CORE_COUNT)
    return emoji


def in_splits(emoji: Iterable[Emoji], *drawn: Iterable[str]) -> list[Emoji]:
    """Return the core concepts in all of `drawn`, each the code points of a design: 1,121 + 135 + 123."""
    designs = [set(design) for design in drawn]
    concepts = [e for e in emoji if e.core and all(e.cp in design for design in designs)]
    counts = Counter(split(e.fold) for e in concepts)
    for name, count in SPLIT_COUNTS.items():
        _check(f"{name} concepts", counts[name], count)
    return concepts


def _check(name: str, count: int, expected: int) -> None:
    if count != expected:
        raise ValueError(f"{name}: {count}, expected {expected} as in the published splits. Use the pinned packages")
