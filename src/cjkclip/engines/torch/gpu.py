"""Calls of a tower on a CUDA device: split into parts of a few sizes, copied ahead, and replayed as CUDA graphs.

This module only schedules; the arithmetic is the tower's. Rows go through page-locked memory on a separate stream. A
shape that is called again is recorded as a CUDA graph, which the device runs without waiting for Python. The blocks of
a tower are compiled after `COMPILE_AFTER` seconds of work. If either fails, the plain call is used and the log says so.
If a part is out of memory, all else on the device is freed and it runs again, the next time with half the rows.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from subprocess import SubprocessError
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, cuda, nn

from cjkclip.engines.torch import compiling
from cjkclip.engines.torch.arithmetic import TURN, arithmetic

SIZES = (1, 2, 4, 8, 16, 32, 48, 64)  # rows of a part; a smaller part is padded with copies of its last row
HOT = 2  # calls of a shape until it is recorded
KEPT = 12  # recorded shapes of a tower
STEP = 8  # tokens; texts are padded to a multiple of it
OFTEN = 2  # a shape replaces recordings if it is called this many times as often as the rarest of them
COMPILE_AFTER = 30.0  # seconds of work in a tower; compiling takes about as long as it saves in as much time again
COMPILATIONS = 64  # of one kind of block, for all towers of a process; torch's own limit is 8
WARM = 2  # runs before a recording, in which libraries allocate their permanent buffers
PINNED = True  # page-locked memory, which needs a driver
NO_MEMORY = ("out of memory", "ALLOC_FAILED")  # parts of CUDA's error messages
# errors of compilation besides out of memory: RuntimeError from torch, the others from compilers and linkers
FAILED = (RuntimeError, OSError, ImportError, AttributeError, TypeError, ValueError, AssertionError, SubprocessError)
_LOG = logging.getLogger(__name__)


def parts(rows: int, most: int) -> Iterator[tuple[slice, int]]:
    """Yield the rows of each part, at most `most`, and the size that it is padded to.

    >>> [(rows.stop - rows.start, size) for rows, size in parts(141, 64)]
    [(64, 64), (64, 64), (13, 16)]
    """
    for start in range(0, rows, most):
        count = min(most, rows - start)
        yield slice(start, start + count), next(size for size in SIZES if size >= count)


Shapes = tuple[torch.Size, ...]  # of the inputs of a call
Place = tuple[int, torch.Size, torch.dtype]  # number of an input, its shape and type


def wider(ids: np.ndarray, mask: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Pad texts (n, L) to a multiple of `STEP` tokens, at most `most`, so that there are few lengths.

    The last id is repeated, which is then never the first id of its value, and the mask is 0 there.

    >>> wider(np.array([[1, 9, 9]]), np.array([[1, 1, 0]]), 5)[0].tolist()
    [[1, 9, 9, 9, 9]]
    """
    more = max(0, min(-ids.shape[1] % STEP, most - ids.shape[1]))
    return np.pad(ids, ((0, 0), (0, more)), "edge"), np.pad(mask, ((0, 0), (0, more)))


def is_short(error: BaseException) -> bool:
    """Whether an allocation failed. torch has a class for its own failures, but not for those of CUDA's libraries.

    If one fails during a recording, the error may be that of the recording, with the failure as its context.
    """
    short = isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in NO_MEMORY)
    return short or (error.__context__ is not None and is_short(error.__context__))


class Lane:
    """Buffers for one part on the host and on the device, which are reused after each copy has ended."""

    def __init__(self) -> None:
        self.host: dict[Place, Tensor] = {}
        self.device: dict[Place, Tensor] = {}
        self.sent = cuda.Event()  # after this event `host` may be overwritten
        self.read = cuda.Event()  # after this event `device` may be overwritten


