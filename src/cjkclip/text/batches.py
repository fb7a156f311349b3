"""Batch texts of similar length, so that short texts need little padding. n texts, L tokens, E features."""

import threading
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cjkclip.arrays import Float32, Int
from cjkclip.machine.threads import require_running
from cjkclip.text import Tokens

PART = 1024  # texts that are tokenized before the next look at whether the call was cancelled
STEP = 4  # tokens; texts whose lengths are within one step share a batch


def by_length(mask: Int[np.ndarray, "n L"], batch_size: int) -> Iterator[np.ndarray]:
    """Yield the row numbers of each batch, shortest texts first: at most `batch_size` rows, lengths within one step.

    >>> [rows.tolist() for rows in by_length(np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]]), 8)]
    [[1, 2], [0]]
    """
    lengths = mask.sum(axis=1)
    order = np.argsort(lengths, kind="stable")
    steps = (lengths[order] - 1) // STEP
    for rows in np.split(order, np.flatnonzero(np.diff(steps)) + 1):
        for start in range(0, len(rows), batch_size):
            yield rows[start : start + batch_size]


def in_parts(
    tokenize: Callable[[Sequence[str]], Tokens], cancel: threading.Event | None, texts: Sequence[str]
) -> Tokens:
    """Tokenize texts, part by part if the call may be cancelled. Raises CancelledError once the event is set."""
    if cancel is None:
        return tokenize(texts)
    parts: list[Tokens] = []
    for start in range(0, max(1, len(texts)), PART):
        require_running(cancel)
        parts.append(tokenize(texts[start : start + PART]))
    return Tokens(
        ids=np.concatenate([part.ids for part in parts]),
        mask=np.concatenate([part.mask for part in parts]),
        truncated=tuple(number * PART + index for number, part in enumerate(parts) for index in part.truncated),
    )


def in_batches(
    texts: Sequence[str],
    tokens: Tokens,
    batch_size: int,
    encode: Callable[[Tokens], Float32[np.ndarray, "b E"]],
    progress: Callable[[int], None] | None = None,
) -> Float32[np.ndarray, "n E"]:
    """Return the features of all texts in their order, encoded in batches; repeated texts are encoded once.

    `progress(n)` is called after each batch with the number of finished texts.
    """
    first: dict[str, int] = {}
    places = np.array([first.setdefault(text, row) for row, text in enumerate(texts)], np.intp)
    unique, times = np.array(list(first.values()), np.intp), np.bincount(places)
    empty = encode(Tokens(ids=tokens.ids[:0], mask=tokens.mask[:0], truncated=()))
    features, done = np.zeros((len(places), empty.shape[1]), np.float32), 0
    for rows in by_length(tokens.mask[unique], batch_size):
        part = unique[rows]
        features[part] = encode(Tokens(ids=tokens.ids[part], mask=tokens.mask[part], truncated=()))
        done += int(times[part].sum())
        if progress is not None:
            progress(done)
    return features[places]
