"""Judge a precision by comparing its features with those in float32. n inputs, E joint width."""

from collections.abc import Mapping

import numpy as np

from cjkclip import engines, metrics
from cjkclip.probes import Inputs
from cjkclip.text import Tokens
from cjkclip.text.batches import by_length

LEAST_CENTRED = 0.95  # lowest accepted mean of the centred cosine similarities to float32, for each tower
MOST_LOST = 0.005  # largest accepted loss of recall at 10
TRAINED = 3.0  # a model counts as trained if its recall is this multiple of the recall of chance
NEAREST = 10
Judged = dict[str, float]


def texts(engine: engines.Engine, tokens: Tokens) -> np.ndarray:
    """Return features of texts in their order, computed in batches of similar length, as `Clip.encode_text` does."""
    features: dict[int, np.ndarray] = {}
    for rows in by_length(tokens.mask, 64):
        length = int(tokens.mask[rows].sum(axis=1).max())
        part = engine.text(tokens.ids[rows, :length], tokens.mask[rows, :length])
        features |= zip(rows.tolist(), part, strict=True)
    return np.stack([features[row] for row in range(len(features))])


def features(engine: engines.Engine, inputs: Inputs) -> dict[str, np.ndarray]:
    """Return unit vectors (n, E) by tower, computed in batches of 16."""
    features: dict[str, np.ndarray] = {}
    if inputs.pixels is not None:
        parts = range(0, len(inputs.pixels), 16)
        features["image"] = np.concatenate([engine.image(inputs.pixels[start : start + 16]) for start in parts])
    if inputs.tokens is not None:
        features["text"] = texts(engine, inputs.tokens)
    return {tower: rows / np.linalg.norm(rows, axis=1, keepdims=True) for tower, rows in features.items()}


def judge(exact: Mapping[str, np.ndarray], rough: Mapping[str, np.ndarray], drawings: int) -> Judged:
    """Return the mean and the lowest centred cosine of each tower, and recall at 10 if the model has both towers.

    A feature with NaN counts as a cosine of -1.
    """
    judged: Judged = {}
    for tower, rows in exact.items():
        cosines = np.nan_to_num(centred_cosines(rows, rough[tower]), nan=-1.0)
        judged |= {f"{tower} mean": float(cosines.mean()), f"{tower} least": float(cosines.min())}
    if len(exact) == 2 and drawings:
        judged |= {"recall fp32": recall(exact, drawings), "recall int8": recall(rough, drawings)}
        judged["recall chance"] = min(1.0, NEAREST / drawings)
    return judged


def centred_cosines(exact: np.ndarray, rough: np.ndarray) -> np.ndarray:
    """Return cosine similarities of rows (n, E), both minus the mean of `exact`: plain cosines hide differences."""
    centre = exact.mean(axis=0)
    return metrics.cosine_similarities(exact - centre, rough - centre)


def recall(features: Mapping[str, np.ndarray], drawings: int) -> float:
    """Return the share of names whose drawing is among the ten nearest of all drawings. NaN ranks last."""
    scores = np.nan_to_num(features["text"] @ features["image"][:drawings].T, nan=-np.inf)
    right = np.arange(len(scores))[:, None] % drawings == np.arange(drawings)
    return metrics.recall_at(NEAREST, metrics.first_ranks(scores, right))


def passes(judged: Judged) -> bool:
    """Whether the result is good enough. Recall counts only if the model is trained."""
    centred = min(value for name, value in judged.items() if name.endswith(" mean"))
    lost = judged.get("recall fp32", 0.0) - judged.get("recall int8", 0.0)
    trained = judged.get("recall fp32", 0.0) >= min(1.0, TRAINED * judged.get("recall chance", 1.0))
    return centred >= LEAST_CENTRED and not (trained and lost > MOST_LOST)


def in_words(judged: Judged) -> str:
    """Return the measured values as a text."""
    return ", ".join(f"{name} {value:.4f}" for name, value in judged.items())
