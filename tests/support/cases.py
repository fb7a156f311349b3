"""Rows of the table in families.py by their towers, and the distance of an engine's output from the expected one."""

import numpy as np
import pytest

from families import FAMILIES, Case

SEEING = [case for case in FAMILIES if case.towers != "text"]
READING = [case for case in FAMILIES if case.towers != "vision"]


def rows(cases: list[Case] | tuple[Case, ...]) -> pytest.MarkDecorator:
    """Run a test once for each case."""
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.name)


def row_of(name: str) -> Case:
    """Return the first row of a golden case."""
    return next(case for case in FAMILIES if case.case == name)


def difference(got: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest absolute difference, as a share of the largest expected value where that is above one."""
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / max(1.0, float(np.abs(expected).max())))


def unit(features: np.ndarray) -> np.ndarray:
    """Return the features, each scaled to length one."""
    return features / np.linalg.norm(features, axis=1, keepdims=True)
