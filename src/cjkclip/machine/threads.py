"""Threads: work on every core of this process, and a wait that Ctrl-C can end."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

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
    with ThreadPoolExecutor(workers, name) as pool:
        parts = (items[start : start + PART] for start in range(0, len(items), PART))
        return [result for part in parts for result in pool.map(run, part)]


def result(work: Future[_A]) -> _A:
    """Return the result of a thread. Windows cannot interrupt a wait, so each wait ends after a fifth of a second."""
    while not work.done():
        wait([work], timeout=0.2)
    return work.result()
