"""Batches: texts of a like length together, repeated ones once, labels kept, pictures made one batch ahead."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cjkclip
from cjkclip import zeroshot
from cjkclip.errors import ImageError, InputError, TruncatedTextWarning
from cjkclip.image import batches
from cjkclip.text.batches import STEP, by_length

TEXTS = ["판다", "a very long name of a small red panda in a tree", "猫", "판다", "fire engine", "猫"]


@pytest.fixture
def clip() -> cjkclip.Clip:
    return cjkclip.load("moji")


@pytest.fixture
def asked(clip: cjkclip.Clip, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of ids that the text tower is asked with."""
    shapes: list[tuple[int, ...]] = []
    real = clip.engine.text
    monkeypatch.setattr(clip.engine, "text", lambda ids, mask: (shapes.append(ids.shape), real(ids, mask))[1])
    return shapes


def test_rows_come_once_each_and_lengths_stay_within_a_step() -> None:
    lengths = np.random.default_rng(0).integers(1, 52, 500)
    mask = (np.arange(52) < lengths[:, None]).astype(np.int64)
    found = list(by_length(mask, 16))
    assert sorted(np.concatenate(found).tolist()) == list(range(500))
    for rows in found:
        assert len(rows) <= 16
        assert lengths[rows].max() - lengths[rows].min() < STEP


def test_repeated_texts_are_encoded_once_without_padding(clip: cjkclip.Clip, asked: list[tuple[int, ...]]) -> None:
    features = clip.encode_text(TEXTS)
    assert sum(rows for rows, _ in asked) == len(set(TEXTS))
    lengths = clip.tokenize(TEXTS).mask.sum(axis=1)
    assert max(width for _, width in asked) == lengths.max()
    assert min(width for _, width in asked) <= lengths.min() + STEP - 1
    np.testing.assert_array_equal(features[0], features[3])


def test_the_callers_order_and_numbers_stay(clip: cjkclip.Clip) -> None:
    alone = np.concatenate([clip.encode_text([text]) for text in TEXTS])
    np.testing.assert_allclose(clip.encode_text(TEXTS), alone, atol=1e-6)
    assert clip.encode_text([]).shape == (0, clip.embed_dim)
    with pytest.raises(InputError, match="batch_size is 0"):
        clip.encode_text(TEXTS, batch_size=0)


def test_cut_texts_are_told_by_the_callers_index(clip: cjkclip.Clip) -> None:
    long = " ".join(["panda"] * 60)
    with pytest.warns(TruncatedTextWarning, match=r"2 of 3 texts .*index 0, 2\)"):
        clip.encode_text([long, "cat", long])


def test_labels_are_encoded_once_for_many_calls(clip: cjkclip.Clip, asked: list[tuple[int, ...]]) -> None:
    picture = next(iter(cjkclip.moji.pictures("noto").values()))
    for _ in range(3):
        clip.classify(picture, ["판다", "소방차"], language="ko")
    assert len(asked) >= 1
    before = len(asked)
    clip.classify(picture, ["판다", "주먹밥"], language="ko")
    assert len(asked) > before
    for number in range(2 * zeroshot.KEPT):
        clip.classify(picture, ["판다", f"{number}"])
    assert len(clip._labels._sets) == zeroshot.KEPT


def test_the_next_batch_is_made_while_one_is_encoded(clip: cjkclip.Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    made, second = list[int](), threading.Event()
    real_load, real_image = batches.load_pixels, clip.engine.image

    def load(pictures: Any, *args: Any, **more: Any) -> np.ndarray:
        made.append(len(pictures))
        if len(made) == 2:
            second.set()
        return real_load(pictures, *args, **more)

    def image(pixels: np.ndarray) -> np.ndarray:
        assert second.wait(20), "nothing was made ahead"
        return real_image(pixels)

    monkeypatch.setattr(batches, "load_pixels", load)
    monkeypatch.setattr(clip.engine, "image", image)
    heard: list[int] = []
    pictures = list(cjkclip.moji.pictures("noto").values())[:5]
    features = clip.encode_image(pictures, batch_size=2, progress=heard.append)
    assert (made, heard) == ([2, 2, 1], [2, 4, 5])
    monkeypatch.undo()
    np.testing.assert_allclose(features, clip.encode_image(pictures), atol=1e-6)


def test_pictures_are_opened_on_several_threads(clip: cjkclip.Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    from cjkclip.image import pixels
    from cjkclip.machine import threads

    monkeypatch.setattr(threads, "cores", lambda: 2)
    both, real = threading.Barrier(2), pixels.decode

    def decode(*args: Any) -> Image.Image:
        both.wait(20)  # two have to be in here at once
        return real(*args)

    monkeypatch.setattr(pixels, "decode", decode)
    pictures = [Image.new("RGB", (40, 30), color) for color in ("red", "blue", "green", "white")]
    assert clip.preprocess(pictures).shape[0] == 4


def test_bad_pictures_are_told_in_order_by_the_callers_index(clip: cjkclip.Clip) -> None:
    good = Image.new("RGB", (8, 8))
    heard: list[int] = []
    features = clip.encode_image(
        [b"x", good, b"y", good, good, b"z"], batch_size=2, on_error=lambda i, _: heard.append(i)
    )
    assert heard == [0, 2, 5]
    assert np.isnan(features).all(axis=1).tolist() == [True, False, True, False, False, True]
    with pytest.raises(ImageError, match="3 of 6 images"):
        clip.encode_image([b"x", good, b"y", good, good, b"z"], batch_size=2)


def test_the_first_batches_are_smaller_so_that_encoding_starts_soon(clip: cjkclip.Clip) -> None:
    heard: list[int] = []
    pictures = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(60)]
    features = clip.encode_image(pictures, batch_size=32, progress=heard.append)
    assert heard == [8, 24, 56, 60]
    np.testing.assert_allclose(features, clip.encode_image(pictures, batch_size=60), atol=2e-6)


def test_whoever_stops_early_does_not_wait_for_the_pictures_of_the_next_batch(
    clip: cjkclip.Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cjkclip.machine import threads

    monkeypatch.setattr(threads, "cores", lambda: 2)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    opened, stopping = list[int](), threading.Event()

    class Slow:
        """The path of a picture, which is not read until somebody stops."""

        def __init__(self, place: int) -> None:
            self.place = place

        def __fspath__(self) -> str:
            opened.append(self.place)
            assert self.place < 8 or stopping.wait(20)
            return str(tmp_path / "a.png")

    found = clip.encode_image_batches([Slow(place) for place in range(24)], batch_size=16)
    assert len(next(found).features) == 8
    threading.Timer(0.5, stopping.set).start()
    found.close()
    assert len(set(opened)) <= 8 + 2, opened
