"""Out of memory: allocators' errors become OutOfMemoryError, and a batch is tried again in two halves.

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
