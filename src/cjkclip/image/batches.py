"""Many pictures through a model: the next batch is made while one is encoded, and what was encoded is handed on.

n pictures of a batch, E joint width. At most three batches of pixels exist at once, however many pictures there are.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np

from cjkclip.arrays import Float32
from cjkclip.config import Image
from cjkclip.image import Picture, load_pixels
from cjkclip.machine.memory import too_large
from cjkclip.machine.threads import result

FIRST = 8  # pictures in the first batch
Pixels = Float32[np.ndarray, "n 3 S S"]
Features = Float32[np.ndarray, "n E"]
Problems = list[tuple[int, str]]


@dataclass(frozen=True, kw_only=True)
class EncodedBatch:
    """What became of pictures that lay one behind the other."""

    start: int  # the first one's place among all
    features: Features  # a row of NaN where a picture was bad
    problems: Problems  # the place among all of each bad picture, and what is wrong with it
    waited: float  # seconds until its pixels were there
    encoded: float  # seconds in the image tower


class Made(NamedTuple):
    """A batch that can be encoded. `bad`: rows of NaN, and why."""

    start: int
    pixels: Pixels
    bad: Problems


def encode_batches(made: Generator[Made], encode: Callable[[Pixels], Features], width: int) -> Generator[EncodedBatch]:
    """Encode what was made, in its order; bad pictures never reach `encode`. Closing it closes `made`."""
    with closing(made):
        while True:
            began = time.perf_counter()
            one = next(made, None)
            if one is None:
                return
            there = time.perf_counter()
            good = np.ones(len(one.pixels), bool)
            good[[row for row, _ in one.bad]] = False
            features = np.full((len(one.pixels), width), np.nan, np.float32)
            features[good] = encode(one.pixels[good] if one.bad else one.pixels)
            problems = [(one.start + row, why) for row, why in one.bad]
            done = time.perf_counter()
            start, one = one.start, None  # its pixels are let go before anybody looks at the features
            yield EncodedBatch(
                start=start, features=features, problems=problems, waited=there - began, encoded=done - there
            )


def fill(features: Features, found: Generator[EncodedBatch], progress: Callable[[int], None] | None) -> Problems:
    """Lay every batch into `features`, say how many are done after each, and return the problems of all."""
    problems: Problems = []
    with closing(found):
        for batch in found:
            done = batch.start + len(batch.features)
            features[batch.start : done] = batch.features
            problems += batch.problems
            if progress is not None:
                progress(done)
    return problems


def ahead(pictures: Sequence[Picture], rules: Image, batch_size: int, exact: bool) -> Generator[Made]:
    """Pixels of every picture, at most `batch_size` at once; the next are made meanwhile by a thread that ends here."""

    over = threading.Event()

    def make(rows: slice) -> Made:
        bad: Problems = []
        part = _Until(over, pictures[rows])
        try:
            pixels = load_pixels(part, rules, exact=exact, on_error=lambda _, error: bad.extend(error.problems))
        except MemoryError as error:
            raise too_large(len(part), error) from error
        return Made(rows.start, pixels, bad)

    parts = list(growing(len(pictures), batch_size))
    if len(parts) < 2:
        yield from map(make, parts)
        return
    with ThreadPoolExecutor(1, "cjkclip-ahead") as pool:
        try:
            made = pool.submit(make, parts[0])
            for rows in parts[1:]:
                done, made = result(made), pool.submit(make, rows)
                yield done
            yield result(made)
        finally:
            over.set()  # Ctrl-C does not wait until a batch of large pictures is read


class _Until(Sequence[Picture]):
    """Pictures, until `over` is set: then nobody wants them, and asking for one raises CancelledError."""

    def __init__(self, over: threading.Event, pictures: Sequence[Picture]) -> None:
        self._over, self._pictures = over, pictures

    def __getitem__(self, index: Any) -> Any:  # of load_pixels: one number
        if self._over.is_set():
            raise CancelledError
        return cast(Any, self._pictures[index])

    def __len__(self) -> int:
        return len(self._pictures)


def growing(count: int, most: int) -> Iterator[slice]:
    """Rows in batches: `FIRST` of them, then twice as many, up to `most`. Nothing is encoded while the first are read.

    >>> [rows.stop - rows.start for rows in growing(60, 32)], [rows.stop for rows in growing(5, 2)]
    ([8, 16, 32, 4], [2, 4, 5])
    """
    start, size = 0, min(FIRST, most)
    while start < count:
        yield slice(start, min(start + size, count))
        start, size = start + size, min(2 * size, most)
