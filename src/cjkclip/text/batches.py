"""Texts grouped by length, so that short ones do not wait for long ones. n texts, L tokens.

Refuses: nothing.
"""

from collections.abc import Iterator

import numpy as np

from cjkclip.arrays import Int

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
