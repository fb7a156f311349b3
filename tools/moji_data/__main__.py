"""Build moji's data.

    python -m tools.moji_data build            write src/cjkclip/moji/{noto,fluent}.zip and captions.json
    python -m tools.moji_data build --check    build again and compare with the committed files; write nothing
    python -m tools.moji_data render 64 96     write all seven designs to .cache/moji/render/<design>-<size>.npz,
                                               and all names and keywords to .cache/moji/concepts.json
    python -m tools.moji_data sheet fxemoji    draw contact sheets of a design beside Noto into .cache/moji/sheets/

`pip install 'cjkclip[moji]'` installs the renderer. `npm` downloads the packages, and their sha512 is checked.
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
    """All data that is read before rendering."""

    emoji: list[Emoji]
    captions: Captions
    icons_of: dict[str, dict[str, str]]  # design -> code points -> icon
    concepts: list[Emoji]  # the 1,379 concepts of the splits


def read() -> Source:
    """Download, check and read the packages."""
    for package in packages.PACKAGES:
        packages.fetch(package)
    emoji = read_emoji()
    captions = read_captions(emoji)
    icons_of = icons_by_name(emoji, {cp: name for cp, (name, _) in captions["en"].items()})
    concepts = in_splits(emoji, icons_of["noto"], icons_of["twemoji"], icons_of["fluent"])
    return Source(emoji=emoji, captions=captions, icons_of=icons_of, concepts=concepts)


def build(check: bool) -> int:
    """Build the shipped files, and write them or compare them with the committed ones."""
    source = read()
    concepts = {e.cp for e in source.concepts}
    images = {
        design: render_design(
            design,
            {cp: icon for cp, icon in source.icons_of[design.name].items() if cp in concepts},
            archives.SIZE,
        )
        for design in DESIGNS
        if design.shipped
    }
    files = archives.build(source.concepts, source.captions, images)
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
        print(f"different from this build (Pillow {PIL.__version__}, libwebp {libwebp}): {', '.join(differ)}")
        return 1
    print(f"{', '.join(sorted(path.name for path in files))}: byte for byte the same as this build")
    return 0


def render(sizes: list[int]) -> int:
    """Store all seven designs, concepts and variants, at each size."""
    source = read()
    write_table(source.emoji, source.captions, source.icons_of, {e.cp for e in source.concepts})
    for size in sizes:
        for design in DESIGNS:
            store(design.name, size, render_design(design, source.icons_of[design.name], size))
            print(cache_file(design.name, size))
    return 0


def sheet(design: str) -> int:
    """Draw a rendered design beside Noto; run `render` with size 64 first."""
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
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.moji_data", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build").add_argument("--check", action="store_true")
    commands.add_parser("render").add_argument("sizes", type=int, nargs="+")
    commands.add_parser("sheet").add_argument("design", choices=sorted(BY_NAME))
    args = parser.parse_args()
    if args.command == "build":
        return build(args.check)
    return render(args.sizes) if args.command == "render" else sheet(args.design)


if __name__ == "__main__":
    sys.exit(main())
