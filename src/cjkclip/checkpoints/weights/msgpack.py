"""Decode and encode the part of msgpack that checkpoints use.

Byte strings and extensions are not copied: they become places in the file. Keys must be unique strings.
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
    """The place of a byte string or, with a code, of an extension in the file."""

    start: int
    size: int
    code: int | None


# first byte -> kind, and the number of bytes of its length
_SIZED = {
    **{0xC4 + i: ("bin", 1 << i) for i in range(3)},
    **{0xC7 + i: ("ext", 1 << i) for i in range(3)},
    **{0xD9 + i: ("str", 1 << i) for i in range(3)},
    **{0xDC + i: ("array", 2 << i) for i in range(2)},
    **{0xDE + i: ("map", 2 << i) for i in range(2)},
}
_SHORT = (("map", 0x80, 0x90), ("array", 0x90, 0xA0), ("str", 0xA0, 0xC0))  # the first byte contains the length
_NUMBERS = dict(zip(range(0xCA, 0xD4), (">f", ">d", *(f">{code}" for code in "BHIQbhiq")), strict=True))
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}
_FIRST = {0xDE: 3, 0xDF: 5} | dict.fromkeys(range(0x81, 0x90), 1)  # of a table: the place of its first key


def is_table(head: bytes) -> bool:
    """Whether a file with these first bytes can be a table whose first key is a string."""
    at = _FIRST.get(head[0]) if head else None
    return at is not None and all(0xA0 <= byte < 0xC0 or byte in _SIZED for byte in head[at : at + 1])


def read_value(data: mmap.mmap, start: int, end: int) -> object:
    """Return the value between two places of a file: number, string, None, list, dict with string keys, or `Bytes`."""
    reader = _Reader(data, start, end)
    value = reader.value(0)
    if reader.place != end:
        raise WeightsError(f"its msgpack ends at byte {reader.place}, expected {end}")
    return value


class _Reader:
    """Reads values in sequence."""

    def __init__(self, data: mmap.mmap, start: int, end: int) -> None:
        self.data, self.place, self.end = data, start, end
        self.remaining = MAX_VALUES

    def skip(self, count: int) -> int:
        """Skip the next bytes; return the place of the first one."""
        start, self.place = self.place, self.place + count
        if self.place > self.end:
            raise WeightsError(
                "its msgpack is truncated or damaged: a value goes beyond its end. Download the file again"
            )
        return start

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        start = self.skip(count)
        return self.data[start : self.place]

    def head(self) -> tuple[str, Any]:
        """Return the kind of the next value and its length; for a number or constant "plain" and the value."""
        self.remaining -= 1
        if self.remaining < 0:
            raise WeightsError(f"its msgpack has more than {MAX_VALUES} values, more than any checkpoint")
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
            raise WeightsError(
                "its msgpack is damaged: it has a byte 0xc1 where a value begins. Download the file again"
            )
        return "plain", first if first < 0x80 else first - 0x100

    def value(self, depth: int) -> object:
        """Return the next value."""
        kind, size = self.head()
        if kind == "plain":
            return size
        if kind == "str":
            return _text(self.take(size))
        if kind in {"bin", "ext"}:
            code = self.take(1)[0] if kind == "ext" else None
            return Bytes(self.skip(size), size, code)
        if depth == MAX_DEPTH:
            raise WeightsError(f"its msgpack has more than {MAX_DEPTH} levels, more than any checkpoint")
        if kind == "array":
            return [self.value(depth + 1) for _ in range(size)]
        table: dict[str, object] = {}
        for _ in range(size):
            key = self.key()
            if key in table:
                raise WeightsError(f"its msgpack has a table in which {short(key)} occurs twice")
            table[key] = self.value(depth + 1)
        return table

    def key(self) -> str:
        """Return the next value, which must be a string."""
        kind, size = self.head()
        if kind != "str" or not size:
            raise WeightsError("its msgpack has a table with a key that is not a string, or empty")
        return _text(self.take(size))


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise WeightsError(f"its msgpack has a string that is not UTF-8: {short(raw)}") from error


def pack(value: object) -> Iterator[bytes]:
    """Yield the encoding of non-negative integers, strings, True, bytes, extensions (code, pieces), lists and dicts.

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
    """Return the shortest first bytes of a "map", "array", "str", "bin" or "ext" of this length."""
    for short_kind, low, high in _SHORT:
        if kind == short_kind and length < high - low:
            return bytes([low + length])
    return next(
        bytes([first]) + length.to_bytes(width, "big")
        for first, (sized, width) in _SIZED.items()
        if sized == kind and length < 1 << 8 * width
    )
