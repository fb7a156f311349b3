"""Images and captions for training, and random batches of them. B things, K captions of each, L tokens.

A `Thing` is one subject with its images and captions. Captions are numbered by their text, so a text that several
things share is right for all of them.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol, runtime_checkable

import numpy as np

from cjkclip.arrays import Bool, Int64, UInt8
from cjkclip.errors import InputError

Rows = Int64[np.ndarray, "n"]


@runtime_checkable
class Pictures(Protocol):
    """A source of pixels: an array in memory, or files that are opened when a batch needs them."""

    def read(self, rows: Rows) -> UInt8[np.ndarray, "n C H W"]:
        """Return images of one size, RGB or RGBA with straight alpha."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class InMemory:
    """Images in memory, as one array."""

    pixels: UInt8[np.ndarray, "P C H W"]

    def read(self, rows: Rows) -> UInt8[np.ndarray, "n C H W"]:
        """Return the images of these rows."""
        return self.pixels[rows]


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One subject. `looks` groups its images: a look is drawn at random first, then an image of it."""

    looks: tuple[tuple[int, ...], ...]  # rows of Pictures
    captions: tuple[int, ...]  # rows of Corpus.texts
    weights: tuple[float, ...]  # relative frequency with which each caption is drawn
    mirror: bool = False  # whether the mirror image shows the same thing


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """The data of one training step; `right[i, j]`: text j is a right answer for image i."""

    rows: Int64[np.ndarray, "N"]
    others: Int64[np.ndarray, "N"]  # another image of the same thing (the same image if there is only one)
    thing: Int64[np.ndarray, "N"]
    mirror: Bool[np.ndarray, "N"]
    captions: Int64[np.ndarray, "M"]
    right: Bool[np.ndarray, "N M"]


class Corpus:
    """Things with their images and texts. Raises InputError for a thing that lacks either."""

    def __init__(self, pictures: Pictures, things: Sequence[Thing], texts: Sequence[str]) -> None:
        for number, thing in enumerate(things):
            if not thing.captions or not thing.looks or not all(thing.looks):
                raise InputError(
                    f"thing {number} of {len(things)} has no caption, or a look without an image: "
                    "add it, or leave the thing out"
                )
        self.pictures, self.things, self.texts = pictures, tuple(things), tuple(texts)
        keys = [number * len(texts) + c for number, thing in enumerate(things) for c in set(thing.captions)]
        self._keys = np.sort(np.array(keys, dtype=np.int64))

    def right(self, things: Int64[np.ndarray, "N"], captions: Int64[np.ndarray, "M"]) -> Bool[np.ndarray, "N M"]:
        """Return which captions are right for which things."""
        keys = things[:, None] * len(self.texts) + captions[None, :]
        places = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        return self._keys[places] == keys

    def has_wrong_answers(self) -> bool:
        """Whether any caption is wrong for any thing; if none is, there is nothing to learn."""
        used = np.unique(self._keys % len(self.texts))
        return len(self._keys) < len(self.things) * len(used)

    def batches(self, size: int, *, views: int, captions: int, seed: int) -> Iterator[Batch]:
        """Yield endless batches of `size` images: `views` images and `captions` texts of each thing in it.

        Every thing appears once before any appears again; a seed gives the same batches.
        """
        rng = np.random.default_rng(seed)
        queue: list[int] = []
        count = min(max(size // views, 1), len(self.things))
        while True:
            while len(queue) < count:
                order: list[int] = rng.permutation(len(self.things)).tolist()
                left = set(queue)
                queue += [n for n in order if n not in left] + [n for n in order if n in left]
            chosen, queue = queue[:count], queue[count:]
            yield self._batch(np.repeat(np.array(chosen, np.int64), views), chosen, captions, rng)

    def _batch(self, numbers: Rows, chosen: list[int], captions: int, rng: np.random.Generator) -> Batch:
        texts = np.unique(np.array([c for n in chosen for c in self._captions(n, captions, rng)], np.int64))
        listed: list[int] = numbers.tolist()
        pairs = np.array([self._two(n, rng) for n in listed], np.int64)
        return Batch(
            rows=pairs[:, 0],
            others=pairs[:, 1],
            thing=numbers,
            mirror=np.array([self.things[n].mirror for n in listed]),
            captions=texts,
            right=self.right(numbers, texts),
        )

    def _captions(self, number: int, count: int, rng: np.random.Generator) -> list[int]:
        thing = self.things[number]
        share = list(accumulate(thing.weights))
        return [thing.captions[bisect_left(share, rng.random() * share[-1])] for _ in range(count)]

    def _two(self, number: int, rng: np.random.Generator) -> tuple[int, int]:
        """Return two images of a thing, of two looks if it has them."""
        looks = self.things[number].looks
        order: list[int] = rng.permutation(len(looks))[:2].tolist()
        first, second = order[0], order[-1]
        return looks[first][rng.integers(len(looks[first]))], looks[second][rng.integers(len(looks[second]))]
