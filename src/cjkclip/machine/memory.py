"""Too little memory: errors of allocators made OutOfMemoryError, and a batch tried again in two halves.

n rows of a batch, E joint width.
"""

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager

import numpy as np

from cjkclip.arrays import Float
from cjkclip.errors import OutOfMemoryError


@contextmanager
def short_of_memory(*signs: str) -> Generator[None]:
    """Raise OutOfMemoryError for a MemoryError, and for a RuntimeError whose text has one of `signs`, patterns."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if any(re.search(sign, line) for sign in signs)]
        if not lines and not isinstance(error, MemoryError):
            raise
        why = lines[0] if lines else str(error) or type(error).__name__
        raise OutOfMemoryError(why[:200]) from error


def halved(run: Callable[..., Float[np.ndarray, "n E"]], *arrays: np.ndarray) -> Float[np.ndarray, "n E"]:
    """`run` over rows; if they take more memory than there is, once more over each half. Raises OutOfMemoryError."""
    rows = len(arrays[0])
    try:
        return run(*arrays)
    except MemoryError as error:
        if rows < 2:
            raise too_large(rows, error) from error
    middle = (rows + 1) // 2  # tried only here: while an exception is handled, it keeps what had been allocated
    try:
        return np.concatenate([run(*(a[:middle] for a in arrays)), run(*(a[middle:] for a in arrays))])
    except MemoryError as error:
        raise too_large(rows, error) from error


def too_large(rows: int, error: MemoryError) -> OutOfMemoryError:
    """The error for a batch of so many rows."""
    why = f" ({error})" if str(error) else ""
    if rows < 2:
        return OutOfMemoryError(
            f"there is not enough memory for one item{why}: close other programs, or take a smaller model"
        )
    smaller = max(1, rows // 4)
    return OutOfMemoryError(
        f"there is not enough memory for a batch of {rows}, nor for half of it{why}: pass batch_size={smaller} (on the "
        f"command line: cjkclip embed --batch-size {smaller}), or close other programs"
    )
