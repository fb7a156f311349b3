"""The seven emoji designs: the icon of each emoji, and its SVG text.

The packages of Noto, Fluent flat and Twemoji list the emoji of each icon (`chars.json`). Fluent colour has the icon
names of Fluent flat. For the other three designs `names` finds the emoji.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tools.moji_data import packages as npm
from tools.moji_data.concepts import Emoji, plain
from tools.moji_data.names import NameList, bare, match, name_lists
from tools.moji_data.packages import Package

XMLNS = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


@dataclass(frozen=True, kw_only=True)
class Design:
    """One set of icons. `use` is its permitted use; Twemoji is for evaluation only."""

    name: str
    package: Package
    use: str  # "train" | "evaluate"
    shipped: bool = False
    chars: Package | None = None  # the package with chars.json; None: icons are found by name


DESIGNS = (
    Design(name="noto", package=npm.NOTO, chars=npm.NOTO, use="train", shipped=True),
    Design(name="fluent", package=npm.FLUENT_FLAT, chars=npm.FLUENT_FLAT, use="train", shipped=True),
    Design(name="fluent-colour", package=npm.FLUENT, chars=npm.FLUENT_FLAT, use="train"),
    Design(name="noto-v1", package=npm.NOTO_V1, use="train"),
    Design(name="emojione", package=npm.EMOJIONE, use="train"),
    Design(name="fxemoji", package=npm.FXEMOJI, use="train"),
    Design(name="twemoji", package=npm.TWEMOJI, chars=npm.TWEMOJI, use="evaluate"),
)
BY_NAME = {design.name: design for design in DESIGNS}


def read_icons(design: Design) -> Any:
    """Return the package's icons.json."""
    return design.package.read("icons.json")


def icons_by_name(emoji: list[Emoji], english: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return {code points: icon name} for each design, with variants, in any order."""
    all_points = {e.cp for e in emoji}
    sources = [(read_icons(d), d.package.read("chars.json")) for d in DESIGNS if d.chars is d.package]
    lists = name_lists(emoji, english, sources)
    icons_of: dict[str, dict[str, str]] = {}
    for design in DESIGNS:
        icons = read_icons(design)
        table = (
            match(design.name, icons, lists) if design.chars is None else _listed_icons(design.chars, icons, lists[0])
        )
        icons_of[design.name] = {cp: icon for cp, icon in table.items() if cp in all_points}
    return icons_of


def _listed_icons(chars: Package, icons: Any, today: NameList) -> dict[str, str]:
    """Return the icons in chars.json, and by name the mirrored aliases that it lacks."""
    table = {plain(cp): icon for cp, icon in chars.read("chars.json").items()}
    for alias, to in icons.get("aliases", {}).items():
        cp = today.get(bare(alias))
        if "hFlip" in to and cp is not None:
            table.setdefault(cp, alias)
    return table


def svg(icons: Any, name: str) -> str:
    """Return an icon as a square SVG; an icon that is not square is centred.

    `name` is an icon, or an alias, which may mirror its icon. Raises KeyError for any other name.
    """
    alias = icons.get("aliases", {}).get(name, {})
    icon = icons["icons"][alias.get("parent", name)]
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    left, top = icon.get("left", 0), icon.get("top", 0)
    body = icon["body"]
    if alias.keys() - {"parent", "hFlip"}:
        raise ValueError(f"icon alias {name!r} has {sorted(alias)}; only parent and hFlip are supported")
    if alias.get("hFlip"):
        body = f'<g transform="translate({2 * left + width} 0) scale(-1 1)">{body}</g>'
    side = max(width, height)
    box = f"{left - (side - width) / 2:g} {top - (side - height) / 2:g} {side:g} {side:g}"
    return f'<svg {XMLNS} viewBox="{box}">{body}</svg>'
