"""The measures of retrieval against slow and obvious versions of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cjkclip import metrics
from cjkclip.errors import InputError

SHAPE = (5, 7)
few_levels = arrays(np.float64, SHAPE, elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
answers = arrays(np.bool_, SHAPE).map(lambda right: right | (np.arange(7) == 3))  # every row has one


def slow_rank(scores: np.ndarray, right: np.ndarray) -> int:
    """Right answers go behind all wrong ones of the same score."""
    order = sorted(range(len(scores)), key=lambda c: (-scores[c], right[c]))
    return 1 + next(wrong_before for wrong_before, candidate in enumerate(order) if right[candidate])


def slow_precision(scores: np.ndarray, right: np.ndarray) -> float:
    order = sorted(range(len(scores)), key=lambda c: (-scores[c], right[c]))
    precisions, hits = [], 0
    for rank, candidate in enumerate(order, start=1):
        if right[candidate]:
            hits += 1
            precisions.append(hits / rank)
    return sum(precisions) / len(precisions)


@given(scores=few_levels, right=answers)
def test_ranks_and_precisions_equal_the_slow_ones(scores, right):
    pairs = list(zip(scores, right, strict=True))
    assert metrics.first_ranks(scores, right).tolist() == [slow_rank(s, r) for s, r in pairs]
    assert metrics.average_precisions(scores, right) == pytest.approx([slow_precision(s, r) for s, r in pairs])


def test_equal_scores_never_count_for_the_model():
    scores, right = np.zeros((4, 4)), np.eye(4, dtype=bool)
    ranks = metrics.first_ranks(scores, right)
    assert metrics.recall_at(1, ranks) == 0
    assert metrics.recall_at(4, ranks) == 1
    assert metrics.mean_average_precision(scores, right) == 0.25


def test_wilson_covers_the_true_share_as_often_as_it_says():
    drawn = np.random.default_rng(0).binomial(200, 0.72, size=4000)
    ends = [metrics.wilson(hits / 200, 200) for hits in drawn]
    covered = np.mean([low <= 0.72 <= high for low, high in ends])
    assert 0.94 <= covered <= 0.965


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_wilson_stays_within_shares(share):
    low, high = metrics.wilson(share, 10)
    assert 0 <= low <= share <= high <= 1
    assert high - low > 0.2


def test_bootstrap_repeats_and_covers_the_median():
    values = np.random.default_rng(1).exponential(10, size=300)
    assert metrics.bootstrap(values, np.median) == metrics.bootstrap(values, np.median)
    low, high = metrics.bootstrap(values, np.median)
    assert low < np.median(values) < high


@pytest.mark.parametrize(
    ("scores", "right", "says"),
    [
        (np.zeros((2, 3)), np.ones((2, 2), bool), "expected the same shape"),
        (np.full((1, 2), np.nan), np.ones((1, 2), bool), "NaN"),
        (np.zeros((2, 2)), np.array([[True, False], [False, False]]), "query 1 has no right answer"),
        (np.zeros((0, 3)), np.zeros((0, 3), bool), "no queries"),
    ],
)
def test_scores_that_do_not_fit_are_refused(scores, right, says):
    with pytest.raises(InputError, match=says):
        metrics.first_ranks(scores, right)


def test_an_interval_needs_cases():
    with pytest.raises(InputError, match="n is 0"):
        metrics.wilson(0.5, 0)
    with pytest.raises(InputError, match="no values"):
        metrics.bootstrap([])
