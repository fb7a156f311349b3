"""Probabilities among labels, cosines beside them, and the k best of many labels."""

import copy
import pickle
import time

import numpy as np
import pytest

import cjkclip
from cjkclip import zeroshot
from cjkclip.errors import InputError
from cjkclip.zeroshot import Prediction, predictions
from support.cli import answer, run

LABELS = ["panda", "fire engine", "cat", "rice ball", "panda"]


@pytest.fixture(scope="module")
def clip() -> cjkclip.Clip:
    return cjkclip.load("moji", engine="numpy")


@pytest.fixture(scope="module")
def images() -> list[cjkclip.image.Picture]:
    return list(cjkclip.moji.pictures("noto").values())[:6]


def test_a_prediction_is_a_pair_that_carries_its_cosine(
    clip: cjkclip.Clip, images: list[cjkclip.image.Picture]
) -> None:
    [results] = clip.classify(images[0], LABELS)
    cosines = dict(zip(LABELS, clip.encode_image([images[0]])[0] @ clip.encode_text(LABELS).T, strict=True))
    for one in results:
        label, score = one
        assert (label, score) == (one.label, one.score) == tuple(one)
        assert one.cosine == pytest.approx(cosines[label], abs=1e-6)
        for again in (pickle.loads(pickle.dumps(one)), copy.copy(one)):
            assert (again, again.cosine) == (one, one.cosine)
    assert repr(Prediction("a", 0.5, 0.25)) == "Prediction(label='a', score=0.5, cosine=0.25)"


def test_one_label_says_nothing_by_its_probability_but_by_its_cosine(
    clip: cjkclip.Clip, images: list[cjkclip.image.Picture]
) -> None:
    [[one]] = clip.classify(images[0], ["消防车"])
    assert one.score == 1
    assert -1 <= one.cosine < 0.9


@pytest.mark.parametrize("k", [1, 2, 3, 5, 99])
def test_the_best_k_are_the_first_of_all(clip: cjkclip.Clip, images: list[cjkclip.image.Picture], k: int) -> None:
    assert clip.classify(images, LABELS, k=k) == [row[:k] for row in clip.classify(images, LABELS)]


@pytest.mark.parametrize("k", range(1, 8))
def test_ties_keep_the_order_of_the_labels(k: int) -> None:
    labels = list("abcdefg")
    cosines = np.array([[0.1, 0.5, 0.5, 0.2, 0.5, 0.1, 0.5]], np.float32)
    assert [each.label for each in predictions(cosines, 10.0, labels, k)[0]] == list("bcegdaf")[:k]


def test_parts_of_many_scores_give_the_same(
    clip: cjkclip.Clip, images: list[cjkclip.image.Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, sizes = clip.classify(images, LABELS, k=2), list[int]()
    monkeypatch.setattr("cjkclip.clip.MOST_SCORES", 2 * len(LABELS))
    real = zeroshot.predictions
    monkeypatch.setattr(zeroshot, "predictions", lambda part, *a: sizes.append(len(part)) or real(part, *a))
    assert [[each.label for each in row] for row in clip.classify(images, LABELS, k=2)] == [
        [each.label for each in row] for row in whole
    ]
    assert sizes == [2, 2, 2]


def test_ten_thousand_labels_build_only_what_is_asked() -> None:
    cosines = np.random.default_rng(0).normal(size=(100, 10_000)).astype(np.float32)
    labels = [f"标签{i}" for i in range(10_000)]
    start = time.process_time()
    rows = predictions(cosines, 1.0, labels, 5)
    assert time.process_time() - start < 5  # all of them take longer than that
    assert [row[0].label for row in rows] == [labels[i] for i in cosines.argmax(axis=1)]
    assert {len(row) for row in rows} == {5}


def test_a_k_without_labels_is_refused(clip: cjkclip.Clip, images: list[cjkclip.image.Picture]) -> None:
    with pytest.raises(InputError, match="k is 0, expected at least 1 label"):
        clip.classify(images, LABELS, k=0)


def test_the_command_line_says_among_what(tmp_path: object, picture: str) -> None:
    assert "probability  among 3" in run("classify", picture, "-l", "a,b,c").output
    one = run("classify", picture, "-l", "a")
    assert "100.0%" not in one.output
    assert "cosine" in one.output
    assert "one label alone always has the probability 1" in one.stderr
    data = answer("classify", picture, "-l", "a")
    assert "one label alone" in data["notes"][0]
    assert set(data["results"][0]["predictions"][0]) == {"label", "score", "cosine"}


@pytest.fixture
def picture() -> str:
    from support.cli import IMAGES

    return str(next(iter(sorted(IMAGES.iterdir()))))
