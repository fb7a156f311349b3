"""Digests that identify a model, of its config and every parameter."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cjkclip.config import Model
from cjkclip.machine.mapped import let_go_of
from cjkclip.machine.threads import on_every_core

ENDS = 64  # numbers at each end
PART = 8 << 20  # bytes per read


def fingerprint(config: Model, params: Mapping[str, np.ndarray]) -> str:
    """Return 16 hex digits that change when a parameter or a config field changes."""
    return digest(config, params)[:16]


def digest(config: Model, params: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 digest of a model. It uses every core, because hashing is slower than reading.

    Pages of memory-mapped files do not stay in memory.
    """

    def digest_of(name: str) -> bytes:
        array = np.ascontiguousarray(params[name])
        values, flat = hashlib.sha256(), array.reshape(-1).view(np.uint8)
        for start in range(0, flat.size, PART):
            part = flat[start : start + PART]
            values.update(part.data)
            let_go_of(part)
        let_go_of(params[name])  # `array` may be a copy of it
        return hashlib.sha256(repr((name, array.dtype.str, array.shape)).encode() + values.digest()).digest()

    digests = on_every_core(digest_of, sorted(params), "cjkclip-digest")
    return hashlib.sha256(b"".join([repr(config).encode(), *digests])).hexdigest()


def identity(tensors: Mapping[str, np.ndarray]) -> str:
    """Return 16 hex digits of the names, shapes and first and last numbers of tensors. It reads little of a file."""
    values = hashlib.sha256()
    for name, array in sorted(tensors.items()):
        values.update(repr((name, array.dtype.str, array.shape)).encode())
        values.update(array.flat[:ENDS].tobytes() + array.flat[max(0, array.size - ENDS) :].tobytes())
    return values.hexdigest()[:16]


def ends(array: np.ndarray) -> bytes:
    """Return the first and last numbers of a parameter in file order: a cheap way to distinguish two parameters."""
    flat = array.ravel(order="K")  # a view, in the order of the file
    return flat[:ENDS].tobytes() + flat[max(0, flat.size - ENDS) :].tobytes()


def file_digest(path: Path) -> str:
    """Return the SHA-256 digest of a file as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
