"""What a font file says of itself: its faces, their family names, and the characters they have a glyph for.

Reads TrueType and OpenType files and collections (.ttf .otf .ttc .otc), only the tables it needs, by offset.
Refuses: bitmap-only fonts (colour emoji), which cannot be drawn at any size, and files that are no font.
"""

import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from cjkclip.errors import InputError

_OUTLINES = {b"glyf", b"CFF ", b"CFF2"}
_MAX_TABLE = 64 << 20  # no name or cmap table is near this; a damaged length must not fill the memory


@dataclass(frozen=True, kw_only=True, eq=False)
class Face:
    """One face of a font file; `index` is its place in a collection."""

    path: Path
    index: int
    family: str
    style: str
    variable: bool
    tables: dict[bytes, tuple[int, int]]  # tag -> (offset, length)

    @cached_property
    def _glyphs(self) -> "_Segments | _Groups":
        with self.path.open("rb") as file:
            return _read_cmap(_table(file, self.tables, b"cmap"))

    def has(self, char: str) -> bool:
        """Whether the face's own character map leads to a glyph other than `.notdef`."""
        return self._glyphs.glyph(ord(char)) != 0

    def readable(self) -> bool:
        """Whether the character map can be read at all."""
        try:
            self.has("a")
        except (OSError, struct.error, ValueError, IndexError):
            return False
        return True


def read_faces(path: Path) -> list[Face]:
    """The faces of a font file. Raises InputError when there is none to draw with."""
    try:
        with path.open("rb") as file:
            faces = [_read_face(path, file, i, at) for i, at in enumerate(_offsets(file))]
    except (OSError, struct.error, ValueError, IndexError) as problem:
        raise InputError(f"{path}: not a readable font file ({problem})") from problem
    drawable = [face for face in faces if _OUTLINES & set(face.tables) and face.readable()]
    if not drawable:
        raise InputError(f"{path}: no face with outlines and a Unicode character map")
    return drawable


def _offsets(file: BinaryIO) -> list[int]:
    tag, _, count = struct.unpack(">4sII", file.read(12))
    if tag != b"ttcf":
        if tag not in {b"\0\1\0\0", b"OTTO", b"true"}:
            raise InputError(f"starts with {tag!r}")
        return [0]
    if count > 256:
        raise InputError(f"claims {count} faces")
    return list(struct.unpack(f">{count}I", file.read(4 * count)))


def _read_face(path: Path, file: BinaryIO, index: int, offset: int) -> Face:
    file.seek(offset + 4)
    (count,) = struct.unpack(">H6x", file.read(8))
    rows = struct.iter_unpack(">4s4xII", file.read(16 * count))
    tables = {tag: (at, length) for tag, at, length in rows}
    names = _read_names(_table(file, tables, b"name"))
    return Face(
        path=path,
        index=index,
        family=names.get(16) or names.get(1) or path.stem,
        style=names.get(17) or names.get(2) or "",
        variable=b"fvar" in tables,
        tables=tables,
    )


def _table(file: BinaryIO, tables: dict[bytes, tuple[int, int]], tag: bytes) -> bytes:
    at, length = tables.get(tag, (0, 0))
    if not 0 < length <= _MAX_TABLE:
        raise InputError(f"table {tag.decode()} is missing or of {length} bytes")
    file.seek(at)
    data = file.read(length)
    if len(data) != length:
        raise InputError(f"table {tag.decode()} is cut short")
    return data


def _read_names(table: bytes) -> dict[int, str]:
    """Name records in UTF-16, English before any other language."""
    count, start = struct.unpack(">2xHH", table[:6])
    found: dict[int, tuple[bool, str]] = {}
    for record in struct.iter_unpack(">6H", table[6 : 6 + 12 * count]):
        platform, _, language, name, length, at = record
        if platform not in {0, 3}:
            continue
        english = platform == 3 and language == 0x0409
        if name not in found or (english and not found[name][0]):
            raw = table[start + at : start + at + length]
            found[name] = (english, raw.decode("utf-16-be", errors="replace"))
    return {name: text for name, (_, text) in found.items()}


class _Segments:
    """A format 4 map: the Basic Multilingual Plane, in runs of code points."""

    def __init__(self, sub: bytes) -> None:
        self.count = int.from_bytes(sub[6:8], "big") // 2
        words = np.frombuffer(sub[: len(sub) // 2 * 2], dtype=">u2").astype(np.int64)
        self.ends, rest = words[7 : 7 + self.count], words[8 + self.count :]
        self.starts, self.deltas = rest[: self.count], rest[self.count : 2 * self.count]
        self.tail = rest[2 * self.count :]  # idRangeOffset, then the glyph array it points into
        if len(self.tail) < self.count:
            raise InputError("the character map is cut short")

    def glyph(self, code: int) -> int:
        at = int(np.searchsorted(self.ends, code))
        if code > 0xFFFF or at >= self.count or code < self.starts[at]:
            return 0
        offset = int(self.tail[at])
        if offset == 0:
            return int(code + self.deltas[at]) & 0xFFFF
        place = at + offset // 2 + code - int(self.starts[at])
        glyph = int(self.tail[place]) if place < len(self.tail) else 0
        return (glyph + int(self.deltas[at])) & 0xFFFF if glyph else 0


class _Groups:
    """A format 12 map: all of Unicode, in groups of code points."""

    def __init__(self, sub: bytes) -> None:
        count = int.from_bytes(sub[12:16], "big")
        rows: np.ndarray[Any, np.dtype[Any]] = np.frombuffer(sub[16 : 16 + 12 * count], dtype=">u4")
        self.rows = rows.reshape(-1, 3).astype(np.int64)

    def glyph(self, code: int) -> int:
        at = int(np.searchsorted(self.rows[:, 1], code))
        if at >= len(self.rows) or code < self.rows[at, 0]:
            return 0
        return int(self.rows[at, 2] + code - self.rows[at, 0])


def _read_cmap(table: bytes) -> _Segments | _Groups:
    (count,) = struct.unpack(">2xH", table[:4])
    maps: dict[int, bytes] = {}
    for platform, encoding, at in struct.iter_unpack(">HHI", table[4 : 4 + 8 * count]):
        form = int.from_bytes(table[at : at + 2], "big")
        if form in {4, 12} and (platform == 0 or (platform == 3 and encoding in {1, 10})):
            maps[form] = table[at:]
    if 12 in maps:
        return _Groups(maps[12])
    if 4 in maps:
        return _Segments(maps[4])
    raise InputError("no Unicode character map of format 4 or 12")
