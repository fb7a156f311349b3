"""Parameters as contiguous float32, converted on access.

A checkpoint's arrays are views of its memory-mapped file. A compiler reads each page once; the system takes such pages
back when it needs memory, so they are not the process's own.
"""

from collections import deque
from collections.abc import Iterator, Mapping

import numpy as np

from cjkclip.arrays import is_float
from cjkclip.engines import Params


class Floats(Mapping[str, np.ndarray]):
    """Parameters as contiguous float32: the stored arrays themselves, or copies made on access."""

    def __init__(self, stored: Params) -> None:
        self.stored = {k: v for k, v in stored.items() if is_float(v) and v.ndim}
        self.names_read = set[str]()
        self._last: deque[tuple[str, np.ndarray]] = deque(maxlen=2)  # a weight, and the bias read after it

    def __getitem__(self, name: str) -> np.ndarray:
        """Return one parameter."""
        array = np.require(self.stored[name], np.float32, ["C", "A"])  # numbers in a file may be unaligned
        self._last.append((name, array))
        self.names_read.add(name)
        return array

    def copy(self) -> "Floats":
        """Return the same parameters, with no access recorded."""
        return Floats(self.stored)

    def name_of(self, array: np.ndarray) -> str | None:
        """Return the name of one of the two parameters that were read last, or None."""
        return next((name for name, last in self._last if last is array), None)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self.stored)

    def __len__(self) -> int:
        """Return the number of parameters."""
        return len(self.stored)
