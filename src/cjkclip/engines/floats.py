"""Parameters as an engine asks for them: contiguous float32, a tower at a time, and mapped files not kept in memory.

A checkpoint's arrays are views of its mapped file, of which a compiler reads every page only once.
"""

import mmap
import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from cjkclip.arrays import is_float
from cjkclip.engines import Params
from cjkclip.machine.mapped import let_go, root

PACE = 0.05  # seconds between two times that pages are handed back


class Floats(Mapping[str, np.ndarray]):
    """Parameters as contiguous float32: as they are stored, or else made when they are asked for, a tower at a time."""

    def __init__(self, stored: Params) -> None:
        self.stored = {k: v for k, v in stored.items() if is_float(v) and v.ndim}
        self.asked = set[str]()
        self._last: deque[tuple[str, np.ndarray]] = deque(maxlen=2)  # a weight, and the bias that is asked for after it

    def __getitem__(self, name: str) -> np.ndarray:
        """One parameter."""
        array = np.require(self.stored[name], np.float32, ["C", "A"])  # files may lay numbers at odd addresses
        self._last.append((name, array))
        self.asked.add(name)
        return array

    def copy(self) -> "Floats":
        """The same parameters."""
        return Floats(self.stored)

    def name_of(self, array: np.ndarray) -> str | None:
        """The name of a parameter that was asked for just now."""
        return next((name for name, last in self._last if last is array), None)

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self.stored)

    def __len__(self) -> int:
        """How many."""
        return len(self.stored)

    @contextmanager
    def passing(self) -> Generator[None]:
        """Hand back, again and again, what was read from mapped files: a compiler reads every weight only once."""
        done, caller = threading.Event(), threading.current_thread()

        def hand_back() -> None:
            while not done.wait(PACE):
                self._let_go(caller)

        thread = threading.Thread(target=hand_back, name="cjkclip-pages", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self._let_go(caller)

    def _let_go(self, caller: threading.Thread) -> None:
        let_go({file for file in map(root, self.stored.values()) if isinstance(file, mmap.mmap)}, caller)
