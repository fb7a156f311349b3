"""Write small real TrueType files: every character is a filled block, the missing glyph is a frame.

With them, tests know which face drew a character, also on machines without fonts.
"""

import struct
from collections.abc import Sequence
from pathlib import Path

EM = 1000


def tiny_font(path: Path, chars: str, *, family: str = "Tiny", height: int = 700, form: int = 12) -> Path:
    """Write a font of `chars`, each a block of `height` thousandths of the size. `form` of its cmap: 4, 40 or 12."""
    path.write_bytes(_file(_tables(chars, family, height, form), 0))
    return path


def tiny_collection(path: Path, faces: Sequence[tuple[str, str, int]]) -> Path:
    """Write a font collection; each face is (family, chars, height)."""
    start = 12 + 4 * len(faces)
    offsets: list[int] = []
    body = b""
    for family, chars, height in faces:
        offsets.append(start + len(body))
        body += _file(_tables(chars, family, height, 12), offsets[-1])
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


def _tables(chars: str, family: str, height: int, form: int) -> dict[bytes, bytes]:
    codes = sorted({ord(char) for char in chars})
    count = len(codes) + 1
    frame = _glyph([(50, 0, 950, 900), (150, 100, 850, 800)])
    block = _glyph([(50, 0, 950, height)])
    glyphs = [frame] + [block] * len(codes)
    loca = [sum(map(len, glyphs[:i])) for i in range(count + 1)]
    times = (0, 0, 0, 0)
    return {
        b"head": struct.pack(">IIIIHH4i4hHHhhh", 0x10000, 0, 0, 0x5F0F3CF5, 0, EM, *times, 0, 0, EM, EM, 0, 8, 2, 1, 0),
        b"hhea": struct.pack(">IhhhHhhhhhh4hhH", 0x10000, 900, -100, 0, EM, 0, 0, EM, 1, 0, 0, 0, 0, 0, 0, 0, count),
        b"maxp": struct.pack(">IH13H", 0x10000, count, 8, 2, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0),
        b"hmtx": struct.pack(">Hh", EM, 50) * count,
        b"loca": struct.pack(f">{count + 1}I", *loca),
        b"glyf": b"".join(glyphs),
        b"cmap": _cmap(codes, form),
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


def _cmap(codes: list[int], form: int) -> bytes:
    if form == 12:
        rows = b"".join(struct.pack(">III", code, code, i) for i, code in enumerate(codes, start=1))
        table = struct.pack(">HHIII", 12, 0, 16 + len(rows), 0, len(codes)) + rows
        return struct.pack(">HHHHI", 0, 1, 3, 10, 12) + table
    if form == 40:  # format 4 with one segment, whose glyphs are in a list; 0 for a missing character
        run = range(codes[0], codes[-1] + 1)
        listed = [codes.index(code) + 1 if code in codes else 0 for code in run]
        segments = struct.pack(">HHHHHhhHH", codes[-1], 0xFFFF, 0, codes[0], 0xFFFF, 0, 1, 4, 0)
        table = struct.pack(">7H", 4, 14 + len(segments) + 2 * len(listed), 0, 4, 0, 0, 0) + segments
        return struct.pack(">HHHHI", 0, 1, 3, 1, 12) + table + struct.pack(f">{len(listed)}H", *listed)
    ends, count = [*codes, 0xFFFF], len(codes) + 1
    deltas = [*((i - code) & 0xFFFF for i, code in enumerate(codes, start=1)), 1]
    table = struct.pack(">6H", 2 * count, 0, 0, 0, 0, 0)[:8]
    body = struct.pack(f">{count}HH{count}H{count}H{count}H", *ends, 0, *ends, *deltas, *([0] * count))
    table = struct.pack(">HHH", 4, 6 + len(table) + len(body), 0) + table + body
    return struct.pack(">HHHHI", 0, 1, 3, 1, 12) + table


def _names(family: str) -> bytes:
    texts = {1: family, 2: "Regular"}
    rows, body = b"", b""
    for name, text in texts.items():
        raw = text.encode("utf-16-be")
        rows += struct.pack(">6H", 3, 1, 0x0409, name, len(raw), len(body))
        body += raw
    return struct.pack(">HHH", 0, len(texts), 6 + len(rows)) + rows + body
