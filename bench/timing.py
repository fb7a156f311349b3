"""Two contestants in one run, A B A B, and the ratio of their medians: what a noisy machine allows one to say."""

import math
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Row:
    """One comparison. Times are medians in seconds of one call."""

    job: str
    ours: str
    peer: str
    ours_s: float
    peer_s: float
    difference: float  # largest absolute difference of the two results

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.peer_s / self.ours_s


def alternate(a: Callable[[], object], b: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Median seconds of a and of b, called in turn after one warming call each."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for call, seen in zip((a, b), times, strict=True):
            start = time.perf_counter()
            call()
            if turn:
                seen.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def machine() -> str:
    """The processor, its cores and the packages, in one line."""
    import os
    from importlib.metadata import version

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    packages = ", ".join(f"{name} {version(name)}" for name in ("openvino", "torch", "transformers", "numpy"))
    return f"{cpu}, {os.cpu_count()} cores; Python {platform.python_version()}; {packages}"


def markdown(rows: list[Row]) -> str:
    """The table as it stands in docs/benchmarks.md."""
    lines = [
        "| job | cjkclip | peer | ms | peer ms | times faster | largest difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = (row.job, row.ours, row.peer, f"{row.ours_s * 1e3:.1f}", f"{row.peer_s * 1e3:.1f}")
        difference = "" if math.isnan(row.difference) else f"{row.difference:.1e}"
        lines.append(f"| {' | '.join(cells)} | {row.ratio:.2f} | {difference} |")
    return "\n".join(lines)
