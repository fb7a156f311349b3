"""Half precision by itself: what "auto" becomes, what is remembered, and that nothing stale or broken is believed."""

import dataclasses
import errno
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cjkclip
from cjkclip import engines, probes
from cjkclip.cli.report import Report
from cjkclip.config import Model
from cjkclip.engines.openvino import ops as ops_openvino
from cjkclip.machine import cache
from cjkclip.parameters import shapes
from cjkclip.precision import half
from families import GOLDEN
from support.engines import BERT, MODELS, random_params

MODEL = MODELS["vit"]
INPUTS = probes.inputs(MODEL, None)


class Rough:
    """An engine whose half precision is off by a share of each feature's length."""

    name, device = "rough", "cpu"

    def __init__(self, precision: str, off: float) -> None:
        self.precision = precision
        self.off = off if precision == "bf16" else 0.0

    def prepare(self) -> None:
        raise NotImplementedError

    def image_stages(self, pixels: np.ndarray) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def text_stages(self, ids: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        raise NotImplementedError

    def image(self, pixels: np.ndarray) -> np.ndarray:
        rows = np.tile(np.float32([1, 0]), (len(pixels), 1))
        rows[-1, 1] = self.off  # only the last picture suffers
        return rows

    def text(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        assert ids.shape == mask.shape
        return np.ones((len(ids), 2), np.float32)


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[str, int]]:
    """The precision chosen for a model whose half precision is off by so much, and how many engines it built."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(half, "SMALL", 0)
    monkeypatch.setattr(engines, "fast", lambda *_: "bf16")

    def say(off: float, params: dict[str, np.ndarray] | None = None, model: Model = MODEL) -> tuple[str, int]:
        built: list[str] = []

        def build(*_: object, precision: str, **__: object) -> Rough:
            built.append(precision)
            return Rough(precision, off)

        with monkeypatch.context() as patch:
            patch.setattr(engines, "build", build)
            chosen = half.precision(
                model, params or random_params(MODEL), lambda: INPUTS, engine="openvino", device="cpu"
            )
        return chosen, len(built)

    return say


def records() -> list[Path]:
    return sorted(cache.folder("precision").glob("*"))


def test_the_cosine_decides_and_is_measured_once(tried: Callable[..., tuple[str, int]]) -> None:
    assert tried(0.03) == ("bf16", 2)  # cosine 0.99955
    assert tried(9.0) == ("bf16", 0)  # remembered
    [record] = records()
    assert json.loads(record.read_text()) == {"image": pytest.approx(1 / np.hypot(1, 0.03)), "text": pytest.approx(1)}


@pytest.mark.parametrize("off", [0.033, 5.0, np.nan, np.inf])
def test_one_bad_feature_is_enough(off: float, tried: Callable[..., tuple[str, int]]) -> None:
    assert tried(off) == ("fp32", 2)
    assert tried(0.0) == ("fp32", 0)


def test_another_parameter_or_fact_is_another_model(tried: Callable[..., tuple[str, int]]) -> None:
    params = random_params(MODEL)
    assert tried(0.0, params) == ("bf16", 2)
    params["vision.cls"][3] = np.nextafter(params["vision.cls"][3], np.float32(9))
    assert tried(9.0, params) == ("fp32", 2)
    other = dataclasses.replace(MODEL, text=dataclasses.replace(MODEL.text, eps=2e-5))
    assert tried(9.0, random_params(MODEL), other) == ("fp32", 2)
    assert len(records()) == 3


@pytest.mark.parametrize("text", ["[" * 100_000, "", "{", "[]", "{}", '{"image": "x"}', '{"other": 1.0}', "\x00\xff"])
def test_a_damaged_record_is_measured_again(text: str, tried: Callable[..., tuple[str, int]]) -> None:
    tried(0.0)
    [record] = records()
    record.write_text(text, "utf-8")
    assert tried(9.0) == ("fp32", 2)
    assert tried(0.0) == ("fp32", 0)


def test_a_cache_that_cannot_be_written_changes_nothing(tried: Callable[..., tuple[str, int]], tmp_path: Path) -> None:
    (tmp_path / "cjkclip").write_text("a file where the folder should be")
    assert tried(0.0) == ("bf16", 2)
    assert tried(9.0) == ("fp32", 2)


def test_a_cache_that_is_only_read_is_still_used(
    tried: Callable[..., tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The calls fail as on a read-only disk, because file modes do not stop an administrator."""
    assert tried(0.0) == ("bf16", 2)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    for name in ("mkdir", "write_text", "replace", "unlink"):
        monkeypatch.setattr(Path, name, refuse)
    assert tried(9.0) == ("bf16", 0)
    other = random_params(MODEL)
    other["vision.cls"][0] += 1
    assert tried(9.0, other) == ("fp32", 2)


def test_a_full_disk_leaves_no_half_of_a_record(
    tried: Callable[..., tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.write_bytes

    def half(path: Path, content: bytes) -> int:
        real(path, content[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half)
        assert tried(0.0) == ("bf16", 2)
        assert list(cache.folder("precision").iterdir()) == []
    assert tried(9.0) == ("fp32", 2)
    assert len(records()) == 1


def test_a_user_without_a_home_has_no_cache(
    tried: Callable[..., tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(_: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "expanduser", nowhere)
    assert tried(0.0) == ("bf16", 2)
    assert tried(9.0) == ("fp32", 2)


def test_the_first_look_is_said_once(tried: Callable[..., tuple[str, int]], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "cjkclip"):
        tried(0.0)
        tried(0.0)
    assert [record.getMessage() for record in caplog.records] == [
        "measuring how exact bf16 is for this model, once, which takes some seconds"
    ]


def test_the_command_line_says_it_when_it_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def measure(*_: object, **__: object) -> dict[str, float]:
        said.append(capsys.readouterr().err)
        return {"image": 1.0}

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(half, "SMALL", 0)
    monkeypatch.setattr(half, "measure", measure)
    monkeypatch.setattr(engines, "fast", lambda *_: "bf16")
    monkeypatch.setattr(ops_openvino, "computes_bf16", lambda: True)
    with Report("embed", as_json=False) as report:
        for _ in range(2):
            _ = cjkclip.load(GOLDEN / "hf-clip-eos2", engine="openvino").engine
    told = "measuring how exact bf16 is for this model, once, which takes some seconds"
    assert said == [f"cjkclip: note: {told}\n"]
    assert report.notes == [told]
    assert not logging.getLogger("cjkclip").handlers


def test_old_records_are_dropped(tried: Callable[..., tuple[str, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half, "MOST_RECORDS", 3)
    for value in range(5):
        params = random_params(MODEL)
        params["vision.cls"][0] = value
        tried(0.0, params)
    assert len(records()) == 3


def test_small_models_and_machines_without_it_stay_exact(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    params = random_params(MODEL)
    assert half.precision(MODEL, params, lambda: pytest.fail("asked"), engine="openvino", device="cpu") == "fp32"
    monkeypatch.setattr(half, "SMALL", 0)
    monkeypatch.setattr(engines, "fast", lambda *_: None)
    assert half.precision(MODEL, params, lambda: pytest.fail("asked"), engine="openvino", device="cpu") == "fp32"
    assert records() == []
    assert cjkclip.load("moji").engine.precision == "fp32"


@pytest.mark.parametrize("case", ["hf-clip-eos2", "rinna-clip"])
def test_a_real_engine_goes_through_it(case: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(half, "SMALL", 0)
    monkeypatch.setattr(engines, "fast", lambda *_: "bf16")
    monkeypatch.setattr(ops_openvino, "computes_bf16", lambda: True)  # where it does not, both sides are float32
    clip = cjkclip.load(GOLDEN / case, engine="openvino")
    inputs = probes.inputs(clip.config, clip.tokenizer)
    cosines = half.measure(clip.config, clip.params, inputs, where=("openvino", "cpu"), fast="bf16")
    assert set(cosines) == {"image", "text"}
    assert all(0.9 < cosine <= 1.0001 for cosine in cosines.values())
    decided = "bf16" if min(cosines.values()) >= half.LEAST_COSINE else "fp32"
    assert clip.engine.precision == decided


def test_an_engine_changes_no_number_of_a_mapped_file() -> None:
    """Compiling and running read the file. A second graph reads the same numbers."""
    clip = cjkclip.load(GOLDEN / "hf-clip-eos2", engine="openvino")
    before = {name: array.copy() for name, array in clip.params.items()}
    pixels = probes.inputs(clip.config, clip.tokenizer).pixels
    assert pixels is not None
    first = clip.encode_pixels(pixels)
    for name, array in clip.params.items():
        np.testing.assert_array_equal(array, before[name])
    np.testing.assert_array_equal(clip.encode_pixels(pixels), first)
    assert set(clip.engine.image_stages(pixels)) > {"image_features"}  # another graph from the same weights


def test_single_towers_are_probed_alone() -> None:
    text = Model(vision=None, text=BERT, image=None, embed=16, scale=None)
    assert probes.inputs(text, None).pixels is None
    params = {name: array for name, array in random_params(MODELS["bert-project"]).items() if name in shapes(text)}
    assert set(half.measure(text, params, probes.inputs(text, None), where=("numpy", "cpu"), fast="fp32")) == {"text"}
