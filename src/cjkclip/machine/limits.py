"""Cores and memory that this process may use: of the machine, of its container (cgroup), and of its own limits.

Facts: Linux's cgroup v1 and v2 (cpu.max, memory.max; cpu.cfs_quota_us, memory.limit_in_bytes), proc(5). A limit of any
group above the process holds for it too.
"""

import functools
import math
import os
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path

ROOT = Path("/")
UNKNOWN = 4 << 30  # bytes, for a system that does not say how much memory is free
_threads: ContextVar[int | None] = ContextVar("threads", default=None)


def cores(root: Path = ROOT) -> int:
    """Return the number of threads to use: those of `using`, else the cores that this process may use.

    These are the cores that it is bound to, at most the quota of its container, rounded up.
    """
    return _threads.get() or max(1, min(bound_to(), _quota(root)))


@contextmanager
def using(threads: int | None) -> Generator[None]:
    """Let `cores` return this number inside the block, in this thread. None changes nothing."""
    before = _threads.set(threads or _threads.get())
    try:
        yield
    finally:
        _threads.reset(before)


def bound_to() -> int:
    """Return the number of cores that this process is bound to (affinity), else those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory(root: Path = ROOT) -> int:
    """Return the bytes that this process may still allocate: free memory, and what its groups and limits leave."""
    return max(0, min([_free(root), *_room(root), *_own_limit(root)]))


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the directories of this process's groups, innermost first: of cgroup v2, or of a controller of v1."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, names, path = (*line.split(":", 2), "", "")[:3]
        if names and controller not in names.split(","):
            continue
        home = root / "sys/fs/cgroup" / (controller if names else "")
        inner = home / path.strip("/")
        yield from (group for group in (inner, *inner.parents) if group.is_relative_to(home))


@functools.cache
def _quota(root: Path) -> int:
    """Return the smallest quota of the groups in whole cores, read once: pools ask for it at every call."""
    return min(map(math.ceil, _quotas(root)), default=sys.maxsize)


def _quotas(root: Path) -> Iterator[float]:
    """Yield the cores that each group may use, where it has a quota."""
    for group in _groups(root, "cpu"):
        words = _text(group / "cpu.max").split()  # "max 100000", or microseconds of a period
        words = words or [*_text(group / "cpu.cfs_quota_us").split(), *_text(group / "cpu.cfs_period_us").split()]
        quota, period = (_number(word) for word in [*words, "", ""][:2])
        if quota and period:
            yield quota / period


def _room(root: Path) -> Iterator[int]:
    """Yield the bytes that each group has left, where it has a limit."""
    names = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
    for group in _groups(root, "memory"):
        for most, used in names:
            limit = _number(_text(group / most).strip())
            if limit:
                yield limit - _number(_text(group / used).strip())


def _free(root: Path) -> int:
    """Return the free memory of the machine."""
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return _number(line.split()[1]) << 10
    with suppress(ValueError, OSError, AttributeError):  # systems without /proc; Windows has no sysconf
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    return UNKNOWN


def _own_limit(root: Path) -> Iterator[int]:
    """Yield what the limit of the address space leaves, if there is one."""
    with suppress(ImportError):  # Windows
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            pages = _number((_text(root / "proc/self/statm").split() or ["0"])[0])
            yield limit - pages * resource.getpagesize()


def _text(path: Path) -> str:
    """Return the content of a small file of the system; "" if it cannot be read."""
    with suppress(OSError):
        return path.read_text(encoding="ascii", errors="replace")
    return ""


def _number(word: str) -> int:
    """Return a number of a system file; 0 for "max", -1 and other words, which set no limit."""
    return int(word) if word.isdecimal() else 0
