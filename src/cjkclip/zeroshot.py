"""Zero-shot classification as arithmetic: sentences for labels, their ensembles, probabilities.

T templates, C labels, n pictures, E joint width. Refuses: no labels, templates without {}.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cjkclip.arrays import Float
from cjkclip.errors import InputError, TextError
from cjkclip.text import require_words

BARE = ("{}",)


class Prediction(NamedTuple):
    """A label and its probability among the labels that were offered."""

    label: str
    score: float


def sentences(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Every template filled with every label, label by label.

    >>> sentences(["猫", "犬"], ["{}", "{}の写真"])
    ['猫', '猫の写真', '犬', '犬の写真']
    """
    if not labels or not templates:
        raise InputError(f"got {len(labels)} labels and {len(templates)} templates, expected at least one of each")
    for template in templates:
        if "{}" not in template:
            raise TextError(f"template {template!r} has no place for the label: write {{}} where it belongs")
    words = [require_words(label, f"label {index}") for index, label in enumerate(labels)]
    return [template.replace("{}", label) for label in words for template in templates]


def ensemble(features: Float[np.ndarray, "CT E"], templates: int) -> Float[np.ndarray, "C E"]:
    """The mean direction of each label's unit vectors, as a unit vector."""
    mean = features.reshape(-1, templates, features.shape[1]).mean(axis=1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def softmax(logits: Float[np.ndarray, "n C"]) -> Float[np.ndarray, "n C"]:
    """Rows to probabilities.

    >>> softmax(np.array([[1000.0, 1000.0]]))
    array([[0.5, 0.5]])
    """
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def predictions(logits: Float[np.ndarray, "n C"], labels: Sequence[str]) -> list[list[Prediction]]:
    """Per picture every label with its probability, best first; equal ones stay in the caller's order."""
    scores = softmax(logits)
    order: list[list[int]] = np.argsort(-scores, axis=1, kind="stable").tolist()
    return [[Prediction(labels[c], float(row[c])) for c in best] for row, best in zip(scores, order, strict=True)]
