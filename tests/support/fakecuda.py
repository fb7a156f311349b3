"""A CPU stand-in for the part of torch.cuda that `engines/torch/gpu.py` uses: calls are synchronous, graphs replay.

A graph keeps the operations that ran during its recording, with the tensors they read and wrote, and repeats exactly
those. Like a real graph, it ignores Python code, new inputs, and numbers that a program read meanwhile.
"""

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from cjkclip.engines.torch import gpu


class Event:
    def record(self, stream: Any) -> None: ...

    def synchronize(self) -> None: ...


class Stream:
    def __init__(self, device: str = "cpu") -> None: ...

    def synchronize(self) -> None: ...

    def wait_event(self, event: Event) -> None: ...

    def wait_stream(self, stream: "Stream") -> None: ...


class CUDAGraph:
    """A recording of operations that can be replayed."""

    made = 0  # number of all graphs, for tests to count

    def __init__(self) -> None:
        self.done: list[tuple[Any, Any, Any, Any]] = []
        self.replayed = 0
        CUDAGraph.made += 1

    def replay(self) -> None:
        self.replayed += 1
        for func, args, kwargs, out in self.done:
            again = func(*args, **kwargs)
            for old, new in zip(tree_flatten(out)[0], tree_flatten(again)[0], strict=True):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Recorder(TorchDispatchMode):
    def __init__(self, graph: CUDAGraph) -> None:
        super().__init__()
        self.graph = graph

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        assert func is not torch.ops.aten._local_scalar_dense.default, "a graph cannot hand numbers to Python"
        self.graph.done.append((func, args, kwargs or {}, out))
        return out


RECORDING = threading.Lock()
POOLS: list[object] = []
STREAMS: dict[int, Stream] = {}  # the stream of the recordings of each pool


def graph_pool_handle() -> object:
    POOLS.append(object())
    return POOLS[-1]


@contextmanager
def graph(made: CUDAGraph, pool: object, stream: Stream, capture_error_mode: str) -> Generator[None]:
    assert capture_error_mode == "thread_local"  # in this mode other threads may continue to use the device
    assert pool is POOLS[-1]
    assert STREAMS.setdefault(id(pool), stream) is stream  # with different streams the pool would not be shared
    assert RECORDING.acquire(blocking=False), "one recording at a time in a process"
    try:
        with Recorder(made):
            yield
    finally:
        RECORDING.release()


def stream(_: Stream) -> Any:
    return nullcontext()


def device(_: str) -> Any:
    return nullcontext()


def empty_cache() -> None: ...


def current_stream() -> Stream:
    return Stream()


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace torch.cuda by this module, with the count of graphs at zero."""
    monkeypatch.setattr(gpu, "cuda", sys.modules[__name__])
    monkeypatch.setattr(gpu, "PINNED", False)
    monkeypatch.setattr(CUDAGraph, "made", 0)
