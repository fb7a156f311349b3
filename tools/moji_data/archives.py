"""Build the files that are committed and shipped: an archive of images per shipped design, and a table of captions.

The same input gives the same bytes: archive members are sorted, not compressed, and have one fixed date; the captions
are plain JSON, one concept per line. libwebp writes the WebP bytes, so another version of Pillow may give others.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tools.moji_data.captions import LANGUAGES, Captions
from tools.moji_data.concepts import Emoji, split
from tools.moji_data.designs import Design
from tools.moji_data.packages import ROOT
from tools.moji_data.render import Rgba, on_white

FOLDER = ROOT / "src" / "cjkclip" / "moji"
SIZE, QUALITY = 64, 75
BUDGET = 3_000_000  # bytes of all files together
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date in a zip


def webp(pixels: Rgba) -> bytes:
    """Return an image on white, as lossy WebP."""
    out = io.BytesIO()
    on_white(pixels).save(out, "WEBP", quality=QUALITY, method=6)
    return out.getvalue()


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return a zip of these files; the same files give the same bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            member = zipfile.ZipInfo(name, EPOCH)
            member.create_system = 3  # the value of Unix, on every system
            member.external_attr = 0o644 << 16
            archive.writestr(member, data)
    return out.getvalue()


def captions_json(concepts: list[Emoji], captions: Captions) -> bytes:
    """Return the table of captions: languages, then a line per concept with a name and keywords in each language."""
    lines = [
        json.dumps(
            {
                "cp": e.cp,
                "char": e.char,
                "group": e.group,
                "split": split(e.fold),
                "names": [captions[lang][e.cp][0] for lang in LANGUAGES],
                "keywords": [captions[lang][e.cp][1] for lang in LANGUAGES],
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )
        for e in concepts
    ]
    body = ",\n".join(lines)
    return f'{{"languages":{json.dumps(LANGUAGES)},"concepts":[\n{body}\n]}}\n'.encode()


def build(concepts: list[Emoji], captions: Captions, drawn: Mapping[Design, Mapping[str, Rgba]]) -> dict[Path, bytes]:
    """Return every file to ship as {path: bytes}. `drawn` contains the shipped designs at `SIZE`.

    Raises ValueError for a design that may not be shipped, or files above the size budget.
    """
    files = {FOLDER / "captions.json": captions_json(concepts, captions)}
    for design, pictures in drawn.items():
        if not design.shipped:
            raise ValueError(f"{design.name} may not be shipped; only designs with shipped=True may")
        files[FOLDER / f"{design.name}.zip"] = pack({f"{e.cp}.webp": webp(pictures[e.cp]) for e in concepts})
    total = sum(map(len, files.values()))
    if total > BUDGET:
        raise ValueError(f"the shipped files have {total} bytes, the limit is {BUDGET}: reduce QUALITY")
    return files