class Feeder:
    """Copy parts to the device through two lanes in turn: one is filled while the other is computed."""

    def __init__(self, device: str) -> None:
        self._device, self._stream = device, cuda.Stream(device)
        self._lanes, self._turn = (Lane(), Lane()), 0

    def send(self, arrays: Sequence[np.ndarray], size: int, floats: torch.dtype) -> list[Tensor]:
        """Copy rows, padded to `size` and as type `floats`. The tensors are valid until the next call but one."""
        lane, self._turn = self._lanes[self._turn], 1 - self._turn
        lane.sent.synchronize()  # the host may overwrite page-locked memory only after its last copy has ended
        host = [_pinned(lane, place, array, (size, floats)) for place, array in enumerate(arrays)]
        copies: list[Tensor] = []
        # From here on only the device waits: the copy for the tower's last read of this lane, then the tower for the
        # copy. Python prepares the next part meanwhile.
        self._stream.wait_event(lane.read)
        with cuda.stream(self._stream):
            for place, tensor in enumerate(host):
                key = place, tensor.shape, tensor.dtype
                if key not in lane.device:
                    lane.device[key] = torch.empty_like(tensor, device=self._device)
                copies.append(lane.device[key].copy_(tensor, non_blocking=True))
            lane.sent.record(self._stream)
        cuda.current_stream().wait_event(lane.sent)
        return copies

    def computed(self) -> None:
        """Mark the point at which the device has read the part that was sent last."""
        self._lanes[1 - self._turn].read.record(cuda.current_stream())


def _pinned(lane: Lane, place: int, array: np.ndarray, form: tuple[int, torch.dtype]) -> Tensor:
    """Copy the rows of an input into page-locked memory, padded and converted."""
    rows = torch.from_numpy(np.require(array, requirements=["C", "W"]))  # torch warns about read-only arrays
    size, floats = form
    key = place, torch.Size((size, *rows.shape[1:])), floats if rows.is_floating_point() else rows.dtype
    if key not in lane.host:
        lane.host[key] = torch.empty(key[1], dtype=key[2], device="cpu", pin_memory=PINNED)
    pinned = lane.host[key]
    pinned[: len(rows)].copy_(rows)
    pinned[len(rows) :].copy_(rows[-1:])
    return pinned


class CaptureError(RuntimeError):
    """A recording failed, after which torch 2.12 and older may be unable to make another one."""


class Recorded:
    """A tower's call of one shape as a CUDA graph. The next call overwrites the tensor that it returned.

    Recordings that never run at the same time may share a `pool`. They then have to be made on the same stream `aside`,
    since the intermediate tensors of all of them occupy the same memory.
    """

    def __init__(self, tower: nn.Module, inputs: Sequence[Tensor], pool: Any, aside: Any) -> None:
        self._inputs = [tensor.clone() for tensor in inputs]
        aside.wait_stream(cuda.current_stream())
        with cuda.stream(aside):  # `cuda.graph` alone would not leave the stream after a failure
            for _ in range(WARM):
                tower(*self._inputs)
            self._graph = cuda.CUDAGraph()
            try:
                # torch 2.10 and older create their random state here; the program may need it outside inference mode
                with (
                    torch.inference_mode(False),
                    cuda.graph(self._graph, pool=pool, stream=aside, capture_error_mode="thread_local"),
                    torch.inference_mode(),
                ):
                    self._output = tower(*self._inputs)
            except RuntimeError as error:
                raise CaptureError(str(error)) from error
        cuda.current_stream().wait_stream(aside)

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor:
        """Replay the recording on new inputs."""
        for recorded, tensor in zip(self._inputs, inputs, strict=True):
            recorded.copy_(tensor)
        self._graph.replay()
        return self._output


class Recordings:
    """Calls of a tower, recorded for shapes that are called again, up to `KEPT` of them."""

    def __init__(self, tower: nn.Module, device: str) -> None:
        self._tower, self._aside = tower, cuda.Stream(device)
        self._pool: Any = None
        self._calls: Counter[Shapes] = Counter()
        self._recorded: dict[Shapes, Recorded] = {}
        self._failed: set[Shapes] = set()
        self._can_record = True

    def __call__(self, inputs: list[Tensor]) -> Tensor:
        """Run the tower: replay a recording, make one, or call it plainly."""
        key = tuple(tensor.shape for tensor in inputs)
        self._calls[key] += 1
        if key not in self._recorded:
            if self._calls[key] < HOT or not self._can_record or key in self._failed or not self._room(key):
                return self._plain(inputs)
            if not self._recorded:  # a pool is freed with its last recording
                self._pool = cuda.graph_pool_handle()
            try:
                self._recorded[key] = Recorded(self._tower, inputs, self._pool, self._aside)
            except RuntimeError as error:
                _LOG.info("not recording %s for this GPU: %.200s", [tuple(shape) for shape in key], error)
                self._failed.add(key)
                # Out of memory concerns this shape alone. After any other failed recording torch 2.12 and older may be
                # unable to record again (pytorch/pytorch#180395), so it is the last one of this tower.
                self._can_record = is_short(error) or not isinstance(error, CaptureError)
        return self._recorded.get(key, self._plain)(inputs)

    def _plain(self, inputs: Sequence[Tensor]) -> Tensor:
        return self._tower(*inputs)

    def clear(self) -> None:
        """Delete all recordings and free their memory."""
        cuda.current_stream().synchronize()
        self._recorded.clear()
        self._failed.clear()

    def _room(self, key: Shapes) -> bool:
        """Whether a shape may be recorded: it is among the `KEPT` most frequent ones. May delete recordings for it."""
        count = self._calls[key]
        if sum(other > count for other in self._calls.values()) >= KEPT:
            return False
        if len(self._recorded) < KEPT:
            return True
        # A recording costs more than it saves in a few calls: shapes of similar frequency must not replace each other.
        if count < OFTEN * min(self._calls[shapes] for shapes in self._recorded):
            return False
        # All go: if a single one is deleted, torch frees cuBLAS memory that the others use (pytorch/pytorch#193402).
        self.clear()
        return True


