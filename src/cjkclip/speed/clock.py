"""Timing on a shared machine: one warm-up call, then calls in turn, and medians."""

import math
import statistics
import time
from collections.abc import Callable, Sequence

FEWEST = 2  # rounds, even if they exceed the budget


def medians(calls: Sequence[Callable[[], object]], rounds: int, budget: float = math.inf) -> list[float]:
    """Return the median seconds of each call. After a warm-up, all calls run in turn, `rounds` times.

    No round starts after `budget` seconds of counted calls, but at least `FEWEST` rounds run.
    """
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for turn in range(rounds):
        if turn >= FEWEST and sum(map(sum, times)) > budget:
            break
        for call, seconds in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in times]
