"""Build moji's data.

    python -m tools.moji_data build            write src/cjkclip/moji/{noto,fluent}.zip and captions.json
    python -m tools.moji_data build --check    build again and compare with what is committed; write nothing
    python -m tools.moji_data render 64 96     all seven designs into .cache/moji/render/<design>-<size>.npz,
                                               all names and keywords into .cache/moji/concepts.json
    python -m tools.moji_data sheet fxemoji    contact sheets beside Noto into .cache/moji/sheets/, to look at

`pip install 'cjkclip[moji]'` brings the renderer; `npm` fetches the packages, which are checked by sha512.
"""

import argparse
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

import PIL
from PIL import features
from tools.moji_data import archives, packages
from tools.moji_data.captions import Captions, read_captions
from tools.moji_data.concepts import Emoji, in_splits, read_emoji
from tools.moji_data.designs import BY_NAME, DESIGNS, icons_by_name
from tools.moji_data.render import cache_file, render_design, store, stored
from tools.moji_data.sheet import contact_sheet
from tools.moji_data.table import write_table

SHEET = 180  # emoji on one contact sheet


@dataclass(frozen=True, kw_only=True)
class Source:
    """All that is read before anything is drawn."""

    emoji: list[Emoji]
    captions: Captions
    icons_of: dict[str, dict[str, str]]  # design -> code points -> icon
    concepts: list[Emoji]  # the 1,379 of the splits


def read() -> Source:
    """Fetch, check and read the packages."""
    for package in packages.PACKAGES:
        packages.fetch(package)
    emoji = read_emoji()
    captions = read_captions(emoji)
    icons_of = icons_by_name(emoji, {cp: name for cp, (name, _) in captions["en"].items()})
    concepts = in_splits(emoji, icons_of["noto"], icons_of["twemoji"], icons_of["fluent"])
    return Source(emoji=emoji, captions=captions, icons_of=icons_of, concepts=concepts)


def build(check: bool) -> int:
    """Write the shipped files, or compare them with what a fresh build gives."""
    source = read()
    kept = {e.cp for e in source.concepts}
    drawn = {
        design: render_design(
            design,
            {cp: icon for cp, icon in source.icons_of[design.name].items() if cp in kept},
            archives.SIZE,
        )
        for design in DESIGNS
        if design.shipped
    }
    files = archives.build(source.concepts, source.captions, drawn)
    if check:
        return _compare(files)
    for path, data in files.items():
        path.write_bytes(data)
        print(f"{hashlib.sha256(data).hexdigest()}  {path.name}  {len(data):,} bytes")
    return 0


def _compare(files: dict[Path, bytes]) -> int:
    differ = [path.name for path, data in files.items() if not path.exists() or path.read_bytes() != data]
    if differ:
        libwebp = features.version("webp")
        print(f"not what this build gives (Pillow {PIL.__version__}, libwebp {libwebp}): {', '.join(differ)}")
        return 1
    print(f"{', '.join(sorted(path.name for path in files))}: byte for byte what this build gives")
    return 0


def render(sizes: list[int]) -> int:
    """Keep all seven designs, concepts and variants, at each size."""
    source = read()
    write_table(source.emoji, source.captions, source.icons_of, {e.cp for e in source.concepts})
    for size in sizes:
        for design in DESIGNS:
            store(design.name, size, render_design(design, source.icons_of[design.name], size))
            print(cache_file(design.name, size))
    return 0


def sheet(design: str) -> int:
    """Draw a rendered design (see `render`, size 64) beside Noto."""
    source = read()
    pictures = [stored(name, archives.SIZE) for name in ("noto", design)]
    labels = {cp: name for cp, (name, _) in source.captions["en"].items()}
    names = [e.cp for e in source.emoji if e.cp in pictures[1]]
    folder = packages.CACHE / "sheets"
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(names), SHEET):
        path = folder / f"{design}-{start // SHEET}.png"
        contact_sheet(names[start : start + SHEET], labels, pictures).save(path)
        print(path)
    return 0


def main() -> int:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(prog="python -m tools.moji_data", description="Build moji's data.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build").add_argument("--check", action="store_true")
    commands.add_parser("render").add_argument("sizes", type=int, nargs="+")
    commands.add_parser("sheet").add_argument("design", choices=sorted(BY_NAME))
    asked = parser.parse_args()
    if asked.command == "build":
        return build(asked.check)
    return render(asked.sizes) if asked.command == "render" else sheet(asked.design)


if __name__ == "__main__":
    sys.exit(main())
