"""The msgpack encoding, as far as checkpoints use it: values to plain Python, and back to bytes.

Byte strings and extensions stay where they are, as places in the file. Refuses: lengths that lie, tables whose keys
are no texts or occur twice, more levels or values than a checkpoint has, and bytes left over.
"""

import mmap
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from cjkclip.checkpoints.weights.tensors import short
from cjkclip.errors import WeightsError

MAX_DEPTH = 64
MAX_VALUES = 1_000_000  # a checkpoint has a few for each tensor


class Bytes(NamedTuple):
    """Bytes of the file: a byte string, or with a code an extension's."""

    start: int
    size: int
    code: int | None


# first byte -> kind and the bytes of its length
_SIZED = {
    **{0xC4 + i: ("bin", 1 << i) for i in range(3)},
    **{0xC7 + i: ("ext", 1 << i) for i in range(3)},
    **{0xD9 + i: ("str", 1 << i) for i in range(3)},
    **{0xDC + i: ("array", 2 << i) for i in range(2)},
    **{0xDE + i: ("map", 2 << i) for i in range(2)},
}
_SHORT = (("map", 0x80, 0x90), ("array", 0x90, 0xA0), ("str", 0xA0, 0xC0))  # the length stands in the first byte
_NUMBERS = dict(zip(range(0xCA, 0xD4), (">f", ">d", *(f">{code}" for code in "BHIQbhiq")), strict=True))
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_FIRST = {0xDE: 3, 0xDF: 5} | dict.fromkeys(range(0x81, 0x90), 1)  # of a table: where its first key begins


def is_table(head: bytes) -> bool:
    """Can a file that begins with these bytes be a table whose first key is a text?"""
    at = _FIRST.get(head[0]) if head else None
    return at is not None and all(0xA0 <= byte < 0xC0 or byte in _SIZED for byte in head[at : at + 1])


def read_value(data: mmap.mmap, start: int, end: int) -> object:
    """The one value between two places of a file: a number, text, None, list, dict by text, or `Bytes`."""
    reader = _Reader(data, start, end)
    value = reader.value(0)
    if reader.place != end:
        raise WeightsError(f"its msgpack ends at byte {reader.place}, expected {end}")
    return value


class _Reader:
    """Reads values one behind the other."""

    def __init__(self, data: mmap.mmap, start: int, end: int) -> None:
        self.data, self.place, self.end = data, start, end
        self.left = MAX_VALUES

    def skip(self, count: int) -> int:
        """Pass over the next bytes; returns where they begin."""
        start, self.place = self.place, self.place + count
        if self.place > self.end:
            raise WeightsError("its msgpack is cut short or damaged: a value goes beyond its end")
        return start

    def take(self, count: int) -> bytes:
        """The next bytes."""
        start = self.skip(count)
        return self.data[start : self.place]

    def head(self) -> tuple[str, Any]:
        """The kind of the next value and its length; of a number or constant "plain" and itself."""
        self.left -= 1
        if self.left < 0:
            raise WeightsError(f"its msgpack has more than {MAX_VALUES} values; no checkpoint has")
        first = self.take(1)[0]
        if first in _SIZED:
            kind, width = _SIZED[first]
            return kind, int.from_bytes(self.take(width), "big")
        if first in _NUMBERS:
            form = _NUMBERS[first]
            return "plain", struct.unpack(form, self.take(struct.calcsize(form)))[0]
        if first in _CONSTANTS:
            return "plain", _CONSTANTS[first]
        if 0xD4 <= first <= 0xD8:
            return "ext", 1 << (first - 0xD4)
        for kind, low, high in _SHORT:
            if low <= first < high:
                return kind, first - low
        if first == 0xC1:
            raise WeightsError("its msgpack is damaged: it has a byte 0xc1 where a value begins")
        return "plain", first if first < 0x80 else first - 0x100

    def value(self, depth: int) -> object:
        """The next value."""
        kind, found = self.head()
        if kind == "plain":
            return found
        if kind == "str":
            return _text(self.take(found))
        if kind in {"bin", "ext"}:
            code = self.take(1)[0] if kind == "ext" else None
            return Bytes(self.skip(found), found, code)
        if depth == MAX_DEPTH:
            raise WeightsError(f"its msgpack is more than {MAX_DEPTH} levels deep")
        if kind == "array":
            return [self.value(depth + 1) for _ in range(found)]
        table: dict[str, object] = {}
        for _ in range(found):
            key = self.key()
            if key in table:
                raise WeightsError(f"its msgpack has a table in which {short(key)} occurs twice")
            table[key] = self.value(depth + 1)
        return table

    def key(self) -> str:
        """The next value, which has to be a text."""
        kind, size = self.head()
        if kind != "str" or not size:
            raise WeightsError("its msgpack has a table with a key that is no text, or empty")
        return _text(self.take(size))


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise WeightsError(f"its msgpack has a text that is no UTF-8: {short(raw)}") from error


def pack(value: object) -> Iterator[bytes]:
    """The encoding of numbers from 0 on, texts, True, bytes, extensions as (code, its pieces), lists and dicts.

    >>> b"".join(pack({"shape": [3, 300], "raw": b"ab"})).hex(" ")
    '82 a5 73 68 61 70 65 92 03 cd 01 2c a3 72 61 77 c4 02 61 62'
    """
    if isinstance(value, bool):
        yield bytes([0xC2 + value])
    elif isinstance(value, int):
        widths = [i for i in range(4) if value < 1 << (8 << i)]
        yield bytes([value]) if value < 0x80 else bytes([0xCC + widths[0]]) + value.to_bytes(1 << widths[0], "big")
    elif isinstance(value, str):
        raw = value.encode()
        yield head("str", len(raw)) + raw
    elif isinstance(value, bytes):
        yield head("bin", len(value))
        yield value
    elif isinstance(value, tuple):
        code, pieces = cast(tuple[int, list[bytes]], value)
        size = sum(len(piece) for piece in pieces)
        fixed = size in {1, 2, 4, 8, 16}
        yield (bytes([0xD3 + size.bit_length()]) if fixed else head("ext", size)) + bytes([code])
        yield from pieces
    elif isinstance(value, list):
        items = cast(list[object], value)
        yield head("array", len(items))
        for item in items:
            yield from pack(item)
    else:
        table = cast(dict[str, object], value)
        yield head("map", len(table))
        for key, item in table.items():
            yield from pack(key)
            yield from pack(item)


def head(kind: str, length: int) -> bytes:
    """The shortest first bytes of a "map", "array", "str", "bin" or "ext" that long."""
    for short_kind, low, high in _SHORT:
        if kind == short_kind and length < high - low:
            return bytes([low + length])
    return next(
        bytes([first]) + length.to_bytes(width, "big")
        for first, (sized, width) in _SIZED.items()
        if sized == kind and length < 1 << 8 * width
    )
