"""Texts grouped by length, so that short ones do not wait for long ones. n texts, L tokens, E features.

Refuses: nothing.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from cjkclip.arrays import Float32, Int
from cjkclip.text import Tokens

STEP = 4  # lengths within one step share a batch


def by_length(mask: Int[np.ndarray, "n L"], batch_size: int) -> Iterator[np.ndarray]:
    """Row numbers, batch by batch, shortest texts first: at most `batch_size` rows, lengths within one step.

    >>> [rows.tolist() for rows in by_length(np.array([[1, 1, 1, 1, 1], [1, 0, 0, 0, 0], [1, 1, 0, 0, 0]]), 8)]
    [[1, 2], [0]]
    """
    lengths = mask.sum(axis=1)
    order = np.argsort(lengths, kind="stable")
    steps = (lengths[order] - 1) // STEP
    for rows in np.split(order, np.flatnonzero(np.diff(steps)) + 1):
        for start in range(0, len(rows), batch_size):
            yield rows[start : start + batch_size]


def in_batches(
    texts: Sequence[str],
    tokens: Tokens,
    batch_size: int,
    encode: Callable[[Tokens], Float32[np.ndarray, "b E"]],
    progress: Callable[[int], None] | None = None,
) -> Float32[np.ndarray, "n E"]:
    """What `encode` makes of the texts' tokens, batch by batch, in the caller's order; repeated texts are encoded once.

    `progress(n)` hears after each batch how many texts are done.
    """
    first: dict[str, int] = {}
    places = np.array([first.setdefault(text, row) for row, text in enumerate(texts)], np.intp)
    wanted, times = np.array(list(first.values()), np.intp), np.bincount(places)
    none = encode(Tokens(ids=tokens.ids[:0], mask=tokens.mask[:0], truncated=()))
    features, done = np.zeros((len(places), none.shape[1]), np.float32), 0
    for rows in by_length(tokens.mask[wanted], batch_size):
        part = wanted[rows]
        features[part] = encode(Tokens(ids=tokens.ids[part], mask=tokens.mask[part], truncated=()))
        done += int(times[part].sum())
        if progress is not None:
            progress(done)
    return features[places]
