"""Forks: no call of an engine is caught in the middle, and no lock stays closed in the child.

A forked child has only the thread that forked. A lock that another thread held is never opened there, and libraries
that were computing wait for threads that no longer exist. So calls of engines enter `GATE`, and a fork waits until all
of them have left it. Facts: POSIX fork, Python's os.register_at_fork.
"""

import os
import threading
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import TracebackType

from cjkclip.errors import EngineError

WAIT = 5.0  # seconds that a fork waits for running calls


class Lock:
    """A lock that is open in a forked child, whoever held it at the fork."""

    def __init__(self) -> None:
        self._lock, self._process = threading.Lock(), os.getpid()

    def __enter__(self) -> None:
        """Wait until the lock is open, and close it."""
        if self._process != os.getpid():  # the child begins with one thread, so nobody else does this too
            self._lock, self._process = threading.Lock(), os.getpid()
        self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Open the lock."""
        self._lock.release()


class Gate:
    """Calls that a fork waits for. Use the one of this module, `GATE`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = Counter[int]()  # calls of each thread; they may be nested
        self._forks = 0  # that wait; no new call begins meanwhile
        self.caught = False  # whether this process was forked in the middle of a call

    @contextmanager
    def call(self) -> Generator[None]:
        """Finish this block before the process forks."""
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: not self._forks or self._inside[me])
            self._inside[me] += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside[me] -= 1
                self._changed.notify_all()

    def require_whole(self) -> None:
        """Raise EngineError in a child that was forked while another thread computed for longer than `WAIT`."""
        if self.caught:
            raise EngineError(
                "this process was forked while another thread was computing, and the libraries of the engine cannot "
                "go on from there. Fork before the first call or between calls, use engine='numpy', or start processes "
                "with multiprocessing.get_context('spawn')"
            )

    def others(self) -> bool:
        """Whether another thread is inside."""
        return any(count for thread, count in self._inside.items() if thread != threading.get_ident())

    def before(self) -> None:
        """Wait until no other thread is inside, at most `WAIT` seconds. The gate is locked until after the fork."""
        self._changed.acquire()
        self._forks += 1
        self._changed.wait_for(lambda: not self.others(), WAIT)

    def after_in_parent(self) -> None:
        """Let calls begin again."""
        self._forks -= 1
        self._changed.notify_all()
        self._changed.release()

    def after_in_child(self) -> None:
        """Forget the calls of threads that do not exist here."""
        me, caught = threading.get_ident(), self.caught or self.others()
        mine = self._inside[me]
        self._changed, self._forks, self.caught = threading.Condition(), 0, caught
        self._inside = Counter({me: mine})


GATE = Gate()
with suppress(AttributeError):  # Windows cannot fork
    os.register_at_fork(before=GATE.before, after_in_parent=GATE.after_in_parent, after_in_child=GATE.after_in_child)
