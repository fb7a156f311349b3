"""Retrieval metrics in plain NumPy. Q queries, C candidates; `right[q, c]`: candidate c answers query q.

Ties always count against the model: a right answer ranks below every wrong one with the same score. Functions raise
InputError for no queries, queries without a right answer, and NaN scores.
"""

from collections.abc import Callable, Sequence

import numpy as np

from cjkclip.arrays import Bool, Float, Int
from cjkclip.errors import InputError

Scores = Float[np.ndarray, "Q C"]
Right = Bool[np.ndarray, "_ _"]  # must have the shape of the scores
Interval = tuple[float, float]


def cosine_similarities(a: Float[np.ndarray, "n E"], b: Float[np.ndarray, "n E"]) -> Float[np.ndarray, "n"]:
    """Return the cosine similarity of each row of `a` and the same row of `b`; a row of zeros has 0.

    >>> cosine_similarities(np.array([[3.0, 0.0], [1.0, 1.0]]), np.array([[2.0, 0.0], [1.0, -1.0]])).tolist()
    [1.0, 0.0]
    """
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a.astype(np.float64) * b).sum(axis=1) / np.maximum(norms, 1e-30)


def first_ranks(scores: Scores, right: Right) -> Int[np.ndarray, "Q"]:
    """Return the rank of each query's best right answer among the wrong ones, counted from 1.

    >>> first_ranks(np.array([[0.9, 0.1, 0.5], [0.5, 0.5, 0.1]]), np.array([[0, 0, 1], [1, 0, 0]], bool)).tolist()
    [2, 2]
    """
    _check(scores, right)
    best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
    return ((scores >= best) & ~right).sum(axis=1) + 1


def recall_at(k: int, ranks: Int[np.ndarray, "Q"]) -> float:
    """Return the share of queries whose best right answer is among the k best.

    >>> recall_at(1, np.array([1, 2, 1, 7]))
    0.5
    """
    return float((ranks <= k).mean())


def median_rank(ranks: Int[np.ndarray, "Q"]) -> float:
    """Return the rank that half of the queries reach.

    >>> median_rank(np.array([1, 2, 1, 7]))
    1.5
    """
    return float(np.median(ranks))


def average_precisions(scores: Scores, right: Right) -> Float[np.ndarray, "Q"]:
    """Return, per query, the mean of the precisions at the ranks of its right answers.

    >>> average_precisions(np.array([[0.9, 0.8, 0.7]]), np.array([[1, 0, 1]], bool)).round(4).tolist()
    [0.8333]
    """
    _check(scores, right)
    # sort by score, wrong answers before right ones in ties
    order = np.lexsort((right, -scores), axis=1)
    hits = np.take_along_axis(right, order, axis=1).astype(np.float64)
    precision = hits.cumsum(axis=1) / np.arange(1, scores.shape[1] + 1, dtype=np.float64)
    return np.sum(precision * hits, axis=1) / np.sum(hits, axis=1)


def mean_average_precision(scores: Scores, right: Right) -> float:
    """Return the mean of `average_precisions`.

    >>> mean_average_precision(np.array([[0.9, 0.8], [0.9, 0.8]]), np.array([[1, 0], [0, 1]], bool))
    0.75
    """
    return float(average_precisions(scores, right).mean())


def wilson(share: float, n: int, z: float = 1.96) -> Interval:
    """Return the 95 % interval of a share (0 to 1) observed over n independent cases (Wilson 1927).

    >>> [round(end, 3) for end in wilson(0.7, 1121)]
    [0.673, 0.726]
    """
    if n < 1:
        raise InputError(f"wilson: n is {n}, expected at least one case")
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap(
    values: Sequence[float] | Float[np.ndarray, "Q"],
    measure: Callable[..., np.ndarray] = np.mean,
    *,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the 95 % interval of `measure(values, axis=1)`, by resampling with replacement (Efron 1979).

    >>> low, high = bootstrap([0.0, 1.0] * 50)
    >>> 0.38 <= low < 0.5 < high <= 0.62
    True
    """
    data = np.asarray(values, dtype=np.float64)
    if len(data) == 0:
        raise InputError("bootstrap: got no values, expected at least one")
    samples = np.random.default_rng(seed).integers(len(data), size=(draws, len(data)))
    low, high = np.quantile(measure(data[samples], axis=1), [0.025, 0.975])
    return float(low), float(high)


def _check(scores: Scores, right: Right) -> None:
    if scores.shape != right.shape:
        raise InputError(
            f"got scores of shape {scores.shape} and right answers of shape {right.shape}, expected the same shape"
        )
    if len(scores) == 0:
        raise InputError("got no queries, expected at least one")
    if np.isnan(scores).any():
        raise InputError("scores contain NaN, expected numbers: leave out images that could not be read")
    unanswered = np.flatnonzero(~right.any(axis=1))
    if len(unanswered):
        raise InputError(
            f"query {unanswered[0]} has no right answer ({len(unanswered)} such queries), expected one: leave them out"
        )
