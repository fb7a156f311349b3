"""`cjkclip embed` with many texts: a part at a time, in the order of the inputs, with what was cut counted over all."""

import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cjkclip
from cjkclip.cli.report import Report
from cjkclip.gallery import index
from cjkclip.text import Tokens
from support.cli import MODEL, TINY, answer, run

IMAGES = [TINY / "images" / name for name in ("a.png", "b.png", "c.jpg")]
WIDE = 20_000  # numbers in a vector: 96 MB for 1,200 texts


def test_memory_does_not_grow_with_the_number_of_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = cjkclip.load(TINY, engine="numpy")
    clip.embed_dim = WIDE
    monkeypatch.setattr(index, "in_batches", lambda texts, *_: np.full((len(texts), WIDE), WIDE**-0.5, np.float32))
    monkeypatch.setattr(cjkclip, "load", lambda *_, **__: clip)
    monkeypatch.setattr(index, "PART", 50)
    peaks: dict[int, int] = {}
    for count in (300, 1200):
        lines, out = tmp_path / f"{count}.txt", tmp_path / f"{count}.npy"
        lines.write_text("\n".join(f"ねこ {number}" for number in range(count)), encoding="utf-8")
        tracemalloc.start()
        assert run("embed", "--lines", lines, "--out", out, "--batch-size", "40", *MODEL).exit_code == 0
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert out.stat().st_size > count * WIDE * 4
    assert peaks[1200] - peaks[300] < 8_000_000, peaks
    assert peaks[1200] < 32_000_000, peaks


TALE = ["猫", "a cat", IMAGES[0], "犬", *IMAGES * 4, "鳥", "고양이", IMAGES[1], "猫", "ねこ", "いぬ", "개"]


@pytest.mark.parametrize("size", [2, 3, 100])
def test_rows_lie_in_the_order_of_the_inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Texts come in parts and pictures in batches that begin and end at other places."""
    monkeypatch.setattr(index, "PART", size)
    (tmp_path / "lines.txt").write_text("とり\n새\n a bird \n鳥\n", encoding="utf-8")
    more = ("--lines", tmp_path / "lines.txt", "--batch-size", "2")
    data = answer("embed", *TALE, *more, "-o", tmp_path / "v.npz", *MODEL)
    names = [*map(str, TALE), "とり", "새", "a bird", "鳥"]
    clip = cjkclip.load(TINY, engine="numpy")
    vectors = [
        clip.encode_image([name])[0] if name.endswith(("png", "jpg")) else clip.encode_text([name])[0] for name in names
    ]
    with np.load(tmp_path / "v.npz", allow_pickle=False) as saved:
        assert list(saved["names"]) == names == data["names"]
        np.testing.assert_allclose(saved["vectors"], vectors, atol=1e-6)


def test_texts_are_encoded_in_parts_that_are_not_smaller_than_a_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    real = index.in_batches

    def encode(texts: list[str], tokens: Tokens, batch_size: int, *more: Any) -> np.ndarray:
        asked.append((len(texts), batch_size))
        return real(texts, tokens, batch_size, *more)

    monkeypatch.setattr(index, "in_batches", encode)
    monkeypatch.setattr(index, "PART", 4)
    words = [f"word {number}" for number in range(10)]
    for size in ("2", "5"):
        answer("embed", *words, "-o", tmp_path / "v.npy", "--batch-size", size, *MODEL)
    assert asked == [(4, 2), (4, 2), (2, 2), (5, 5), (5, 5)]


def test_progress_counts_texts_and_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    @contextmanager
    def progress(self: Report, what: str) -> Iterator[Any]:
        told.append(what)
        yield lambda done, total: told.append((done, total))

    monkeypatch.setattr(Report, "progress", progress)
    monkeypatch.setattr(index, "PART", 2)
    words = ("a", "b", "c", *IMAGES, "d", "e")
    assert run("embed", *words, "-o", tmp_path / "v.npy", "--batch-size", "2", *MODEL).exit_code == 0
    assert told == [
        "encoding",
        *((done, 8) for done in (0, 2, 4, 6, 7, 8)),
    ]  # a and b; two pictures; c and d; a picture; e
    del told[:]
    monkeypatch.setattr(index, "PART", 4)
    assert run("embed", *"abcdefgh", "-o", tmp_path / "v.npy", "--batch-size", "2", *MODEL).exit_code == 0
    assert told == ["encoding", *((done, 8) for done in (0, 2, 4, 6, 8))]


def test_texts_that_are_cut_are_counted_once_over_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "PART", 2)
    words = ["猫", "a", "b", "ねこ" * 500, "c", "d", "いぬ" * 500, "ねこ" * 600]
    notes = answer("embed", *IMAGES, *words, "-o", tmp_path / "v.npy", "--batch-size", "2", *MODEL)["notes"]
    assert notes == [f"3 of 8 texts are longer than 77 tokens and were cut (first: '{'ねこ' * 30}…')"]
