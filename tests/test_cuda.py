"""On a CUDA device (`make test-gpu`): what comes back is what NumPy computes, in every precision and by every way."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import cjkclip
from cjkclip import engines
from cjkclip.engines.torch import TorchEngine, gpu
from families import FAMILIES, Case
from test_families import READING, SEEING, difference, rows
from test_precisions import BOUNDS, unit

pytestmark = pytest.mark.gpu
EXACT = 1e-5  # the promise for float32


@pytest.fixture(autouse=True)
def a_card() -> None:
    assert torch.cuda.is_available(), f"torch {torch.__version__} finds no CUDA device: run `make test` without one"


def built(case: Case, precision: str) -> tuple[engines.Engine, engines.Engine]:
    clip = case.load()
    card = engines.build(clip.config, clip.params, engine="torch", precision=precision, device="cuda")
    return card, engines.build(clip.config, clip.params, engine="numpy", precision="fp32", device="cpu")


@rows(FAMILIES)
@pytest.mark.parametrize(("precision", "bound"), [("fp32", EXACT), ("bf16", BOUNDS["torch", "bf16"])])
def test_plain_recorded_and_replayed_calls_are_right(case: Case, precision: str, bound: float) -> None:
    card, oracle = built(case, precision)
    expected, rng = case.expected(), np.random.default_rng(0)
    for _ in range(4):
        if case in SEEING:
            pixels = rng.permutation(expected["pixel_values"])
            assert difference(unit(card.image(pixels)), unit(oracle.image(pixels))) <= bound
        if case in READING:
            order = rng.permutation(len(case.mask))
            ids, mask = expected["input_ids"][order].astype(np.int64), case.mask[order].astype(np.int64)
            assert difference(unit(card.text(ids, mask)), unit(oracle.text(ids, mask))) <= bound


@rows(FAMILIES)
def test_stages_are_those_of_the_oracle(case: Case) -> None:
    card, oracle = built(case, "fp32")
    if case in SEEING:
        pixels = case.expected()["pixel_values"]
        got, want = card.image_stages(pixels), oracle.image_stages(pixels)
        assert {name: difference(got[name], want[name]) <= EXACT for name in want} == dict.fromkeys(want, True)


@pytest.mark.parametrize("compiled", [False, True])
def test_many_rows_and_threads(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes and recordings are in step: 40 calls of other numbers, from four threads."""
    monkeypatch.setattr(gpu, "COMPILE_AFTER", 0.0 if compiled else 1e9)
    clip = cjkclip.load("moji", engine="torch", device="cuda", precision="fp32")
    assert isinstance(clip.engine, TorchEngine)
    side = clip.config.vision.image_size if clip.config.vision else 0
    rng = np.random.default_rng(0)
    asked = [rng.normal(size=(count, 3, side, side)).astype(np.float32) for count in (1, 200, 64, 33) * 10]
    exact = cjkclip.load("moji", engine="openvino", precision="fp32")
    want = [exact.encode_pixels(one) for one in asked]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(clip.encode_pixels, asked))
    assert max(map(difference, found, want)) <= EXACT


def test_the_gate_looks_on_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cjkclip.gate.SMALL", 0)
    clip = cjkclip.load("moji", device="cuda")
    assert clip.engine.device.startswith("cuda")
    capable = torch.cuda.get_device_capability() >= (8, 0)
    assert clip.engine.precision in (("bf16", "fp32") if capable else ("fp32",))
