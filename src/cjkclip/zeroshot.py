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


class _Prediction(NamedTuple):
    label: str
    score: float


class Prediction(_Prediction):
    """A label and its probability among the given labels, which say nothing of how well the best label fits.

    `cosine`, the cosine similarity of image and label, does; it is no part of the tuple (label, score).

    >>> label, score = Prediction("猫", 0.9, 0.31)
    """

    cosine: float

    def __new__(cls, label: str, score: float, cosine: float) -> "Prediction":
        """Return a tuple (label, score) with an attribute `cosine`."""
        self = super().__new__(cls, label, score)
        self.cosine = cosine
        return self

    def __getnewargs__(self) -> tuple[str, float, float]:
        """Support pickle and copy."""
        return self.label, self.score, self.cosine

    def __repr__(self) -> str:
        """Return all three values."""
        return f"Prediction(label={self.label!r}, score={self.score!r}, cosine={self.cosine!r})"


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


def predictions(
    cosines: Float[np.ndarray, "n C"], scale: float, labels: Sequence[str], k: int | None = None
) -> list[list[Prediction]]:
    """Return the k best labels (None: all) with their probabilities among all labels for each image, best first.

    Ties keep the order of `labels`.
    """
    scores = softmax(np.float32(scale) * cosines)
    return [
        [Prediction(labels[c], float(row[c]), float(similar[c])) for c in _best(row, k)]
        for row, similar in zip(scores, cosines, strict=True)
    ]


def _best(scores: Float[np.ndarray, "C"], k: int | None) -> list[int]:
    """Return the places of the k largest scores, the largest first; ties in the order of the places."""
    places = np.arange(len(scores))
    if k is not None and k < len(scores):
        places = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
    return places[np.argsort(-scores[places], kind="stable")][:k].tolist()


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
