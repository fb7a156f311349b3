"""Time two calls in turn (A B A B) and compare their medians: the ratio is reliable even on a busy machine."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from cjkclip import Clip
from cjkclip.speed.clock import medians
from cjkclip.speed.products import matrix_rate


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison. Times are medians in seconds of one call."""

    job: str
    ours: str  # ends with engine and precision if an engine runs
    peer: str
    ours_s: float
    peer_s: float
    difference: float  # largest absolute difference of the two results
    flops: int | None = None  # of one call, from cjkclip.speed.work; None if no tower runs
    limit: float | None = None  # GFLOP/s of matrix products alone, in the engine and precision of `ours`
    aim: str = ""  # how many times faster it should be, from bench/aims.py

    @property
    def ratio(self) -> float:
        """How many times faster cjkclip is."""
        return self.peer_s / self.ours_s

    @property
    def share(self) -> float | None:
        """The share of the machine's matrix rate that cjkclip reaches."""
        return None if self.flops is None or self.limit is None else self.flops / self.ours_s / self.limit / 1e9


def used(name: str, clip: Clip) -> str:
    """Return the name of cjkclip's side of a row: the setting, then its engine and precision on this machine."""
    return f"{name}: {clip.engine.name} {clip.engine.precision}"


def worked(row: Row, flops: int) -> Row:
    """Return the row with its FLOPs and the matrix rate, measured directly afterwards because the machine is shared."""
    engine, precision = row.ours.split()[-2:]
    return replace(row, flops=flops, limit=matrix_rate(engine, precision, rounds=3))


def alternate(a: Callable[[], object], b: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the median seconds of a and b, called in turn after one warm-up call each."""
    first, second = medians([a, b], rounds)
    return first, second


def percent(share: float | None) -> str:
    """Return a share as text for a table, or an empty string for None."""
    return "" if share is None else f"{share:.0%}"


def markdown(rows: list[Row]) -> str:
    """Return the table of docs/benchmarks.md."""
    last = "share of the matrix rate | largest difference"
    lines = [f"| job | cjkclip | peer | ms | peer ms | times faster | aim | {last} |", "|---" * 9 + "|"]
    for row in rows:
        times = (f"{row.ours_s * 1e3:.1f}", f"{row.peer_s * 1e3:.1f}", f"{row.ratio:.2f}", row.aim)
        difference = "" if math.isnan(row.difference) else f"{row.difference:.1e}"
        lines.append(f"| {' | '.join((row.job, row.ours, row.peer, *times))} | {percent(row.share)} | {difference} |")
    return "\n".join(lines)
