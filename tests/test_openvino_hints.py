"""Options of OpenVINO, and its late imports: fused kernels, and the converter of other frameworks' models."""

import sys
from collections.abc import Generator

import numpy as np
import pytest

from cjkclip.engines.openvino import runtime as runtime_openvino
from cjkclip.engines.openvino.ops import OpenvinoEngine
from cjkclip.engines.openvino.runtime import hints
from families import FAMILIES, GOLDEN, Case
from support.processes import printed

PLAIN = "SNIPPETS_MODE"


@pytest.fixture(autouse=True)
def _asked_anew() -> Generator[None]:
    runtime_openvino._plainly.cache_clear()
    yield
    runtime_openvino._plainly.cache_clear()  # what was made up here is not for the tests that follow


@pytest.mark.parametrize(
    ("sets", "plain"),
    [
        ({"X86_V2", "X86_V3"}, True),
        ({"SSE3", "FMA3", "AVX2"}, True),
        ({"X86_V3", "X86_V4"}, False),
        ({"AVX2", "AVX512F", "AVX512_SKX"}, False),
        ({"X86_V2"}, False),
        ({"NEON", "ASIMD"}, False),
    ],
)
def test_by_instruction_sets(sets: set[str], plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_openvino, "simd", lambda: sets)
    assert (PLAIN in hints("fp32")) is plain


def test_a_version_that_does_not_know_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_openvino, "simd", lambda: {"AVX2"})
    monkeypatch.setattr(runtime_openvino, "_PLAIN", {"SNIPPETS_MODUS": "DISABLE"})
    assert set(hints("fp32")) == {"INFERENCE_PRECISION_HINT", "ENABLE_CPU_PINNING"}


def test_what_numpy_tells() -> None:
    told = np.show_config(mode="dicts")["SIMD Extensions"]
    assert runtime_openvino.simd() >= {*told["baseline"]}
    assert not runtime_openvino.simd() & {*told["not found"]}


@pytest.mark.parametrize("case", [case for case in FAMILIES if case.towers == "both"], ids=lambda case: case.name)
def test_both_ways_give_the_same_numbers(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, told = case.load("openvino"), case.expected()
    found: list[np.ndarray] = []
    for sets in ({"AVX2"}, {"AVX2", "AVX512F"}):
        monkeypatch.setattr(runtime_openvino, "simd", lambda sets=sets: sets)
        runtime_openvino._plainly.cache_clear()
        engine = OpenvinoEngine(clip.config, clip.params, "fp32")
        found += [engine.image(told["pixel_values"]), engine.text(told["input_ids"], case.mask)]
    for plain, fused in zip(found[:2], found[2:], strict=True):
        np.testing.assert_allclose(plain, fused, rtol=0, atol=2e-6 * float(np.abs(fused).max()))


CONVERTED = """
import sys
{first}
import cjkclip.engines.openvino.runtime
print("openvino.tools.ovc" in sys.modules)
import openvino, torch
for _ in range(2):
    print(len(openvino.convert_model(torch.nn.ReLU(), example_input=torch.zeros(2)).get_ops()))
print(openvino.convert_model.__module__)
"""


@pytest.mark.parametrize(("first", "there"), [("", False), ("import openvino", True)])
def test_the_converter_comes_when_it_is_called(first: str, there: bool) -> None:
    code = CONVERTED.format(first=first)
    loaded, *ops, module = printed("-W", "ignore", "-c", code).split()
    assert loaded == str(there)
    assert ops[0] == ops[1]
    assert module.startswith("openvino.tools.ovc")


DROPPED = """
import gc, os, signal, sys, threading, time
import numpy as np, cjkclip

def used():
    clip = cjkclip.load(sys.argv[1], engine="openvino", precision="fp32")
    clip.encode_image(np.zeros((30, 30, 3), np.uint8)), clip.encode_text(["a"])
    return clip

kept = [used()]
if sys.argv[2] == "replaced":
    kept.append(used())
    del kept[0]
if sys.argv[2] == "in a thread":
    thread = threading.Thread(target=kept.clear)
    thread.start(), thread.join()
kept.clear(), gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(10)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends itself no SIGINT")
@pytest.mark.parametrize("way", ["dropped", "replaced", "in a thread"])
def test_ctrl_c_after_a_model_was_dropped(way: str) -> None:
    assert printed("-W", "ignore", "-c", DROPPED, GOLDEN / "hf-clip-eos2", way) == "interrupted\n"
