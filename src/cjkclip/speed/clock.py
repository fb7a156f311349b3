"""Timing on a machine where others work too: one call to warm up, then calls in turn, and medians."""

import math
import statistics
import time
from collections.abc import Callable, Sequence

FEWEST = 2  # rounds, however long one takes


def medians(calls: Sequence[Callable[[], object]], rounds: int, budget: float = math.inf) -> list[float]:
    """Median seconds of each call: all of them in turn, `rounds` times after a warming one.

    No round begins when `budget` seconds are spent on those that count, but `FEWEST` are always made.
    """
    times: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call()
    for turn in range(rounds):
        if turn >= FEWEST and sum(map(sum, times)) > budget:
            break
        for call, seen in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            seen.append(time.perf_counter() - start)
    return [statistics.median(seen) for seen in times]
