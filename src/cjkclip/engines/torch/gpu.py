"""A tower on a CUDA device: calls cut into parts of a few sizes, sent while the part before is computed, and replayed.

A part's rows are laid into page-locked memory and sent by a stream of their own. A shape that comes again is recorded
as a CUDA graph, which the device then runs without waiting for Python. A tower that has worked for `COMPILE_AFTER`
seconds gets compiled blocks: that takes about as long as it saves in as much time again. Threads take turns.

Everything here is about when and where; the arithmetic is the tower's. What only makes it faster may fail: a shape that
cannot be recorded, or blocks that cannot be compiled here, run plainly from then on, and the log says so. A part that
does not fit into the device's memory is tried again when all else there was let go of, then with half the rows, as are
all that follow.
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

SIZES = (1, 2, 4, 8, 16, 32, 48, 64)  # rows of a part; a smaller one is filled up with its last row
HOT = 2  # calls of one shape, from which on it is recorded
KEPT = 12  # recorded shapes of a tower
STEP = 8  # tokens; lengths of texts are filled up to a multiple of it
OFTEN = 2  # times as often as the rarest of those a shape has to come for them to make room
COMPILE_AFTER = 30.0  # seconds of work in one tower
COMPILATIONS = 64  # of one kind of block, over all towers of a process; torch's own limit is 8
WARM = 2  # runs before a recording, in which libraries allocate what they keep
PINNED = True  # page-locked memory; there is none without a driver
NO_MEMORY = ("out of memory", "ALLOC_FAILED")  # in the texts of CUDA's errors
# what compiling may end in besides want of memory: RuntimeErrors of torch, the rest of compilers and linkers
FAILED = (RuntimeError, OSError, ImportError, AttributeError, TypeError, ValueError, AssertionError, SubprocessError)
_LOG = logging.getLogger(__name__)


def parts(rows: int, most: int) -> Iterator[tuple[slice, int]]:
    """Which rows go together, at most so many, and how many the part is filled up to.

    >>> [(rows.stop - rows.start, size) for rows, size in parts(141, 64)]
    [(64, 64), (64, 64), (13, 16)]
    """
    for start in range(0, rows, most):
        count = min(most, rows - start)
        yield slice(start, start + count), next(size for size in SIZES if size >= count)


Shapes = tuple[torch.Size, ...]  # of a call's inputs
Place = tuple[int, torch.Size, torch.dtype]  # which input it is, and what it is like


def wider(ids: np.ndarray, mask: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Texts (n, L) filled up to a multiple of `STEP` tokens, at most `most`, so that few lengths come up.

    The last id comes again, which is never the first of its kind, and the mask hides it.

    >>> wider(np.array([[1, 9, 9]]), np.array([[1, 1, 0]]), 5)[0].tolist()
    [[1, 9, 9, 9, 9]]
    """
    more = max(0, min(-ids.shape[1] % STEP, most - ids.shape[1]))
    return np.pad(ids, ((0, 0), (0, more)), "edge"), np.pad(mask, ((0, 0), (0, more)))


def is_short(error: BaseException) -> bool:
    """Did an allocation fail? torch has a class for its own ones and none for those of CUDA and its libraries.

    One that failed in the middle of a recording may be told by how the recording ended, with itself as the context.
    """
    short = isinstance(error, torch.OutOfMemoryError) or any(sign in str(error) for sign in NO_MEMORY)
    return short or (error.__context__ is not None and is_short(error.__context__))


class Lane:
    """Memory for one part on both sides. It is kept: what is on its way needs it to stay."""

    def __init__(self) -> None:
        self.here: dict[Place, Tensor] = {}
        self.there: dict[Place, Tensor] = {}
        self.sent = cuda.Event()  # from then on `here` may be written again
        self.read = cuda.Event()  # from then on `there` may be


