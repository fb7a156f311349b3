"""The files that are committed and shipped: one archive of pictures per shipped design, one table of words.

Same input, same bytes: members are sorted, stored without compression and carry one fixed date; the words are
plain JSON, one concept per line. The WebP bytes are libwebp's, so another Pillow may give others. Refuses: a
design that may not be shipped, files over the size budget.
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
BUDGET = 3_000_000  # bytes, all files together
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip can carry


def webp(pixels: Rgba) -> bytes:
    """A picture on white, as lossy WebP."""
    out = io.BytesIO()
    on_white(pixels).save(out, "WEBP", quality=QUALITY, method=6)
    return out.getvalue()


def pack(drawn: Mapping[str, bytes]) -> bytes:
    """An archive of files, byte for byte the same for the same files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(drawn.items()):
            member = zipfile.ZipInfo(name, EPOCH)
            member.create_system = 3  # what Unix writes, wherever this runs
            member.external_attr = 0o644 << 16
            archive.writestr(member, data)
    return out.getvalue()


def words(concepts: list[Emoji], captions: Captions) -> bytes:
    """The table of words: languages, then one concept per line with a name and keywords for each language."""
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
    """Every file to ship: path -> bytes. `drawn` holds the shipped designs at `SIZE`."""
    files = {FOLDER / "captions.json": words(concepts, captions)}
    for design, pictures in drawn.items():
        if not design.shipped:
            raise ValueError(f"{design.name} may not be shipped")
        files[FOLDER / f"{design.name}.zip"] = pack({f"{e.cp}.webp": webp(pictures[e.cp]) for e in concepts})
    total = sum(map(len, files.values()))
    if total > BUDGET:
        raise ValueError(f"the shipped files come to {total} bytes, the budget is {BUDGET}")
    return files
