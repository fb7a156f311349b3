"""On a CUDA device (`make test-gpu`): what comes back is what NumPy computes, in every precision and by every way."""

import numpy as np
import pytest
import torch

import cjkclip
from cjkclip import engines
from cjkclip.engines.torch import compiling, gpu
from families import FAMILIES, Case
from support.cases import READING, SEEING, difference, rows, unit
from support.precisions import BOUNDS
from support.processes import printed

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


def test_recordings_that_made_room_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch takes memory of cuBLAS away where one of several recordings goes."""
    monkeypatch.setattr(gpu, "KEPT", 2)
    clip = cjkclip.load("moji", engine="torch", device="cuda", precision="fp32")
    exact = cjkclip.load("moji", engine="openvino", precision="fp32")
    rng = np.random.default_rng(0)
    for turn in range(12):
        for count in (1, 2, 4, 8, 16):
            for _ in range(turn % count + 1):
                pixels = rng.normal(size=(count, 3, 96, 96)).astype(np.float32)
                assert difference(clip.encode_pixels(pixels), exact.encode_pixels(pixels)) <= EXACT


MANY = """
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import cjkclip
from cjkclip.engines.torch import compiling, gpu

gpu.COMPILE_AFTER = 0.0 if sys.argv[1] == "compiled" else 1e9
clip = cjkclip.load("moji", engine="torch", device=sys.argv[2], precision="fp32")
exact = cjkclip.load("moji", engine="openvino", precision="fp32")
rng, words = np.random.default_rng(0), ["cat", "消防車", "a bunch of flowers", "눈사람"]
calls = []
for count in (1, 200, 64, 33) * 10:
    pixels = rng.normal(size=(count, 3, 96, 96)).astype(np.float32)
    calls += [("encode_pixels", pixels), ("encode_text", words[: count % 3 + 1] * count)]
with ThreadPoolExecutor(4) as pool:
    found = list(pool.map(lambda call: getattr(clip, call[0])(call[1]), calls))
print(max(float(np.abs(got - getattr(exact, name)(asked)).max()) for got, (name, asked) in zip(found, calls)))
print(clip.engine._image._compiled, len(clip.engine._image._recordings._recorded))
"""


@pytest.mark.parametrize("way", ["plain", "compiled"])
def test_many_rows_of_both_towers_from_several_threads(way: str) -> None:
    """Lanes and recordings are in step, on every card. In a process without the checks of annotations."""
    for number in range(torch.cuda.device_count()):
        difference, compiled, recorded = printed("-c", MANY, way, f"cuda:{number}").split()
        assert float(difference) <= EXACT
        assert compiled == str(way == "compiled" and compiling.lacking() is None)
        assert int(recorded) > 0


def test_the_gate_looks_on_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cjkclip.precision.half.SMALL", 0)
    clip = cjkclip.load("moji", device="cuda")
    assert clip.engine.device.startswith("cuda")
    capable = torch.cuda.get_device_capability() >= (8, 0)
    assert clip.engine.precision in (("bf16", "fp32") if capable else ("fp32",))
