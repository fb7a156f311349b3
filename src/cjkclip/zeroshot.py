"""Zero-shot classification: prompts from templates, their ensembles, a cache of label features, probabilities.

T templates, C labels, n images, E joint width.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from cjkclip.arrays import Float, Float32
from cjkclip.errors import InputError, TextError
from cjkclip.text import Tokens, require_words
from cjkclip.text.batches import in_batches

BARE = ("{}",)
KEPT = 8  # sets of labels in a cache
BATCH = 256  # prompts that are encoded at once


class Prediction(NamedTuple):
    """A label and its probability among the given labels."""

    label: str
    score: float


def sentences(labels: Sequence[str], templates: Sequence[str]) -> list[str]:
    """Return the prompts: every template filled with every label, label by label.

    Raises InputError without labels or templates, TextError for a template without {} or a label without words.

    >>> sentences(["猫", "犬"], ["{}", "{}の写真"])
    ['猫', '猫の写真', '犬', '犬の写真']
    """
    if not labels or not templates:
        raise InputError(f"got {len(labels)} labels and {len(templates)} templates, expected at least one of each")
    for template in templates:
        if "{}" not in template:
            raise TextError(
                f"template {template!r} has no place for the label, expected {{}}: for example 'a photo of {{}}'"
            )
    names = [require_words(label, f"label {index}") for index, label in enumerate(labels)]
    return [template.replace("{}", label) for label in names for template in templates]


def ensemble(features: Float[np.ndarray, "CT E"], templates: int) -> Float[np.ndarray, "C E"]:
    """Return for each label the normalised mean of the unit vectors of its T prompts.

    Source: prompt ensembling (Radford et al. 2021, section 3.1.4).
    """
    mean = features.reshape(-1, templates, features.shape[1]).mean(axis=1)
    return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def softmax(logits: Float[np.ndarray, "n C"]) -> Float[np.ndarray, "n C"]:
    """Return the softmax of every row: probabilities of the labels, of sum 1.

    >>> softmax(np.array([[1000.0, 1000.0]]))
    array([[0.5, 0.5]])
    """
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def predictions(logits: Float[np.ndarray, "n C"], labels: Sequence[str]) -> list[list[Prediction]]:
    """Return all labels with their probabilities for each image, best first; ties keep the order of `labels`."""
    scores = softmax(logits)
    order: list[list[int]] = np.argsort(-scores, axis=1, kind="stable").tolist()
    return [[Prediction(labels[c], float(row[c])) for c in best] for row, best in zip(scores, order, strict=True)]


class LabelCache:
    """The features of the last sets of labels. Threads may share it."""

    def __init__(self) -> None:
        self._sets: dict[tuple[tuple[str, ...], int], tuple[Float32[np.ndarray, "C E"], Tokens]] = {}

    def features(
        self,
        labels: Sequence[str],
        templates: Sequence[str],
        tokenize: Callable[[Sequence[str]], Tokens],
        encode: Callable[[Tokens], Float32[np.ndarray, "n E"]],
    ) -> tuple[Float32[np.ndarray, "C E"], Tokens]:
        """Return one unit vector for each label, and tokens whose `truncated` lists the labels that were cut."""
        prompts, count = sentences(labels, templates), len(templates)
        key = (tuple(prompts), count)
        classes = self._sets.get(key)
        if classes is None:
            while len(self._sets) >= KEPT:
                self._sets.pop(next(iter(tuple(self._sets))), None)  # another thread may remove it
            tokens = tokenize(prompts)
            long = tuple(sorted({index // count for index in tokens.truncated}))
            first = slice(None, None, count)  # one prompt per label, copied so that the cache does not keep all
            cut = Tokens(ids=tokens.ids[first].copy(), mask=tokens.mask[first].copy(), truncated=long)
            features = in_batches(prompts, tokens, BATCH, encode)
            classes = self._sets[key] = ensemble(features, count), cut
        return classes
