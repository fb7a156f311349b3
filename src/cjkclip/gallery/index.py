"""Index images and texts: write their vectors as rows, in the order of the inputs. n rows, E joint width.

One part of the texts and a few batches of images are in memory at a time, however many inputs there are.
"""

import time
from bisect import bisect
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol, runtime_checkable

import numpy as np

from cjkclip.arrays import Float
from cjkclip.clip import TEXTS, Clip
from cjkclip.errors import CjkclipError, ImageError, TextError
from cjkclip.machine.memory import checked_size
from cjkclip.text import require_words
from cjkclip.text.batches import in_batches

PART = 4096  # texts per call of the text tower: enough of each length to fill batches
SHOWN = 60  # characters of a text in a note

Vectors = tuple[list[int], np.ndarray]  # positions among the inputs, and a row for each
NONE: Vectors = [], np.zeros((0, 0), np.float32)
OnInput = Callable[[int, CjkclipError], None]  # the position of an input that cannot be used, and the reason
Note = Callable[[str], None]  # a message for a person; nothing failed
Progress = Callable[[int, int], None]  # the number of finished inputs, and of all inputs


@runtime_checkable
class Sink(Protocol):
    """The destination of rows: `Rows` for a file."""

    def add(self, names: Sequence[str], vectors: Float[np.ndarray, "n E"]) -> None:
        """Append rows. A row of NaN belongs to an input that cannot be used."""
        ...


@dataclass(frozen=True, kw_only=True)
class IndexInputs:
    """Texts and paths of images in their order, and the positions of the texts and of the images."""

    names: list[str] = field(default_factory=list[str])
    texts: list[int] = field(default_factory=list[int])
    pictures: list[int] = field(default_factory=list[int])

    def add_texts(self, texts: Sequence[str]) -> None:
        """Append texts."""
        self._add(texts, self.texts)

    def add_pictures(self, paths: Sequence[str]) -> None:
        """Append paths of images."""
        self._add(paths, self.pictures)

    def _add(self, names: Sequence[str], positions: list[int]) -> None:
        positions += range(len(self.names), len(self.names) + len(names))
        self.names.extend(names)


@dataclass(kw_only=True)
class Seconds:
    """Seconds of the loop over images: waiting until they were read, encoding them, writing."""

    reading: float = 0.0
    encoding: float = 0.0
    writing: float = 0.0

    @property
    def whole(self) -> float:
        """The sum."""
        return self.reading + self.encoding + self.writing


def index(
    sink: Sink,
    clip: Clip,
    inputs: IndexInputs,
    *,
    exact: bool = True,
    batch_size: int | None = None,
    on_error: OnInput | None = None,
    note: Note | None = None,
    progress: Progress | None = None,
) -> Seconds:
    """Add a row to `sink` for every input, in their order, while later inputs are encoded.

    The callbacks are those of `encode_inputs`.
    """
    seconds = Seconds()
    parts = encode_inputs(
        clip,
        inputs,
        exact=exact,
        batch_size=batch_size,
        seconds=seconds,
        on_error=on_error,
        note=note,
        progress=progress,
    )
    with closing(parts):
        for positions, vectors in parts:
            start = time.perf_counter()
            sink.add([inputs.names[i] for i in positions], vectors)
            seconds.writing += time.perf_counter() - start
    return seconds


def encode_inputs(
    clip: Clip,
    inputs: IndexInputs,
    *,
    exact: bool = True,
    batch_size: int | None = None,
    seconds: Seconds | None = None,
    on_error: OnInput | None = None,
    note: Note | None = None,
    progress: Progress | None = None,
) -> Generator[Vectors]:
    """Yield positions among `inputs` and their unit vectors, part by part, in the order of the inputs.

    An input that cannot be used is passed to `on_error(position, error)`; without `on_error` its ImageError or
    TextError is raised. The row of such an image is NaN; such a text has no row. `note` gets one message if texts
    were cut, `progress(done, total)` is called once before the first batch and after every batch. Times are
    added to `seconds`. Close the generator to stop early.
    """
    texts = [i for i in inputs.texts if has_words(i, inputs.names[i], on_error)]
    counts, total = {"texts": 0, "pictures": 0}, len(texts) + len(inputs.pictures)

    def count(kind: str, done: int) -> None:
        counts[kind] = done
        if progress is not None:
            progress(sum(counts.values()), total)

    count("texts", 0)
    rows = _texts(clip, inputs.names, texts, batch_size, note, partial(count, "texts"))
    batches = _pictures(clip, inputs, exact, batch_size, seconds or Seconds(), on_error, partial(count, "pictures"))
    with closing(batches):
        yield from _in_order(rows, batches)


