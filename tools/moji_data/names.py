"""Find the emoji of an icon by its name, for designs whose package does not list code points.

Names are compared without spaces, hyphens, case and accents. The lists of names are used in order of trust: current
CLDR names, then the names and aliases of designs that list code points, then Unicode's character names. A name with
several emoji in one list is not used from that list.

`by_eye.json` corrects each design where names are wrong or missing (icon -> code points, or null for an icon that must
not be used). Every entry was checked on the image: a revolver is not a water pistol, and Firefox OS's "dog" is the
dog's face.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tools.moji_data.concepts import Emoji, plain

NameList = dict[str, str]  # bare name -> code points

BY_EYE = Path(__file__).with_name("by_eye.json")


def bare(name: str) -> str:
    """Return the form of a name that is compared.

    >>> bare("Piñata"), bare("heavy-check-mark")
    ('pinata', 'heavycheckmark')
    """
    return re.sub("[^a-z0-9]", "", unicodedata.normalize("NFKD", name.lower().replace("&", "and")))


def name_lists(emoji: Iterable[Emoji], english: Mapping[str, str], sources: Iterable[Any]) -> list[NameList]:
    """Return the lists of names, most trusted first; `english` contains CLDR's names by code points.

    `sources` are the (icons.json, chars.json) of designs that list code points.
    """
    emoji = list(emoji)
    today = [(e.name, e.cp) for e in emoji] + [(name, cp) for cp, name in english.items()]
    designs: list[tuple[str, str]] = []
    for icons, chars in sources:
        cp_of = {icon: plain(cp) for cp, icon in chars.items()}
        designs += cp_of.items()
        aliases = icons.get("aliases", {}).items()
        designs += [(a, cp_of[to["parent"]]) for a, to in aliases if to["parent"] in cp_of and to.keys() == {"parent"}]
    unicode = [(unicodedata.name(e.char[0], ""), e.cp) for e in emoji if "-" not in e.cp]
    return [_unambiguous(pairs) for pairs in (today, designs, unicode)]


def _unambiguous(pairs: Iterable[tuple[str, str]]) -> NameList:
    meanings: dict[str, set[str]] = {}
    for name, cp in pairs:
        meanings.setdefault(bare(name), set()).add(cp)
    return {name: min(cps) for name, cps in meanings.items() if len(cps) == 1 and name}


def match(design: str, icons: Any, lists: list[NameList]) -> dict[str, str]:
    """Return {code points: icon} for every icon whose name or alias is that of an emoji."""
    by_eye: dict[str, str | None] = json.loads(BY_EYE.read_text())[design]
    unknown = by_eye.keys() - icons["icons"].keys()
    if unknown:
        raise ValueError(f"{BY_EYE.name}: {design} has no icons {sorted(unknown)}; remove these entries")
    own = [(icon, icon) for icon in icons["icons"]]
    aliases = [(to["parent"], alias) for alias, to in icons.get("aliases", {}).items()]
    icon_of = {cp: icon for icon, cp in by_eye.items() if cp is not None}
    used = set(by_eye)
    for pairs in (own, aliases):
        for names in lists:
            for icon, name in pairs:
                cp = names.get(bare(name))
                if cp is not None and cp not in icon_of and icon not in used:
                    icon_of[cp] = icon
                    used.add(icon)
    return icon_of
