"""The contrastive losses against naive arithmetic, and their gradient."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from cjkclip.engines.torch.loss import contrastive, same_thing
from cjkclip.errors import InputError


def unit(rows: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, 6, dtype=torch.float64, generator=generator), dim=1)


def naive(image: np.ndarray, text: np.ndarray, scale: float, right: np.ndarray) -> float:
    """Both directions, one query at a time, one right answer at a time."""
    logits = scale * image @ text.T
    total = []
    for scores, answers in ((logits, right), (logits.T, right.T)):
        per_query = []
        for row, good in zip(scores, answers, strict=True):
            log_share = row - math.log(sum(math.exp(x) for x in row))
            per_query.append(-sum(log_share[c] for c in range(len(row)) if good[c]) / good.sum())
        total.append(sum(per_query) / len(per_query))
    return sum(total) / 2


RIGHT = np.array([[1, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 1, 1, 0], [1, 0, 0, 0, 1]], bool)


def test_the_loss_equals_the_naive_one():
    image, text = unit(4, 0), unit(5, 1)
    got = contrastive(image, text, torch.tensor(7.0, dtype=torch.float64), torch.from_numpy(RIGHT))
    assert float(got) == pytest.approx(naive(image.numpy(), text.numpy(), 7.0, RIGHT), abs=1e-12)


def test_with_one_answer_each_it_is_clips_loss():
    image, text = unit(5, 0), unit(5, 1)
    logits, places = 7.0 * image @ text.T, torch.arange(5)
    expected = (F.cross_entropy(logits, places) + F.cross_entropy(logits.T, places)) / 2
    got = contrastive(image, text, torch.tensor(7.0, dtype=torch.float64), torch.eye(5, dtype=torch.bool))
    assert float(got) == pytest.approx(float(expected), abs=1e-12)


def test_the_gradient_of_the_loss():
    image, text = unit(4, 0).requires_grad_(), unit(5, 1).requires_grad_()
    scale = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: contrastive(*x, torch.from_numpy(RIGHT)), (image, text, scale))


def test_a_query_without_an_answer_is_refused():
    right = torch.tensor([[True, False], [True, False]])
    with pytest.raises(InputError, match="needs a right answer"):
        contrastive(unit(2, 0), unit(2, 1), torch.tensor(1.0), right)


def test_pictures_of_the_same_thing_find_each_other():
    image, thing = unit(5, 0), torch.tensor([3, 1, 3, 2, 3])
    logits = 4.0 * image @ image.T
    expected = []
    for i in (0, 2, 4):
        others = [j for j in range(5) if j != i]
        log_share = logits[i] - torch.logsumexp(logits[i, others], dim=0)
        expected.append(-sum(log_share[j] for j in (0, 2, 4) if j != i) / 2)
    got = same_thing(image, torch.tensor(4.0, dtype=torch.float64), thing)
    assert float(got) == pytest.approx(float(sum(expected) / 3), abs=1e-9)
    assert float(same_thing(image, torch.tensor(4.0), torch.arange(5))) == 0
