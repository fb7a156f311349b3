"""Weight files in memory: which file an array is a view of, and pages handed back to the system.

What a program reads of a mapped file counts as its memory until it is handed back, although the file is still there.
"""

import mmap
import os
from pathlib import Path
from typing import cast

import numpy as np


class MappedFile(mmap.mmap):
    """A whole file, mapped read-only. `MappedFile.of` makes one."""

    path: Path
    _mark: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> "MappedFile":
        """Map a file. Raises OSError, and ValueError if it is empty."""
        with path.open("rb") as file:
            mapped = cls(file.fileno(), 0, access=mmap.ACCESS_READ)
            mapped.path, mapped._mark = path.resolve(), _mark(os.fstat(file.fileno()))
        return mapped

    def unchanged(self) -> bool:
        """Is the file that its path leads to the one that was mapped, and not written since?"""
        try:
            return _mark(self.path.stat()) == self._mark
        except OSError:
            return False


def root(array: np.ndarray) -> object:
    """What an array is a view of."""
    found: object = array
    while (base := getattr(found, "base", None)) is not None:
        found = base
    return found


def offset(array: np.ndarray, file: mmap.mmap) -> int:
    """Where in a mapped file its first number lies, in bytes."""
    start, begin = (cast(int, each.__array_interface__["data"][0]) for each in (array, bytes_of(file)))
    return start - begin


def bytes_of(file: mmap.mmap) -> np.ndarray:
    """The whole file as an array of bytes, read-only."""
    return np.frombuffer(file, np.uint8)


def let_go_of(array: np.ndarray) -> None:
    """Hand back the pages that an array lies on, if it is a view of a mapped file, in whatever order of its axes."""
    file = root(array)
    if array.size and isinstance(file, MappedFile) and hasattr(mmap, "MADV_DONTNEED"):
        start = offset(array, file)
        first = start // mmap.PAGESIZE * mmap.PAGESIZE
        file.madvise(mmap.MADV_DONTNEED, first, start + array.nbytes - first)


def _mark(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