class Feeder:
    """Parts on their way to the device, in two lanes by turns: one is filled while the other is computed."""

    def __init__(self, device: str) -> None:
        self._device, self._stream = device, cuda.Stream(device)
        self._lanes, self._turn = (Lane(), Lane()), 0

    def send(self, arrays: Sequence[np.ndarray], size: int, floats: torch.dtype) -> list[Tensor]:
        """Rows on the device, filled up to `size`, until the next but one is sent. Floating point becomes `floats`."""
        lane, self._turn = self._lanes[self._turn], 1 - self._turn
        lane.sent.synchronize()
        here = [_laid(lane, place, array, (size, floats)) for place, array in enumerate(arrays)]
        there: list[Tensor] = []
        self._stream.wait_event(lane.read)
        with cuda.stream(self._stream):
            for place, tensor in enumerate(here):
                key = place, tensor.shape, tensor.dtype
                if key not in lane.there:
                    lane.there[key] = torch.empty_like(tensor, device=self._device)
                there.append(lane.there[key].copy_(tensor, non_blocking=True))
            lane.sent.record(self._stream)
        cuda.current_stream().wait_event(lane.sent)
        return there

    def computed(self) -> None:
        """What was sent last has been read, once the device gets here."""
        self._lanes[1 - self._turn].read.record(cuda.current_stream())


def _laid(lane: Lane, place: int, array: np.ndarray, wanted: tuple[int, torch.dtype]) -> Tensor:
    """The rows of an input in page-locked memory, filled up and converted on the way."""
    rows = torch.from_numpy(np.require(array, requirements=["C", "W"]))  # torch warns of arrays that are read-only
    size, floats = wanted
    key = place, torch.Size((size, *rows.shape[1:])), floats if rows.is_floating_point() else rows.dtype
    if key not in lane.here:
        lane.here[key] = torch.empty(key[1], dtype=key[2], device="cpu", pin_memory=PINNED)
    laid = lane.here[key]
    laid[: len(rows)].copy_(rows)
    laid[len(rows) :].copy_(rows[-1:])
    return laid


class CaptureError(RuntimeError):
    """A recording broke off, after which torch 2.12 and older may not be fit to make another one."""


class Recorded:
    """A tower's call of one shape as a CUDA graph. What it returns is overwritten by the next call.

    Recordings that never run at once may share a `pool`, and then have to share the stream `aside` that they are made
    on: what one of them computes on the way lies where another's did.
    """

    def __init__(self, tower: nn.Module, inputs: Sequence[Tensor], pool: Any, aside: Any) -> None:
        self._inputs = [tensor.clone() for tensor in inputs]
        aside.wait_stream(cuda.current_stream())
        with cuda.stream(aside):  # which is left again even if the recording fails, as `cuda.graph` would not
            for _ in range(WARM):
                tower(*self._inputs)
            self._graph = cuda.CUDAGraph()
            try:
                # torch 2.10 and older make the state of their random numbers here, which the program may need elsewhere
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
        """Replay it on other numbers."""
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given)
        self._graph.replay()
        return self._output


class Recordings:
    """A tower's calls, recorded where a shape comes again, as long as there is room."""

    def __init__(self, tower: nn.Module, device: str) -> None:
        self._tower, self._aside = tower, cuda.Stream(device)
        self._pool: Any = None
        self._seen: Counter[Shapes] = Counter()
        self._recorded: dict[Shapes, Recorded] = {}
        self._refused: set[Shapes] = set()
        self._fit = True  # to record anything

    def __call__(self, inputs: list[Tensor]) -> Tensor:
        """The tower's answer, by the fastest way there is by now."""
        key = tuple(tensor.shape for tensor in inputs)
        self._seen[key] += 1
        if key not in self._recorded:
            if self._seen[key] < HOT or not self._fit or key in self._refused or not self._room(key):
                return self._plain(inputs)
            if not self._recorded:  # a pool that has no recording left is gone
                self._pool = cuda.graph_pool_handle()
            try:
                self._recorded[key] = Recorded(self._tower, inputs, self._pool, self._aside)
            except RuntimeError as error:
                _LOG.info("not recording %s for this GPU: %.200s", [tuple(shape) for shape in key], error)
                self._refused.add(key)
                self._fit = is_short(error) or not isinstance(error, CaptureError)
        return self._recorded.get(key, self._plain)(inputs)

    def _plain(self, inputs: Sequence[Tensor]) -> Tensor:
        return self._tower(*inputs)

    def clear(self) -> None:
        """Forget them, and let go of their memory."""
        cuda.current_stream().synchronize()
        self._recorded.clear()
        self._refused.clear()

    def _room(self, key: Shapes) -> bool:
        """Is there a place for one more recording? It is made for the shapes that come most, and these take no turns.

        All of them make room together: with a single one, torch takes away memory of cuBLAS that the others still use
        (pytorch/pytorch#193402).
        """
        mine = self._seen[key]
        if sum(each > mine for each in self._seen.values()) >= KEPT:
            return False
        if len(self._recorded) < KEPT:
            return True
        if mine < OFTEN * min(self._seen[shapes] for shapes in self._recorded):
            return False
        self.clear()
        return True


