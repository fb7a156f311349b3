"""Encode many images in batches, and decode the next batch meanwhile.

n images of a batch, E joint width. At most three batches of pixels exist at once, however many images there are.
"""

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from cjkclip.arrays import Float32
from cjkclip.config import Image
from cjkclip.errors import ImageError
from cjkclip.image import Picture, load_pixels
from cjkclip.machine.limits import using
from cjkclip.machine.memory import too_large
from cjkclip.machine.threads import result, submit

FIRST = 8  # images in the first batch
Pixels = Float32[np.ndarray, "n 3 S S"]
Features = Float32[np.ndarray, "n E"]
Problems = list[tuple[int, str]]  # position of each image that could not be read, and the reason


@dataclass(frozen=True, kw_only=True)
class EncodedBatch:
    """The features of consecutive images."""

    start: int  # position of the first image
    features: Features  # NaN in the row of an image that could not be read
    problems: Problems
    waited: float  # seconds until the pixels were ready
    encoded: float  # seconds in the image tower


class DecodedBatch(NamedTuple):
    """The pixels of consecutive images. `problems` counts positions from the first image of the batch."""

    start: int
    pixels: Pixels
    problems: Problems


def encode_batches(
    batches: Generator[DecodedBatch], encode: Callable[[Pixels], Features], width: int
) -> Generator[EncodedBatch]:
    """Encode batches in order, without the images that could not be read. Closing this also closes `batches`."""
    with closing(batches):
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            if batch is None:
                return
            ready = time.perf_counter()
            good = np.ones(len(batch.pixels), bool)
            good[[row for row, _ in batch.problems]] = False
            features = np.full((len(batch.pixels), width), np.nan, np.float32)
            features[good] = encode(batch.pixels[good] if batch.problems else batch.pixels)
            problems = [(batch.start + row, reason) for row, reason in batch.problems]
            end = time.perf_counter()
            start, batch = batch.start, None  # frees the pixels before the caller uses the features
            yield EncodedBatch(
                start=start, features=features, problems=problems, waited=ready - began, encoded=end - ready
            )


def fill(features: Features, batches: Generator[EncodedBatch], progress: Callable[[int], None] | None) -> Problems:
    """Copy every batch into `features` and return all problems; progress(n) is called after each batch."""
    problems: Problems = []
    with closing(batches):
        for batch in batches:
            end = batch.start + len(batch.features)
            features[batch.start : end] = batch.features
            problems += batch.problems
            if progress is not None:
                progress(end)
    return problems


def ahead(
    pictures: Sequence[Picture],
    rules: Image,
    batch_size: int,
    exact: bool,
    *,
    threads: int | None = None,
    cancel: threading.Event | None = None,
) -> Generator[DecodedBatch]:
    """Yield the pixels of all images, at most `batch_size` at once. A thread decodes the next batch meanwhile."""
    stop = threading.Event()

    def decoded(rows: slice) -> DecodedBatch:
        problems: Problems = []
        part = pictures[rows]
        try:
            with using(threads):
                tell = partial(_collect, problems)
                pixels = load_pixels(part, rules, exact=exact, on_error=tell, ends=(stop, cancel))
        except MemoryError as error:
            raise too_large(len(part), error) from error
        return DecodedBatch(rows.start, pixels, problems)

    parts = list(growing(len(pictures), batch_size))
    if len(parts) < 2:
        yield from map(decoded, parts)
        return
    with ThreadPoolExecutor(1, "cjkclip-ahead") as pool:
        try:
            future = submit(pool, decoded, parts[0])
            for rows in parts[1:]:
                batch, future = result(future), submit(pool, decoded, rows)
                yield batch
            yield result(future)
        finally:
            stop.set()  # Ctrl-C does not wait until a batch of large images is read


def _collect(problems: Problems, _: int, error: ImageError) -> None:
    problems.extend(error.problems)


def growing(count: int, most: int) -> Iterator[slice]:
    """Yield slices of rows: `FIRST`, then twice as many, up to `most`. The tower waits for the first, so it is small.

    >>> [rows.stop - rows.start for rows in growing(60, 32)], [rows.stop for rows in growing(5, 2)]
    ([8, 16, 32, 4], [2, 4, 5])
    """
    start, size = 0, min(FIRST, most)
    while start < count:
        yield slice(start, min(start + size, count))
        start, size = start + size, min(2 * size, most)
