"""NumPy's .npz: a zip of .npy files, plain (views of the mapped file) or deflated.

Refuses: arrays of Python objects, which are pickles, and of anything but plain little-endian numbers; headers that are
no table of the three known entries; records that unpack to far more than the file holds, or to other bytes than the
archive says.
"""

import ast
import mmap
import re
import zipfile
import zlib
from collections.abc import Mapping
from math import prod
from typing import Any, cast

import numpy as np

from cjkclip.checkpoints.weights.archive import Record
from cjkclip.checkpoints.weights.tensors import DTYPES, Tensors, dtype_of, short, view
from cjkclip.errors import WeightsError

MAX_HEADER = 10_000  # bytes, as in NumPy
MAX_GROWTH = 16  # times the bytes of the file that its records may unpack to,
MIN_LIMIT = 64 << 20  # and always so many: a short file may hold a table of zeros
_ELEMENTS = {dtype_of(name).str: name for name in DTYPES if name != "BF16"}


def is_npz(records: Mapping[str, Record]) -> bool:
    """Is this archive one of NumPy's?"""
    return bool(records) and all(name.endswith(".npy") for name in records)


def read_npz(data: mmap.mmap, records: Mapping[str, Record]) -> Tensors:
    """The arrays of an archive under their names. Compressed ones are unpacked into memory."""
    unpacked = sum(record.size for record in records.values() if not record.plain)
    if unpacked > max(MIN_LIMIT, MAX_GROWTH * len(data)):
        raise WeightsError(f"its records claim to unpack to {unpacked} bytes, from a file of {len(data)}")
    tensors = Tensors()
    for name, record in records.items():
        try:
            array = _array(*_content(data, record))
        except WeightsError as error:
            raise WeightsError(f"record {short(name)}: {error}") from error
        tensors.put(name.removesuffix(".npy"), array)
    return tensors


def _content(data: mmap.mmap, record: Record) -> tuple[mmap.mmap | bytes, int, int]:
    """Where a .npy file's bytes are: in the file itself, or unpacked; from where on and up to where."""
    if record.plain:
        return data, record.start, record.start + record.size
    if record.method != zipfile.ZIP_DEFLATED:
        raise WeightsError("it is encrypted or packed in a way that NumPy does not use")
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = unpacker.decompress(data[record.start : record.start + record.stored], record.size + 1)
    except zlib.error as error:
        raise WeightsError(f"its packed bytes are damaged ({error})") from error
    if len(content) != record.size or not unpacker.eof or zlib.crc32(content) != record.checksum:
        raise WeightsError(f"it does not unpack to the {record.size} bytes that the archive says")
    return content, 0, len(content)


def _array(data: mmap.mmap | bytes, start: int, end: int) -> np.ndarray:
    """The array of one .npy file."""
    head = data[start : min(end, start + 12)]
    wide = head[6:7] in {b"\x02", b"\x03"}  # version 1 gives the header's length in two bytes, later ones in four
    begin = start + (12 if wide else 10)
    length = int.from_bytes(head[8 : begin - start], "little")
    if len(head) < 12 or head[:6] != b"\x93NUMPY" or length > min(MAX_HEADER, end - begin):
        raise WeightsError("it does not begin like a .npy file")
    element, shape, by_column = _header(data[begin : begin + length])
    begin += length
    if prod(shape) * dtype_of(element).itemsize != end - begin:
        raise WeightsError(f"an array of shape {shape} of {element} does not have its {end - begin} bytes")
    strides = tuple(prod(shape[:axis]) for axis in range(len(shape))) if by_column else None
    return view(data, begin, element, shape, strides)


def _header(text: bytes) -> tuple[str, tuple[int, ...], bool]:
    """Element type, shape, and whether the first index runs fastest."""
    try:
        found: object = ast.literal_eval(re.sub(r"(?<=\d)L\b", "", text.decode("latin-1")))  # Python 2 wrote 3L
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise WeightsError(f"its header is damaged ({str(error)[:80]})") from error
    header = cast(dict[Any, Any], found) if isinstance(found, dict) else {}
    if set(header) != {"descr", "fortran_order", "shape"}:
        raise WeightsError("its header does not say type, order and shape, and nothing else")
    kind, shape, by_column = header["descr"], header["shape"], header["fortran_order"]
    element = _ELEMENTS.get(kind) if isinstance(kind, str) else None
    if element is None:
        why = ": these are Python objects, which may run code" if kind == "|O" else ""
        raise WeightsError(f"its elements are {short(kind)}{why}; known are {', '.join(_ELEMENTS)}")
    counts = isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 1 << 63 for n in cast(tuple[Any, ...], shape))
    if not counts or not isinstance(by_column, bool):
        raise WeightsError("its header gives an impossible shape or order")
    return element, cast(tuple[int, ...], shape), by_column
