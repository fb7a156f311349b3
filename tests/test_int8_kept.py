"""The compiled form of a quantised graph is cached beside it: the same numbers, and never another graph's."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cjkclip.engines.openvino import int8 as int8_openvino
from cjkclip.engines.openvino.int8 import OnDisk
from cjkclip.engines.openvino.runtime import core, ov
from cjkclip.machine.mapped import MappedFile
from support.engines import random_params
from support.graphs import MODEL, SAMPLES, graph_of

MADE = ["made"]
Said = list[str]


@pytest.fixture(scope="module")
def quantised() -> ov.Model:
    return int8_openvino.quantise(graph_of(random_params(MODEL)), SAMPLES)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """A word for every graph that had to be made ready."""
    words: Said = []
    make = int8_openvino.compile_and_cache

    def making(*asked: Any, **named: Any) -> ov.CompiledModel:
        words.extend(MADE)
        return make(*asked, **named)

    monkeypatch.setattr(int8_openvino, "compile_and_cache", making)
    return words


def saved(graph: ov.Model, folder: Path, digest: str = "a") -> tuple[OnDisk, ov.Model]:
    """The graph on disk, and as it is read from there."""
    path = folder / "image.xml"
    ov.save_model(graph, path, compress_to_fp16=False)
    weights = MappedFile.of(path.with_suffix(".bin"))
    return OnDisk(graph=path, weights=weights, digest=digest), core().read_model(path)


def answer(place: OnDisk, graph: ov.Model) -> np.ndarray:
    return np.array(place.compiled(graph, "fp32")(SAMPLES[0])[0])


def test_a_graph_is_made_ready_once(quantised: ov.Model, tmp_path: Path, said: Said) -> None:
    place, graph = saved(quantised, tmp_path)
    first, second = answer(place, graph), answer(place, graph)
    assert said == MADE
    np.testing.assert_array_equal(first, second)
    plain = int8_openvino.compile_graph(quantised, "fp32")(SAMPLES[0])[0]
    np.testing.assert_array_equal(first, plain)


@pytest.mark.parametrize("other", ["no file", "zeros", "another model's"])
def test_without_its_weights_a_graph_is_made_from_what_was_read(
    other: str, quantised: ov.Model, tmp_path: Path, said: Said
) -> None:
    place, graph = saved(quantised, tmp_path)
    want = answer(place, graph)
    (tmp_path / "image.bin").unlink()
    if other == "zeros":
        (tmp_path / "image.bin").write_bytes(bytes(1 << 20))
    elif other != "no file":
        (tmp_path / "other").mkdir()
        params = {name: np.asarray(array * 0.9, np.float32) for name, array in random_params(MODEL).items()}
        saved(int8_openvino.quantise(graph_of(params), SAMPLES), tmp_path / "other")
        (tmp_path / "other" / "image.bin").rename(tmp_path / "image.bin")
    np.testing.assert_array_equal(answer(place, graph), want)
    assert said == MADE * 2


@pytest.mark.parametrize("spoil", ["a byte", "its end", "nothing in it"])
def test_a_damaged_one_is_made_again(spoil: str, quantised: ov.Model, tmp_path: Path, said: Said) -> None:
    place, graph = saved(quantised, tmp_path)
    want = answer(place, graph)
    [blob] = tmp_path.glob("*blob")
    content = blob.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    blob.write_bytes({"a byte": flipped, "its end": content[:-1], "nothing in it": b""}[spoil])
    for _ in range(2):
        np.testing.assert_array_equal(answer(place, graph), want)
    assert said == MADE * 2


@pytest.mark.parametrize("other", ["digest", "hints", "instructions"])
def test_another_graph_or_processor_has_its_own(
    other: str, quantised: ov.Model, tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, graph = saved(quantised, tmp_path)
    answer(place, graph)
    if other == "digest":
        place, graph = saved(quantised, tmp_path, "b")
    elif other == "hints":
        monkeypatch.setattr(int8_openvino, "hints", lambda precision: {"another": precision})
    else:
        monkeypatch.setattr(int8_openvino, "simd", lambda: {"another"})
    answer(place, graph)
    assert said == MADE * 2
    assert len(list(tmp_path.glob("*blob"))) == 1  # the one before is forgotten
    assert {path.name for path in tmp_path.iterdir()} >= {"image.xml", "image.bin"}


def test_a_cache_that_was_emptied_stays_empty(quantised: ov.Model, tmp_path: Path, said: Said) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    place, graph = saved(quantised, folder)
    want = answer(place, graph)
    shutil.rmtree(folder)
    np.testing.assert_array_equal(answer(place, graph), want)
    assert not folder.exists()
    assert said == MADE