class Runner:
    """Run a tower; threads take turns. It needs a tower of its own, since compiling replaces the blocks."""

    def __init__(self, tower: nn.Module, precision: str, device: str) -> None:
        self._tower, self._precision, self._device = tower, precision, device
        self._floats = torch.bfloat16 if precision == "bf16" else torch.float32
        self._most = SIZES[-1]  # rows of a part; halved when the device is out of memory
        self._seconds, self._tried_compiling, self._compiled = 0.0, False, False
        self._feeder: Feeder | None = None
        self._recordings: Recordings | None = None

    def __call__(self, *arrays: np.ndarray) -> np.ndarray:
        """Return the features of rows, (n, E) float32. Raises torch's RuntimeError if a single row is out of memory."""
        if len(arrays) == 2:
            arrays = wider(*arrays, cast(Any, self._tower).config.context)
        with TURN, cuda.device(self._device), arithmetic(self._precision, self._device):
            if not self._tried_compiling and self._seconds > COMPILE_AFTER:
                self._compile()
            freed = False
            while True:
                try:
                    return self._compiled_or_plain(arrays)
                except RuntimeError as error:
                    if not is_short(error) or (freed and self._most == 1):
                        raise
                # Outside the handler, since an exception that is being handled keeps tensors of the failed call alive.
                self._most //= 2 if freed else 1
                self._free()
                freed = True

    def _compiled_or_plain(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        if self._compiled:
            try:
                with torch._dynamo.config.patch(cache_size_limit=COMPILATIONS):  # pyright: ignore[reportPrivateUsage]
                    return self._features(arrays)
            except torch.OutOfMemoryError:
                raise
            except FAILED as error:  # out of memory too, if it was the compiler
                _LOG.info("not compiling the model for this GPU: %.200s", error)
            compiling.plain_blocks(self._tower)
            self._compiled = False
            self._free()
        return self._features(arrays)

    def _features(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Compute the parts one after the other."""
        start = time.perf_counter()
        feeder = self._feeder = self._feeder or Feeder(self._device)
        call = self._recordings = self._recordings or Recordings(self._tower, self._device)
        outputs: list[Tensor] = []
        for rows, size in parts(len(arrays[0]), self._most):
            output = call(feeder.send([array[rows] for array in arrays], size, self._floats))
            feeder.computed()
            # A copy, since a replay overwrites `output`.
            outputs.append(output[: rows.stop - rows.start].to(torch.float32, copy=True))
        features = torch.cat(outputs).cpu().numpy()
        self._seconds += time.perf_counter() - start
        return features

    def _free(self) -> None:
        """Free the device's memory except the tower itself."""
        if self._recordings is not None:
            self._recordings.clear()
        self._feeder = None
        with suppress(RuntimeError):  # torch 2.12 and older cannot after a failed recording
            cuda.empty_cache()

    def _compile(self) -> None:
        """Compile the blocks, with one compilation for all of them, and delete recordings of the plain blocks."""
        self._tried_compiling = True
        if not compiling.units(self._tower):
            return
        if (missing := compiling.lacking()) is not None:
            _LOG.info("not compiling the model for this GPU: this machine has no %s", missing)
            return
        _LOG.info("compiling the model for this GPU, once, which takes some seconds")
        compiling.compile_blocks(self._tower)
        self._compiled = True
        self._free()
