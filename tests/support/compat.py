"""Inputs and comparisons for the tests that run cjkclip.compat beside the original packages."""

from typing import Any

import numpy as np
import torch

from cjkclip import moji
from support import tokens

ATOL = 2e-6
PANDA = moji.pictures("fluent")["1f43c"]
TASK = "zero-shot-image-classification"
WORDS = [concept.names[language] for concept in moji.concepts()[:30] for language in ("zh", "ja", "ko", "en")]
STRINGS = [*tokens.STRINGS, *WORDS]  # 236 texts in four languages


def near(got: Any, want: Any) -> None:
    """Compare a tensor with the expected one: ATOL, times the largest value where that is above one."""
    want = np.asarray(want.detach() if isinstance(want, torch.Tensor) else want)
    np.testing.assert_allclose(got.detach().numpy(), want, rtol=0, atol=ATOL * max(1.0, float(np.abs(want).max())))


def tensor(expected: dict[str, np.ndarray], name: str) -> torch.Tensor:
    """Return one of the expected arrays as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(expected[name]))


def close(got: Any, want: Any) -> None:
    """Compare labels and scores, best first. Equal scores may be in any order, since batches round differently."""
    assert [each["score"] for each in got] == sorted((each["score"] for each in got), reverse=True)
    mine, theirs = ({each["label"]: each["score"] for each in listed} for listed in (got, want))
    assert (len(got), mine.keys()) == (len(want), theirs.keys())
    np.testing.assert_allclose([mine[label] for label in theirs], list(theirs.values()), atol=3e-6)
