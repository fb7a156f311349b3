"""Cores that this process may use, and work spread over them."""

import os
import threading
import tracemalloc
from pathlib import Path

import pytest

from cjkclip.machine import limits, threads
from support.processes import printed

BOUND = """
import os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from cjkclip.machine import limits
print(limits.cores())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux to give a process fewer cores")
def test_a_process_bound_to_one_core_may_use_one() -> None:
    assert printed("-c", BOUND) == "1\n"


def test_without_affinity_every_core_of_the_machine_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert limits.cores(tmp_path) == 64


@pytest.mark.parametrize(("usable", "items", "most"), [(1, 5, 0), (2, 5, 2), (64, 3, 3), (64, 1, 0), (2, 0, 0)])
def test_work_takes_no_more_threads_than_cores_or_items(
    usable: int, items: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pool of one thread would only add a hand-over: such work runs in the thread of the caller."""
    monkeypatch.setattr(threads, "cores", lambda: usable)
    seen = set[str]()
    meet = threading.Barrier(max(most, 1))  # every thread of the pool has to come, so that all are counted

    def run(item: int) -> int:
        if item < most:
            meet.wait(timeout=10)
        seen.add(threading.current_thread().name)
        return item * item

    assert threads.on_every_core(run, range(items), "test-cores") == [item * item for item in range(items)]
    ours = {name for name in seen if name.startswith("test-cores")}
    assert len(ours) == most
    assert bool(seen - ours) == (items > 0 and most == 0)


def test_an_error_in_a_thread_reaches_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)
    with pytest.raises(ZeroDivisionError):
        threads.on_every_core(lambda item: 1 // item, [1, 0, 2], "test-cores")


def test_the_items_that_wait_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)
    tracemalloc.start()
    try:
        assert threads.on_every_core(lambda _: None, range(20_000), "many") == [None] * 20_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20  # 20,000 at once take more than 25 MB
