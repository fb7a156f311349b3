"""Memory-mapped weight files: find the file of an array, notice changes, and hand pages back to the system.

Pages that a program reads count as resident until they are handed back, although the file still contains them.
"""

import mmap
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np

from cjkclip.errors import WeightsError


class MappedFile(mmap.mmap):
    """A whole file, memory-mapped read-only. Use `MappedFile.of` to open one."""

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
        """Whether the path still names the mapped file, and the file was not changed since."""
        try:
            return _mark(self.path.stat()) == self._mark
        except OSError:
            return False

    def intact(self) -> bool:
        """Whether the mapped bytes are still those of the file that was mapped: nobody wrote into it or cut it.

        A file that was deleted, or replaced by another one of the same name, keeps its bytes while it is mapped.
        """
        try:
            now = _mark(self.path.stat())
        except OSError:
            return True
        return now[:2] != self._mark[:2] or now == self._mark


def files(arrays: Iterable[np.ndarray]) -> list[MappedFile]:
    """Return the mapped files that the arrays are views of, each once."""
    return list({id(file): file for file in map(root, arrays) if isinstance(file, MappedFile)}.values())


@contextmanager
def steady(mapped: Iterable[MappedFile]) -> Generator[None]:
    """Raise WeightsError if one of the files was changed before or during the block. It costs two calls of stat.

    If another program cuts a file in the middle of the block, the system ends this process (SIGBUS): only a copy in
    memory is safe from that.
    """
    mapped = tuple(mapped)
    require_intact(mapped)
    try:
        yield
    finally:
        require_intact(mapped)


def require_intact(mapped: Iterable[MappedFile]) -> None:
    """Raise WeightsError if a file was changed after it was mapped."""
    for file in mapped:
        if not file.intact():
            raise WeightsError(
                f"{file.path}: another program changed this file after it was loaded, so the model's numbers are lost. "
                "Load it again; for files that others write to, use load(..., mapped=False)"
            )


def root(array: np.ndarray) -> object:
    """Return the object that an array is a view of."""
    owner: object = array
    while (base := getattr(owner, "base", None)) is not None:
        owner = base
    return owner


def offset(array: np.ndarray, file: mmap.mmap) -> int:
    """Return the place of its first number in a mapped file, in bytes."""
    start, begin = (cast(int, each.__array_interface__["data"][0]) for each in (array, bytes_of(file)))
    return start - begin


def bytes_of(file: mmap.mmap) -> np.ndarray:
    """Return the whole file as an array of bytes, read-only."""
    return np.frombuffer(file, np.uint8)


def let_go_of(array: np.ndarray) -> None:
    """Hand back the pages of an array if it is a view of a `MappedFile`; the order of its axes does not matter."""
    file = root(array)
    if array.size and isinstance(file, MappedFile) and hasattr(mmap, "MADV_DONTNEED"):
        start = offset(array, file)
        first = start // mmap.PAGESIZE * mmap.PAGESIZE
        file.madvise(mmap.MADV_DONTNEED, first, start + array.nbytes - first)


def _mark(stat: os.stat_result) -> tuple[int, ...]:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns
