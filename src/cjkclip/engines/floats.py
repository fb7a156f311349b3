"""Parameters as an engine asks for them: contiguous float32, a tower at a time, and mapped files not kept in memory.

A checkpoint's arrays are views of its mapped file. What a compiler reads of them counts as this program's memory until
it is handed back, although the file is still there.
"""

import mmap
import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from cjkclip.engines import Params

PACE = 0.05  # seconds between two times that pages are handed back


class Floats(Mapping[str, np.ndarray]):
    """Parameters as contiguous float32: as they are stored, or else made when they are asked for, a tower at a time."""

    def __init__(self, stored: Params) -> None:
        self._stored = {k: v for k, v in stored.items() if v.dtype.kind == "f" and v.ndim}
        self._last: deque[tuple[str, np.ndarray]] = deque(maxlen=2)  # a weight, and the bias that is asked for after it

    def __getitem__(self, name: str) -> np.ndarray:
        """One parameter."""
        array = np.require(self._stored[name], np.float32, ["C", "A"])  # files may lay numbers at odd addresses
        self._last.append((name, array))
        return array

    def copy(self) -> "Floats":
        """The same parameters."""
        return Floats(self._stored)

    def layer_of(self, array: np.ndarray) -> str | None:
        """The layer of a weight that was asked for just now."""
        return next((name.removesuffix(".weight") for name, last in self._last if last is array), None)

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._stored)

    def __len__(self) -> int:
        """How many."""
        return len(self._stored)

    @contextmanager
    def passing(self) -> Generator[None]:
        """Hand back, again and again, what was read from mapped files: a compiler reads every weight only once."""
        done = threading.Event()

        def hand_back() -> None:
            while not done.wait(PACE):
                self.let_go()

        thread = threading.Thread(target=hand_back, name="cjkclip-pages", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.let_go()

    def let_go(self) -> None:
        """Hand the pages of mapped files back to the system, which reads them again should anybody look."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        roots = {id(root): root for root in map(_root, self._stored.values())}
        for root in roots.values():
            if isinstance(root, mmap.mmap):
                root.madvise(mmap.MADV_DONTNEED)


def _root(array: np.ndarray) -> object:
    """What an array is a view of."""
    root: object = array
    while (base := getattr(root, "base", None)) is not None:
        root = base
    return root
