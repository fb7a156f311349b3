"""The indexing pipeline as a library: rows in the order of the inputs, callbacks, what happens without them."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import cjkclip
from cjkclip.errors import CjkclipError, EngineWarning, ImageError, TextError
from cjkclip.gallery import Gallery, Rows
from cjkclip.gallery import index as pipeline
from cjkclip.gallery.index import IndexInputs, Seconds, encode_inputs, index
from cjkclip.text import Tokens
from support.cli import TINY

IMAGES = [str(TINY / "images" / name) for name in ("a.png", "b.png", "c.jpg")]


class Kept:
    """A sink that remembers its rows."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.vectors: list[np.ndarray] = []

    def add(self, names: Sequence[str], vectors: np.ndarray) -> None:
        self.names += names
        self.vectors += list(vectors)


@pytest.fixture(scope="module")
def clip() -> cjkclip.Clip:
    return cjkclip.load(TINY, engine="numpy")


def mixed(*names: str) -> IndexInputs:
    """Names that end like images are images, the others texts."""
    inputs = IndexInputs()
    for name in names:
        (inputs.add_pictures if name.endswith(("png", "jpg")) else inputs.add_texts)([name])
    return inputs


def test_rows_come_in_the_order_of_the_inputs(clip: cjkclip.Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "PART", 2)
    inputs, kept = mixed("猫", IMAGES[0], "ねこ", "고양이", IMAGES[1], "a cat", *IMAGES), Kept()
    seconds = index(kept, clip, inputs, batch_size=2)
    assert kept.names == inputs.names
    for name, vector in zip(kept.names, kept.vectors, strict=True):
        truth = clip.encode_image([Path(name)]) if name in IMAGES else clip.encode_text([name])
        np.testing.assert_allclose(vector, truth[0], atol=1e-6)
    assert min(seconds.reading, seconds.encoding, seconds.writing) > 0
    assert seconds.whole == seconds.reading + seconds.encoding + seconds.writing


def test_a_file_of_rows_is_a_gallery(clip: cjkclip.Clip, tmp_path: Path) -> None:
    with Rows(tmp_path / "g.safetensors", clip.embed_dim) as rows:
        index(rows, clip, mixed(*IMAGES))
        rows.save(clip.fingerprint)
    gallery = Gallery.load(tmp_path / "g.safetensors")
    assert list(gallery.names) == IMAGES
    np.testing.assert_array_equal(gallery.vectors, clip.encode_image(IMAGES))


def test_an_input_that_cannot_be_used_is_passed_on_by_position(clip: cjkclip.Clip, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"none")
    inputs = mixed("猫", " ", IMAGES[0], str(bad), "犬", str(tmp_path / "gone.png"))
    errors: dict[int, CjkclipError] = {}
    parts = list(encode_inputs(clip, inputs, on_error=errors.__setitem__))
    assert {i: type(error) for i, error in errors.items()} == {1: TextError, 3: ImageError, 5: ImageError}
    assert "gone.png" in str(errors[5])
    rows = {i: row for positions, vectors in parts for i, row in zip(positions, vectors, strict=True)}
    assert list(rows) == [0, 2, 3, 4, 5]
    assert [i for i, row in rows.items() if np.isnan(row).all()] == [3, 5]


@pytest.mark.parametrize(("name", "kind"), [(" ", TextError), ("gone.png", ImageError)])
def test_without_on_error_the_first_bad_input_stops_it(clip: cjkclip.Clip, name: str, kind: type[CjkclipError]) -> None:
    kept = Kept()
    with pytest.raises(kind):
        index(kept, clip, mixed("猫", name))
    assert not np.isnan(kept.vectors).any()


def test_progress_says_how_many_of_how_many(clip: cjkclip.Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "PART", 2)
    calls: list[tuple[int, int]] = []
    inputs = mixed("a", " ", "b", *IMAGES, "c")
    index(Kept(), clip, inputs, batch_size=2, on_error=lambda *_: None, progress=lambda *now: calls.append(now))
    assert calls == [(done, 6) for done in (0, 2, 4, 5, 6)]


def test_cut_texts_are_one_note_and_no_warning(clip: cjkclip.Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "PART", 2)
    notes: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index(Kept(), clip, mixed("猫", "ねこ" * 500, "a", "b", "いぬ" * 500), note=notes.append)
        index(Kept(), clip, mixed("ねこ" * 500))
    assert notes == [f"2 of 5 texts are longer than 77 tokens and were cut (first: '{'ねこ' * 30}…')"]


def test_another_warning_is_passed_on(clip: cjkclip.Clip, monkeypatch: pytest.MonkeyPatch) -> None:
    real = clip.encode_tokens

    def encode(tokens: Tokens) -> np.ndarray:
        warnings.warn("slow", EngineWarning, stacklevel=2)
        return real(tokens)

    monkeypatch.setattr(clip, "encode_tokens", encode)
    with pytest.warns(EngineWarning, match="slow"):
        index(Kept(), clip, mixed("ねこ" * 500))


def test_seconds_add_up_over_calls(clip: cjkclip.Clip) -> None:
    seconds = Seconds()
    for _ in encode_inputs(clip, mixed(*IMAGES), seconds=seconds):
        pass
    once = seconds.encoding
    for _ in encode_inputs(clip, mixed(*IMAGES), seconds=seconds):
        pass
    assert 0 < once < seconds.encoding
