"""Read and write safetensors: an 8-byte length, a JSON header, and the tensors' bytes in sequence.

Arrays are read-only views of the mapped file. Written files equal the safetensors library's byte for byte.
A header must cover every byte exactly once. 8-bit floats, which NumPy lacks, and complex numbers raise WeightsError.
"""

import json
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from cjkclip.checkpoints.weights.replace import replacing
from cjkclip.checkpoints.weights.tensors import DTYPES, FORMAT, Tensors, dtype_of, element_of, short, stored_bytes, view
from cjkclip.errors import WeightsError

MAX_HEADER = 16 << 20  # bytes; a tensor needs about 100
PIECE = 1 << 18  # numbers per write call
# The library writes the last of these types first, and tensors of one type in the order of their names.
_ORDER = ("BOOL", "U8", "I8", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "F64", "I64", "U64")
_RANK = {name: rank for rank, name in enumerate(_ORDER)}


def read_safetensors(data: mmap.mmap) -> Tensors:
    """Return the tensors of one file, in the order of its header."""
    header, begin = _header(data)
    metadata = header.pop("__metadata__", None)
    if metadata is not None and not _is_text(metadata):
        raise WeightsError("its header's metadata is not a table of strings")
    rows = {name: _row(name, entry) for name, entry in header.items()}
    expected = 0
    for name, (_, _, start, end) in sorted(rows.items(), key=lambda item: item[1][2:]):
        if start != expected:
            raise WeightsError(
                f"its header has a gap or an overlap before tensor {short(name)}. Download the file again"
            )
        expected = end
    if begin + expected != len(data):
        raise WeightsError(
            f"its header describes {begin + expected} bytes, the file has {len(data)}: it is truncated or damaged. "
            "Download it again"
        )
    tensors = Tensors(metadata=metadata)
    for name, (dtype, shape, start, _) in rows.items():
        tensors.put(name, view(data, begin + start, dtype, shape))
    return tensors


def parse_json(text: bytes) -> dict[str, Any]:
    """Return a JSON object in which no name occurs twice. Raises WeightsError."""
    try:
        record = json.loads(text.decode(), object_pairs_hook=_unique)
        json.dumps(record, ensure_ascii=False).encode()  # fails on escapes that are not valid Unicode
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"its JSON is damaged: {str(error)[:200]}. Download the file again") from error
    if not isinstance(record, dict):
        raise WeightsError(f"its JSON contains {short(record)}, not an object")
    return cast(dict[str, Any], record)


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> None:
    """Write `tensors` as safetensors, completely or not at all. Writing is deterministic and keeps element types.

    `metadata`: the header's text; None takes that of a `Tensors`, else {"format": "pt"}. A file that `read` returned
    is written bit for bit, bfloat16 included, if it has the library's order.
    Raises WeightsError for an element type that safetensors lacks, or if the file cannot be written.
    """
    if metadata is None:
        metadata = tensors.metadata if isinstance(tensors, Tensors) else FORMAT
    if "__metadata__" in tensors:
        raise WeightsError("a tensor named '__metadata__' cannot be stored as safetensors. Rename it")
    dtypes = {name: element_of(name, array) for name, array in tensors.items()}
    order = sorted(tensors, key=lambda name: (-_RANK[dtypes[name]], name))
    head: dict[str, object] = {} if metadata is None else {"__metadata__": dict(metadata)}
    place = 0
    for name in order:
        size = tensors[name].nbytes
        shape = list(tensors[name].shape)
        head[name] = {"dtype": dtypes[name], "shape": shape, "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(head, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with replacing(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            for piece in _pieces(tensors[name]):
                file.write(stored_bytes(piece, dtypes[name]))


def _pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the array in pieces: a view may be larger than memory, so it must not be copied as a whole."""
    flat = array.reshape(-1)
    for start in range(0, flat.size, PIECE):
        yield flat[start : start + PIECE]


def _header(data: mmap.mmap) -> tuple[dict[str, Any], int]:
    length = int.from_bytes(data[:8], "little")
    if length > min(MAX_HEADER, len(data) - 8):
        raise WeightsError(
            f"its safetensors header should have {length} bytes, in a file of {len(data)}: it is truncated or damaged. "
            "Download it again"
        )
    return parse_json(data[8 : 8 + length]), 8 + length


def _row(name: str, entry: object) -> tuple[str, tuple[int, ...], int, int]:
    fields = cast(dict[str, Any], entry) if isinstance(entry, dict) else {}
    if set(fields) != {"dtype", "shape", "data_offsets"}:
        raise WeightsError(f"its header does not describe tensor {short(name)} by dtype, shape and data_offsets")
    dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise WeightsError(f"tensor {short(name)} has element type {short(dtype)}, expected one of {', '.join(DTYPES)}")
    if not _is_counts(shape) or not _is_counts(offsets) or len(offsets) != 2:
        raise WeightsError(f"its header gives tensor {short(name)} an impossible shape or place")
    size = dtype_of(dtype).itemsize
    for side in shape:
        size *= side
    if offsets[1] - offsets[0] != size:
        raise WeightsError(f"tensor {short(name)} needs {size} bytes, its header gives {offsets[1] - offsets[0]}")
    return dtype, tuple(shape), offsets[0], offsets[1]


def _is_counts(values: object) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 1 << 63 for v in cast(list[object], values))


def _is_text(metadata: object) -> bool:
    return isinstance(metadata, dict) and all(
        isinstance(value, str) for value in cast(dict[str, object], metadata).values()
    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a name occurs twice")
    return record
