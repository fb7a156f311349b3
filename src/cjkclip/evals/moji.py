"""The tests of the bundled model: images in a design held out from training, texts in five languages.

Test A: concepts of the training split, in the held-out design. B: concepts of the test split, in that design. C: the
keywords of A, which have several right answers. E: the gap between the best and the worst language on A. Queries are
names and keywords without prompt templates.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cjkclip import metrics
from cjkclip.clip import Clip
from cjkclip.errors import InputError
from cjkclip.image import Picture
from cjkclip.moji import Concept

LANGUAGES = ("zh", "zh-Hant", "ja", "ko", "en")
TESTS: dict[str, str] = {"A": "train", "B": "test"}  # test -> split of its concepts
DEPTHS = (1, 5, 10)
Direction = Literal["text to image", "image to text"]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class EvalRow:
    """One test in one language and direction: `n` queries among `candidates`."""

    test: str
    language: str
    direction: Direction
    n: int
    candidates: int
    figures: dict[str, Estimate]  # "R@1", "R@5", "R@10" (shares), "median rank"; for test C "mAP"


def evaluate(
    clip: Clip, pictures: Mapping[str, Picture], concepts: Sequence[Concept], languages: Sequence[str] = LANGUAGES
) -> list[EvalRow]:
    """Return all rows of tests A, B and C. `pictures`: images of one design, by code points. `gap` is test E.

    Raises InputError if the image of a concept is missing.
    """
    rows: list[EvalRow] = []
    for test, split in TESTS.items():
        members = [concept for concept in concepts if concept.split == split]
        images = clip.encode_image([_picture(pictures, concept) for concept in members])
        for language in languages:
            scores = clip.encode_text([concept.names[language] for concept in members]) @ images.T
            rows += _retrieval(test, language, scores)
            if test == "A":
                rows.append(_keywords(clip, language, members, images))
    return rows


def gap(rows: Sequence[EvalRow]) -> tuple[float, str, str]:
    """Return test E: (best minus worst, best language, worst language) of R@1, text to image, on A."""
    shares = {r.language: r.figures["R@1"].value for r in rows if (r.test, r.direction) == ("A", "text to image")}
    best, worst = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
    return shares[best] - shares[worst], best, worst


def _picture(pictures: Mapping[str, Picture], concept: Concept) -> Picture:
    if concept.cp not in pictures:
        raise InputError(
            f"no image of {concept.cp} ({concept.names['en']}) among the {len(pictures)} given: add it under that key"
        )
    return pictures[concept.cp]


def _retrieval(test: str, language: str, scores: np.ndarray) -> Iterator[EvalRow]:
    """Yield the rows of both directions; name i belongs to image i."""
    own = np.eye(len(scores), dtype=bool)
    directions: tuple[Direction, Direction] = ("text to image", "image to text")
    for direction, oriented in zip(directions, (scores, scores.T), strict=True):
        ranks = metrics.first_ranks(oriented, own)
        figures = {f"R@{k}": _share(metrics.recall_at(k, ranks), len(ranks)) for k in DEPTHS}
        low, high = metrics.bootstrap(ranks.astype(np.float64), np.median)
        figures["median rank"] = Estimate(value=metrics.median_rank(ranks), low=low, high=high)
        yield EvalRow(
            test=test, language=language, direction=direction, n=len(ranks), candidates=len(ranks), figures=figures
        )


def _keywords(clip: Clip, language: str, members: Sequence[Concept], images: np.ndarray) -> EvalRow:
    """Return test C: the answers to a keyword are all concepts that have it, as a keyword or as the name."""
    words = sorted({word for concept in members for word in concept.keywords[language]})
    column = {word: row for row, word in enumerate(words)}
    right = np.zeros((len(words), len(members)), dtype=bool)
    for place, concept in enumerate(members):
        for word in {*concept.keywords[language], concept.names[language]} & column.keys():
            right[column[word], place] = True
    values = metrics.average_precisions(clip.encode_text(words) @ images.T, right)
    low, high = metrics.bootstrap(values)
    mean_precision = Estimate(value=float(values.mean()), low=low, high=high)
    return EvalRow(
        test="C",
        language=language,
        direction="text to image",
        n=len(words),
        candidates=len(members),
        figures={"mAP": mean_precision},
    )


def _share(value: float, n: int) -> Estimate:
    low, high = metrics.wilson(value, n)
    return Estimate(value=value, low=low, high=high)
