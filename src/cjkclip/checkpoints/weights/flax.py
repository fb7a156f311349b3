"""Read and write Flax's files, a tree of msgpack tables with arrays as leaves, without flax.

An array's name is its path, joined by "/". Written files equal those of flax.serialization byte for byte.
"""

import mmap
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, cast

import numpy as np

from cjkclip.checkpoints.weights.msgpack import Bytes, head, pack, read_value
from cjkclip.checkpoints.weights.replace import replacing
from cjkclip.checkpoints.weights.tensors import (
    DTYPES,
    ELEMENTS,
    Tensors,
    dtype_of,
    element_of,
    short,
    stored_bytes,
    view,
)
from cjkclip.errors import WeightsError

MAX_NAME = 1000
CHUNK = 1 << 30  # bytes; flax splits longer arrays into pieces of this size,
CHUNKED = "__msgpack_chunked_array__"  # and marks the table of pieces with this key
ARRAY, SCALAR = 1, 3  # flax's extensions; 2 is a complex number


def read_flax(data: mmap.mmap) -> Tensors:
    """Return the arrays of a tree as views of the file; arrays in pieces are copied."""
    tree = read_value(data, 0, len(data))
    if not isinstance(tree, dict):
        raise WeightsError(f"its msgpack contains {short(tree)}, not a table of arrays")
    tensors = Tensors()
    for name, array in _leaves(data, cast(dict[str, Any], tree), ""):
        tensors.put(name, array)
    return tensors


def write_flax(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Write `tensors`, whose names are paths, completely or not at all. Writing is deterministic.

    Raises WeightsError for a name that would be both a table and an array, or if the file cannot be written.
    """
    tree: dict[str, Any] = {}
    for name in sorted(tensors, key=lambda name: name.split("/")):  # JAX sorts tables by their keys
        *steps, last = name.split("/")
        table = tree
        for step in steps:
            if isinstance(table.setdefault(step, {}), tuple):
                raise WeightsError(
                    f"{short(name)} cannot be stored: a part of its path is an array itself. Rename one of the two"
                )
            table = table[step]
        table[last] = (name, element_of(name, tensors[name]))
    with replacing(path) as file:
        for piece in _pieces(tree, tensors):
            file.write(piece)


def _leaves(data: mmap.mmap, tree: dict[str, Any], path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield every array with its name."""
    for key, value in tree.items():
        name = f"{path}/{key}" if path else key
        if len(name) > MAX_NAME:
            raise WeightsError(f"one of its arrays has a name of more than {MAX_NAME} characters")
        if isinstance(value, dict):
            inner = cast(dict[str, Any], value)
            yield from [(name, _joined(data, name, inner))] if CHUNKED in inner else _leaves(data, inner, name)
        else:
            yield name, _leaf(data, name, value)


def _leaf(data: mmap.mmap, name: str, value: object) -> np.ndarray:
    """Return an array; a plain number becomes one."""
    if isinstance(value, bool | float):
        element = "BOOL" if isinstance(value, bool) else "F64"
        return np.array(value, dtype_of(element))
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return np.array(value, dtype_of("I64"))
    if not isinstance(value, Bytes) or value.code not in {ARRAY, SCALAR}:
        raise WeightsError(f"entry {short(name)} is {short(value)}, expected one of flax's arrays or a number")
    parts = read_value(data, value.start, value.start + value.size)
    items = cast(list[object], parts) if isinstance(parts, list) else []
    shape, kind, content = items if len(items) == 3 else (0, 0, 0)
    if not isinstance(content, Bytes) or not isinstance(kind, str):
        raise WeightsError(f"array {short(name)} is not a list of shape, element type and bytes")
    if kind not in ELEMENTS:
        raise WeightsError(f"array {short(name)} has element type {short(kind)}, expected one of {', '.join(ELEMENTS)}")
    element = ELEMENTS[kind]
    return view(data, content.start, element, _shape(name, shape, dtype_of(element), content.size))


def _shape(name: str, shape: object, dtype: np.dtype, size: int) -> tuple[int, ...]:
    """Return the shape, checked against the number of bytes."""
    sides = cast(list[Any], shape) if isinstance(shape, list) else [-1]
    if not all(type(side) is int and 0 <= side < 1 << 63 for side in sides):
        raise WeightsError(f"array {short(name)} has an impossible shape")
    if prod(sides) * dtype.itemsize != size:
        raise WeightsError(f"array {short(name)} of shape {tuple(sides)} and type {dtype} cannot have {size} bytes")
    return tuple(sides)


def _joined(data: mmap.mmap, name: str, table: dict[str, Any]) -> np.ndarray:
    """Return an array that flax has split because of its length."""
    shape = _numbered(table.get("shape"))
    chunks = [_leaf(data, name, chunk) for chunk in _numbered(table.get("chunks"))]
    if not chunks or any(chunk.ndim != 1 or chunk.dtype != chunks[0].dtype for chunk in chunks):
        raise WeightsError(f"array {short(name)} is split into pieces of different types or shapes")
    whole = np.concatenate(chunks)
    return whole.reshape(_shape(name, shape, whole.dtype, whole.nbytes))


def _numbered(value: object) -> list[Any]:
    """Return the list that flax has stored as a table of "0", "1", ...; empty for any other value."""
    table = cast(dict[str, Any], value) if isinstance(value, dict) else {}
    keys = [str(i) for i in range(len(table))]
    return [table[key] for key in keys] if set(keys) == set(table) else []


def _pieces(tree: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> Iterator[bytes]:
    """Yield the bytes of a tree whose leaves are (name, element type)."""
    yield head("map", len(tree))
    for key, value in tree.items():
        yield from pack(key)
        if isinstance(value, dict):
            yield from _pieces(cast(dict[str, Any], value), tensors)
        else:
            name, element = cast(tuple[str, str], value)
            yield from _packed(tensors[name], element)


def _packed(array: np.ndarray, element: str) -> Iterator[bytes]:
    """Yield the bytes of one array, or of the table of its pieces."""
    content, size = stored_bytes(array, element), array.itemsize
    if len(content) <= CHUNK:
        yield from pack(_extension(array.shape, element, content))
        return
    step = CHUNK // size * size
    pieces = [content[start : start + step] for start in range(0, len(content), step)]
    chunks = {str(i): _extension((len(piece) // size,), element, piece) for i, piece in enumerate(pieces)}
    shape = {str(i): side for i, side in enumerate(array.shape)}
    yield from pack({CHUNKED: True, "shape": shape, "chunks": chunks})


def _extension(shape: tuple[int, ...], element: str, content: bytes) -> tuple[int, list[bytes]]:
    return ARRAY, list(pack([list(shape), DTYPES[element], content]))