class Runner:
    """A tower's calls. The tower must be its own: its blocks are replaced when they are compiled."""

    def __init__(self, tower: nn.Module, precision: str, device: str) -> None:
        self._tower, self._precision, self._device = tower, precision, device
        self._floats = torch.bfloat16 if precision == "bf16" else torch.float32
        self._most = SIZES[-1]  # rows of a part that fit into the device's memory, as far as is known
        self._spent, self._tried, self._compiled = 0.0, False, False
        self._feeder: Feeder | None = None
        self._recordings: Recordings | None = None

    def __call__(self, *arrays: np.ndarray) -> np.ndarray:
        """Features of rows, (n, E) float32. Raises torch's RuntimeError if one row does not fit."""
        if len(arrays) == 2:
            arrays = wider(*arrays, cast(Any, self._tower).config.context)
        with TURN, cuda.device(self._device), arithmetic(self._precision, self._device):
            if not self._tried and self._spent > COMPILE_AFTER:
                self._compile()
            empty = False
            while True:
                try:
                    return self._compiled_or_plain(arrays)
                except RuntimeError as error:
                    if not is_short(error) or (empty and self._most == 1):
                        raise
                # only here: while an exception is handled, it keeps what had been allocated
                self._most //= 2 if empty else 1
                self._let_go()
                empty = True

    def _compiled_or_plain(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        if self._compiled:
            try:
                with torch._dynamo.config.patch(cache_size_limit=COMPILATIONS):  # pyright: ignore[reportPrivateUsage]
                    return self._features(arrays)
            except torch.OutOfMemoryError:
                raise
            except FAILED as error:  # of memory too, if it is a compiler that had none
                _LOG.info("not compiling the model for this GPU: %.200s", error)
            compiling.plain_blocks(self._tower)
            self._compiled = False
            self._let_go()
        return self._features(arrays)

    def _features(self, arrays: Sequence[np.ndarray]) -> np.ndarray:
        """Part after part."""
        began = time.perf_counter()
        feeder = self._feeder = self._feeder or Feeder(self._device)
        call = self._recordings = self._recordings or Recordings(self._tower, self._device)
        found: list[Tensor] = []
        for rows, size in parts(len(arrays[0]), self._most):
            output = call(feeder.send([array[rows] for array in arrays], size, self._floats))
            feeder.computed()
            found.append(output[: rows.stop - rows.start].to(torch.float32, copy=True))
        features = torch.cat(found).cpu().numpy()
        self._spent += time.perf_counter() - began
        return features

    def _let_go(self) -> None:
        """Of the device's memory, as far as it is not the tower's."""
        if self._recordings is not None:
            self._recordings.clear()
        self._feeder = None
        with suppress(RuntimeError):  # after a recording that failed, torch 2.12 and older do not know how
            cuda.empty_cache()

    def _compile(self) -> None:
        """Compile the blocks, which are alike, as one; recordings of the plain ones are dropped."""
        self._tried = True
        if not compiling.units(self._tower):
            return
        if (missing := compiling.lacking()) is not None:
            _LOG.info("not compiling the model for this GPU: there is no %s", missing)
            return
        _LOG.info("compiling the model for this GPU, once, which takes some seconds")
        compiling.compile_blocks(self._tower)
        self._compiled = True
        self._let_go()