def has_words(position: int, text: str, on_error: OnInput | None) -> bool:
    """Whether `text` contains a word; if not, its TextError is passed to `on_error`, or raised."""
    try:
        require_words(text)
    except TextError as error:
        if on_error is None:
            raise
        on_error(position, error)
        return False
    return True


def _texts(
    clip: Clip,
    names: Sequence[str],
    positions: Sequence[int],
    batch_size: int | None,
    note: Note | None,
    count: Callable[[int], None],
) -> Iterator[Vectors]:
    """Yield vectors of the texts at `positions`, part by part; then a note reports how many texts were cut."""
    size, cut, limit = checked_size(batch_size, TEXTS), list[int](), 0
    part = max(PART, size)
    for start in range(0, len(positions), part):
        rows = list(positions[start : start + part])
        words = [names[i] for i in rows]
        tokens = clip.tokenize(words)
        if tokens.truncated:  # counted here over all parts, and not by a warning for each
            limit = tokens.ids.shape[1]
            cut += [rows[i] for i in tokens.truncated]
        yield rows, in_batches(words, tokens, size, clip.encode_tokens, lambda n, start=start: count(start + n))
    if cut and note is not None:
        first = names[cut[0]]
        shown = first if len(first) <= SHOWN else f"{first[:SHOWN]}…"
        note(f"{len(cut):,} of {len(positions):,} texts are longer than {limit} tokens and were cut (first: {shown!r})")


def _pictures(
    clip: Clip,
    inputs: IndexInputs,
    exact: bool,
    batch_size: int | None,
    seconds: Seconds,
    on_error: OnInput | None,
    count: Callable[[int], None],
) -> Generator[Vectors]:
    """Yield vectors of the images among the inputs, batch by batch."""
    if not inputs.pictures:
        return
    paths = [inputs.names[i] for i in inputs.pictures]
    with closing(clip.encode_image_batches(paths, batch_size=batch_size, exact=exact)) as batches:
        for batch in batches:
            seconds.reading += batch.waited
            seconds.encoding += batch.encoded
            for row, reason in batch.problems:
                error = ImageError(f"image {row}: {reason}")
                if on_error is None:
                    raise error
                on_error(inputs.pictures[row], error)
            done = batch.start + len(batch.features)
            count(done)
            yield inputs.pictures[batch.start : done], batch.features


def _in_order(*streams: Iterator[Vectors]) -> Iterator[Vectors]:
    """Merge the parts of several streams in the order of the inputs; one part of each is in memory at a time.

    >>> rows = np.arange(5.0)[:, None]
    >>> texts, pictures = iter([([0, 3], rows[:2]), ([9], rows[2:3])]), iter([([1, 4], rows[3:])])
    >>> [(positions, vectors[:, 0].tolist()) for positions, vectors in _in_order(texts, pictures)]
    [([0, 1, 3], [0.0, 3.0, 1.0]), ([4], [4.0]), ([9], [2.0])]
    """
    buffers = [NONE for _ in streams]
    while True:
        buffers = [part if part[0] else next(stream, NONE) for part, stream in zip(buffers, streams, strict=True)]
        ends = [positions[-1] for positions, _ in buffers if positions]
        if not ends:
            return
        counts = [bisect(positions, min(ends)) for positions, _ in buffers]  # rows that no later part can precede
        ready = [(positions[:n], vectors[:n]) for (positions, vectors), n in zip(buffers, counts, strict=True) if n]
        buffers = [(positions[n:], vectors[n:]) for (positions, vectors), n in zip(buffers, counts, strict=True)]
        merged = [position for positions, _ in ready for position in positions]
        order = sorted(range(len(merged)), key=merged.__getitem__)
        yield [merged[i] for i in order], np.concatenate([vectors for _, vectors in ready])[order]
