"""Read NumPy's .npz: a zip of .npy files, plain (views of the mapped file) or deflated.

Only plain little-endian numbers are accepted: Python objects are pickles. Records that unpack to far more than the file
contains raise WeightsError.
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
MAX_GROWTH = 16  # limit of the unpacked bytes, in multiples of the file size,
MIN_LIMIT = 64 << 20  # but never below this: a short file may contain a large array of zeros
_ELEMENTS = {dtype_of(name).str: name for name in DTYPES if name != "BF16"}


def is_npz(records: Mapping[str, Record]) -> bool:
    """Whether these are the records of an .npz archive."""
    return bool(records) and all(name.endswith(".npy") for name in records)


def read_npz(data: mmap.mmap, records: Mapping[str, Record]) -> Tensors:
    """Return the arrays of an archive by name. Compressed ones are unpacked into memory."""
    unpacked = sum(record.size for record in records.values() if not record.plain)
    if unpacked > max(MIN_LIMIT, MAX_GROWTH * len(data)):
        raise WeightsError(
            f"its records unpack to {unpacked} bytes, too much for a file of {len(data)}. Save it with np.savez"
        )
    tensors = Tensors()
    for name, record in records.items():
        try:
            array = _array(*_content(data, record))
        except WeightsError as error:
            raise WeightsError(f"record {short(name)}: {error}") from error
        tensors.put(name.removesuffix(".npy"), array)
    return tensors


def _content(data: mmap.mmap, record: Record) -> tuple[mmap.mmap | bytes, int, int]:
    """Return the bytes of a .npy file (the mapped file or unpacked bytes) with their start and end."""
    if record.plain:
        return data, record.start, record.start + record.size
    if record.method != zipfile.ZIP_DEFLATED:
        raise WeightsError("it is encrypted, or compressed by a method that NumPy does not use. Save it with np.savez")
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        content = unpacker.decompress(data[record.start : record.start + record.stored], record.size + 1)
    except zlib.error as error:
        raise WeightsError(f"its compressed bytes are damaged ({error}). Download the file again") from error
    if len(content) != record.size or not unpacker.eof or zlib.crc32(content) != record.checksum:
        raise WeightsError(
            f"it does not unpack to the {record.size} bytes that the archive lists. Download the file again"
        )
    return content, 0, len(content)


def _array(data: mmap.mmap | bytes, start: int, end: int) -> np.ndarray:
    """Return the array of one .npy file."""
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
    """Return the element type, the shape, and whether the first index runs fastest."""
    try:
        value: object = ast.literal_eval(re.sub(r"(?<=\d)L\b", "", text.decode("latin-1")))  # Python 2 wrote 3L
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise WeightsError(f"its header is damaged ({str(error)[:80]}). Download the file again") from error
    header = cast(dict[Any, Any], value) if isinstance(value, dict) else {}
    if set(header) != {"descr", "fortran_order", "shape"}:
        raise WeightsError("its header does not contain exactly descr, fortran_order and shape")
    kind, shape, by_column = header["descr"], header["shape"], header["fortran_order"]
    element = _ELEMENTS.get(kind) if isinstance(kind, str) else None
    if element is None:
        why = ": these are Python objects, which may run code" if kind == "|O" else ""
        raise WeightsError(f"its elements are {short(kind)}{why}. Expected one of {', '.join(_ELEMENTS)}")
    counts = isinstance(shape, tuple) and all(type(n) is int and 0 <= n < 1 << 63 for n in cast(tuple[Any, ...], shape))
    if not counts or not isinstance(by_column, bool):
        raise WeightsError("its header gives an impossible shape or order")
    return element, cast(tuple[int, ...], shape), by_column
