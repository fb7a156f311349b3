"""Threads: work on every core of this process, a wait that Ctrl-C can end, and calls that another thread can end."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import Any, Generic, TypeVar, cast

from cjkclip.errors import CancelledError
from cjkclip.machine.limits import cores

PART = 1024  # items that wait for a thread at the same time: each of them takes about 2 KB
_A = TypeVar("_A")
_B = TypeVar("_B")


def on_every_core(run: Callable[[_A], _B], items: Sequence[_A], name: str) -> list[_B]:
    """Return `run` of every item, in order, computed in one thread for each core. `name` is the threads' name prefix.

    For work that releases Python's global lock: decoding images, computing digests.
    """
    workers = min(len(items), cores())
    if workers < 2:
        return [run(item) for item in items]
    results: list[_B] = []
    with ThreadPoolExecutor(workers, name) as pool:
        for start in range(0, len(items), PART):
            futures = [submit(pool, run, item) for item in items[start : start + PART]]
            try:
                results += [future.result() for future in futures]
            finally:
                for future in futures:  # after an error the rest need not run
                    future.cancel()
    return results


def submit(pool: ThreadPoolExecutor, run: Callable[[_A], _B], item: _A) -> Future[_B]:
    """Start `run(item)` in a pool, with the context variables of this thread.

    Python closes all pools when the main thread ends; a thread that outlives it then does the work itself.
    """
    try:
        return pool.submit(copy_context().run, run, item)
    except RuntimeError:
        if threading.main_thread().is_alive():
            raise
    return Here().submit(run, item)


class lazy(Generic[_A]):  # noqa: N801 named like property
    """`functools.cached_property` without its lock: on Python 3.11 all objects of a class share one."""

    def __init__(self, func: Callable[[Any], _A]) -> None:
        self.func, self.__doc__ = func, func.__doc__

    def __get__(self, owner: Any, kind: type | None = None) -> _A:
        """Compute the value and keep it in the object, which then hides this property."""
        if owner is None:
            return cast(_A, self)
        value = owner.__dict__[self.func.__name__] = self.func(owner)
        return value


class Here(Executor):
    """Run calls immediately, in the thread of the caller."""

    def submit(self, fn: Callable[..., _B], /, *args: Any, **kwargs: Any) -> Future[_B]:
        """Call `fn` and return its finished future; exceptions propagate."""
        done = Future[_B]()
        done.set_result(fn(*args, **kwargs))
        return done


def require_running(*events: threading.Event | None) -> None:
    """Raise CancelledError if one of the events is set."""
    if any(event is not None and event.is_set() for event in events):
        raise CancelledError("the call ended early, because the event that it got as `cancel` was set")


def result(work: Future[_A]) -> _A:
    """Return the result of a thread. Windows cannot interrupt a wait, so each wait ends after a fifth of a second."""
    while not work.done():
        wait([work], timeout=0.2)
    return work.result()
