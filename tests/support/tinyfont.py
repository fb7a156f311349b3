"""Write small real TrueType files: every character is a filled block, the missing glyph is a frame.

With them, tests know which face drew a character, also on machines without fonts.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

EM, SIDE = 1000, 16


def tiny_font(path: Path, chars: str, *, family: str = "Tiny", height: int = 700, blank: str = "") -> Path:
    """Write a font of `chars`, each a block of `height` thousandths of the size, and of `blank`, without an outline."""
    path.write_bytes(_file(_tables(chars, family, height, blank), 0))
    return path


def tiny_bitmap_font(path: Path, chars: str) -> Path:
    """Write a font with bitmaps of `SIDE` pixels instead of outlines: every glyph, also the missing one, is a block."""
    tables = _tables(chars, "Tiny", 700)
    del tables[b"glyf"], tables[b"loca"]
    last = len(set(chars))
    line = struct.pack(">bbB9x", SIDE, 0, SIDE)
    strike = struct.pack(">4I", 56, 28, 1, 0) + 2 * line + struct.pack(">HH4B", 0, last, SIDE, SIDE, 1, 1)
    glyph = struct.pack(">BBbbBbbB", SIDE, SIDE, 0, SIDE, SIDE, 0, 0, SIDE)
    index = struct.pack(">HHI", 0, last, 8) + struct.pack(">HHII", 2, 5, 4, SIDE * SIDE // 8) + glyph
    tables[b"EBLC"] = struct.pack(">II", 0x20000, 1) + strike + index
    tables[b"EBDT"] = struct.pack(">I", 0x20000) + b"\xff" * (SIDE * SIDE // 8) * (last + 1)
    path.write_bytes(_file(tables, 0))
    return path


def tiny_collection(path: Path, faces: Sequence[tuple[str, str, int]]) -> Path:
    """Write a font collection; each face is (family, chars, height)."""
    start = 12 + 4 * len(faces)
    offsets: list[int] = []
    body = b""
    for family, chars, height in faces:
        offsets.append(start + len(body))
        body += _file(_tables(chars, family, height), offsets[-1])
    path.write_bytes(struct.pack(f">4sII{len(faces)}I", b"ttcf", 0x10000, len(faces), *offsets) + body)
    return path


def _file(tables: dict[bytes, bytes], at: int) -> bytes:
    head = struct.pack(">IHHHH", 0x10000, len(tables), 0, 0, 0)
    place, rows, body = at + len(head) + 16 * len(tables), b"", b""
    for tag in sorted(tables):
        data = tables[tag]
        rows += struct.pack(">4sIII", tag, 0, place + len(body), len(data))
        body += data + b"\0" * (-len(data) % 4)
    return head + rows + body


def _tables(chars: str, family: str, height: int, blank: str = "") -> dict[bytes, bytes]:
    codes = sorted({ord(char) for char in chars + blank})
    count = len(codes) + 1
    frame = _glyph([(50, 0, 950, 900), (150, 100, 850, 800)])
    block = _glyph([(50, 0, 950, height)])
    glyphs = [frame, *(b"" if chr(code) in blank else block for code in codes)]
    loca = [sum(map(len, glyphs[:i])) for i in range(count + 1)]
    times = (0, 0, 0, 0)
    return {
        b"head": struct.pack(">IIIIHH4i4hHHhhh", 0x10000, 0, 0, 0x5F0F3CF5, 0, EM, *times, 0, 0, EM, EM, 0, 8, 2, 1, 0),
        b"hhea": struct.pack(">IhhhHhhhhhh4hhH", 0x10000, 900, -100, 0, EM, 0, 0, EM, 1, 0, 0, 0, 0, 0, 0, 0, count),
        b"maxp": struct.pack(">IH13H", 0x10000, count, 8, 2, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0),
        b"hmtx": struct.pack(">Hh", EM, 50) * count,
        b"loca": struct.pack(f">{count + 1}I", *loca),
        b"glyf": b"".join(glyphs),
        b"cmap": _cmap(codes),
        b"name": _names(family),
    }


def _glyph(boxes: list[tuple[int, int, int, int]]) -> bytes:
    """Return a glyph of rectangles; the second one has the opposite direction, so it is a hole."""
    points: list[tuple[int, int]] = []
    for i, (left, bottom, right, top) in enumerate(boxes):
        corners = [(left, bottom), (left, top), (right, top), (right, bottom)]
        points += corners if i == 0 else corners[::-1]
    ends = [4 * i + 3 for i in range(len(boxes))]
    data = struct.pack(f">5h{len(ends)}HH", len(boxes), 50, 0, 950, 900, *ends, 0) + b"\1" * len(points)
    for axis in (0, 1):
        values = [point[axis] for point in points]
        data += struct.pack(f">{len(values)}h", *(b - a for a, b in zip([0, *values], values, strict=False)))
    return data + b"\0" * (-len(data) % 4)


def _cmap(codes: list[int]) -> bytes:
    rows = b"".join(struct.pack(">III", code, code, i) for i, code in enumerate(codes, start=1))
    table = struct.pack(">HHIII", 12, 0, 16 + len(rows), 0, len(codes)) + rows
    return struct.pack(">HHHHI", 0, 1, 3, 10, 12) + table


def _names(family: str) -> bytes:
    texts = {1: family, 2: "Regular"}
    rows, body = b"", b""
    for name, text in texts.items():
        raw = text.encode("utf-16-be")
        rows += struct.pack(">6H", 3, 1, 0x0409, name, len(raw), len(body))
        body += raw
    return struct.pack(">HHH", 0, len(texts), 6 + len(rows)) + rows + body
