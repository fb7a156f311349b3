"""Threads of this process: how many cores it may use, work spread over them, and a wait that Ctrl-C can end."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

_A = TypeVar("_A")
_B = TypeVar("_B")


def cores() -> int:
    """How many cores this process may use, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_every_core(run: Callable[[_A], _B], items: Sequence[_A], name: str) -> list[_B]:
    """`run` of every item, in order, in as many threads as there are cores to use; `name` begins the threads' names.

    For work outside Python's lock: decoding images, computing digests.
    """
    workers = min(len(items), cores())
    if workers < 2:
        return [run(item) for item in items]
    with ThreadPoolExecutor(workers, name) as pool:
        return list(pool.map(run, items))


def result(work: Future[_A]) -> _A:
    """The result of a thread's work. On Windows nothing interrupts a wait, so this one ends five times a second."""
    while not work.done():
        wait([work], timeout=0.2)
    return work.result()
