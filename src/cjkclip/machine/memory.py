"""Memory: allocators' errors become OutOfMemoryError, a batch is tried again in two halves, threads share a bound.

n rows of a batch, E joint width.
"""

import ctypes
import functools
import os
import re
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

import numpy as np

from cjkclip.arrays import Float
from cjkclip.errors import InputError, OutOfMemoryError


@contextmanager
def short_of_memory(*signs: str) -> Generator[None]:
    """Raise OutOfMemoryError for a MemoryError, and for a RuntimeError whose message matches a pattern of `signs`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if any(re.search(sign, line) for sign in signs)]
        if not lines and not isinstance(error, MemoryError):
            raise
        why = lines[0] if lines else str(error) or type(error).__name__
        raise OutOfMemoryError(why[:200]) from error


def halved(run: Callable[..., Float[np.ndarray, "n E"]], *arrays: np.ndarray) -> Float[np.ndarray, "n E"]:
    """Call `run` with all rows, or, if that is out of memory, with each half. Raises OutOfMemoryError."""
    rows = len(arrays[0])
    try:
        return run(*arrays)
    except MemoryError as error:
        if rows < 2:
            raise too_large(rows, error) from error
    # Outside the handler, since an exception that is being handled keeps the memory of the failed call allocated.
    middle = (rows + 1) // 2
    try:
        return np.concatenate([run(*(a[:middle] for a in arrays)), run(*(a[middle:] for a in arrays))])
    except MemoryError as error:
        raise too_large(rows, error) from error


LARGE = 64 << 20  # bytes; glibc keeps freed blocks of this size for the thread that used them


def _trim() -> None:
    """Hand freed memory back to the system, where the C library keeps it."""
    library = ctypes.CDLL(None) if os.name == "posix" else None
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


class Room:
    """A bound of bytes that several threads share: each takes its part before it allocates. One part always fits.

    `most` is called once, when two parts meet for the first time.
    """

    def __init__(self, most: Callable[[], int]) -> None:
        self._most, self._taken, self._changed = functools.cache(most), 0, threading.Condition()

    @contextmanager
    def part(self) -> Generator[Callable[[int], None]]:
        """Yield a function that waits until `size` bytes are free and takes them; they are given back at the end."""
        taken = 0

        def take(size: int) -> None:
            nonlocal taken
            with self._changed:
                self._changed.wait_for(lambda: self._taken == 0 or self._taken + size <= self._most())
                self._taken += size
                taken += size

        try:
            yield take
        finally:
            if taken > LARGE:
                _trim()
            with self._changed:
                self._taken -= taken
                self._changed.notify_all()


def too_large(rows: int, error: MemoryError) -> OutOfMemoryError:
    """Return the error for a batch with this number of rows."""
    why = f" ({error})" if str(error) else ""
    if rows < 2:
        return OutOfMemoryError(f"out of memory with a single input{why}: close other programs or load a smaller model")
    smaller = max(1, rows // 4)
    return OutOfMemoryError(
        f"out of memory with batch size {rows} and with {(rows + 1) // 2}{why}: use batch_size={smaller} "
        f"(on the command line: cjkclip embed --batch-size {smaller}) or close other programs"
    )


def checked_size(batch_size: int | None, default: int) -> int:
    """Return `batch_size`, or the default for None. Raises InputError if it is less than 1."""
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size is {batch_size}, expected at least 1: use for example batch_size={default}")
    return batch_size or default
