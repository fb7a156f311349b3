"""Failures of a CUDA device, on a stand-in for it: they cost speed and change no result."""

import logging
from typing import Any

import pytest
import torch

from cjkclip import engines
from cjkclip.engines.torch import compiling, gpu
from cjkclip.errors import EngineError, EngineWarning
from support import fakecuda
from support.cases import difference
from support.engines import MODELS, random_params
from support.gpu_towers import ATOL, pixels, runner
from support.processes import printed


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    fakecuda.stand_in(monkeypatch)


def test_what_cannot_be_recorded_runs_plainly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(fakecuda, "graph", refuse)
    fast, plain = runner("vit", "image")
    with caplog.at_level(logging.INFO, "cjkclip"):
        for _ in range(4):
            seen = pixels(4)
            assert difference(fast(seen), plain.image(seen)) <= ATOL
    assert [record.getMessage() for record in caplog.records] == [
        "not recording [(4, 3, 32, 32)] for this GPU: operation not permitted when stream is capturing"
    ]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("fatal error: Python.h: No such file"),
        OSError("cannot find -lcuda"),
        RuntimeError("cc1plus: out of memory allocating 65536 bytes"),  # the computer's, not the card's
    ],
)
def test_what_cannot_be_compiled_runs_plainly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    def compile_blocks(tower: torch.nn.Module) -> None:
        for unit in compiling.units(tower):
            unit._compiled_call_impl = fail

    monkeypatch.setattr(compiling, "lacking", lambda: None)
    monkeypatch.setattr(compiling, "compile_blocks", compile_blocks)
    fast, plain = runner("vit", "image")
    seen = pixels(4)
    assert difference(fast(seen), plain.image(seen)) <= ATOL
    monkeypatch.setattr(gpu, "COMPILE_AFTER", 0)
    with caplog.at_level(logging.INFO, "cjkclip"):
        for _ in range(3):
            assert difference(fast(seen), plain.image(seen)) <= ATOL
    assert caplog.records[-1].getMessage() == f"not compiling the model for this GPU: {error}"
    assert fakecuda.CUDAGraph.made == 1


def test_parts_that_do_not_fit_are_halved_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, plain = runner("vit", "image")
    tried: list[int] = []
    fits, forward = 20, fast._tower.forward

    def scarce(seen: torch.Tensor) -> torch.Tensor:
        tried.append(len(seen))
        if len(seen) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(seen)

    monkeypatch.setattr(fast._tower, "forward", scarce)
    seen = pixels(70)
    want = plain.image(seen)
    assert difference(fast(seen), want) <= ATOL
    assert tried[:5] == [64, 64, 64, 32, 16]  # once more, to be recorded and plainly, before it is halved
    del tried[:]
    assert difference(fast(seen), want) <= ATOL
    assert max(tried) <= 16
    fits = 0
    fast._free()
    with pytest.raises(torch.OutOfMemoryError):
        fast(pixels(64))


SETTINGS = """
import torch
from cjkclip.engines.torch.arithmetic import arithmetic

places = torch.backends.cudnn.conv, torch.backends.cuda.matmul

def look():
    print(*[place.fp32_precision for place in places])

def choose(new):  # by the names of torch 2.9, beside which the old ones cannot be read
    for place in places:
        place.fp32_precision = new

for choice in ("high", "medium", "highest", "tf32", "ieee"):
    (choose if choice in ("tf32", "ieee") else torch.set_float32_matmul_precision)(choice)
    look()
    with arithmetic("fp32", "cuda:0"):
        look()
    look()
"""


def test_float32_is_float32_whatever_a_program_chose_for_itself() -> None:
    """In a process of its own, since the settings are all the process's."""
    lines = printed("-c", SETTINGS).splitlines()
    before, inside, after = lines[::3], lines[1::3], lines[2::3]
    assert before == after
    assert [line.split()[0] for line in before] == ["tf32", "tf32", "tf32", "tf32", "ieee"]
    assert ["tf32" in line.split()[1] for line in before] == [True, True, False, True, False]
    assert "tf32" not in " ".join(inside)


def test_a_gpu_is_known_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import cjkclip.engines.torch as torch_engine

    for ask in (torch_engine.fast, torch_engine.machine, torch_engine._resolved):
        with pytest.raises(EngineError, match=r"torch .* finds no CUDA device for device 'cuda': use device='auto'"):
            ask("cuda")
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.mps, "is_available", lambda: False)
        with pytest.raises(EngineError, match=r"torch .* finds no Apple GPU for device 'mps': use device='auto'"):
            torch_engine._resolved("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert [torch_engine._resolved(name) for name in ("cuda", "cuda:0", "cpu", "mps")] == [
        "cuda:1",
        "cuda:0",
        "cpu",
        "mps",
    ]


def test_nothing_is_recorded_after_a_recording_broke_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other shape is recorded either. Too little memory is not such a failure."""
    for error, tries in ((RuntimeError("stream is capturing"), 1), (RuntimeError("CUDA error: out of memory"), 2)):
        tried: list[Any] = []

        def refuse(*_: Any, error: RuntimeError = error, tried: list[Any] = tried, **__: Any) -> None:
            tried.append(0)
            raise error

        monkeypatch.setattr(fakecuda, "graph", refuse)
        fast, plain = runner("vit", "image")
        for count in (4, 4, 4, 2, 2, 2):
            seen = pixels(count)
            assert difference(fast(seen), plain.image(seen)) <= ATOL
        assert len(tried) == tries


def test_memory_is_let_go_of_before_parts_are_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of CUDA's libraries have no class of their own."""
    fast, plain = runner("vit", "image")
    seen, forward, short = pixels(64), fast._tower.forward, [RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling")]
    want = plain.image(seen)

    def scarce(seen: torch.Tensor) -> torch.Tensor:
        if short:
            raise short.pop()
        return forward(seen)

    monkeypatch.setattr(fast._tower, "forward", scarce)
    assert difference(fast(seen), want) <= ATOL
    assert fast._most == 64


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_a_program_chose_for_itself_changes_no_number(precision: str) -> None:
    """autocast around a call; a recording would keep its numbers for good. A default device of the program's."""
    params = random_params(MODELS["vit"])
    plain = engines.build(MODELS["vit"], params, engine="torch", precision=precision, device="cpu")
    fast, _ = runner("vit", "image")
    seen = pixels(4)
    want = plain.image(seen), fast(seen)
    with torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
        assert difference(plain.image(seen), want[0]) == 0
        assert difference(fast(pixels(4)), fast(pixels(4))) > 0
        assert difference(fast(seen), want[1]) <= ATOL
    assert fakecuda.CUDAGraph.made == 1


@pytest.mark.parametrize(
    ("card", "runs"),
    [((7, 0), False), ((7, 5), True), ((8, 9), True), ((9, 0), True), ((10, 0), True), ((12, 0), True)],
)
def test_a_card_that_torch_was_not_built_for_is_not_taken(
    card: tuple[int, int], runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines.here, "_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: card)
    for names in (["sm_75", "sm_80", "sm_90a", "compute_90"], ["gfx90a", "gfx942"]):
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda names=names: names)
        taken = ("torch", "cuda") if runs or "gfx942" in names else ("openvino", "cpu")
        assert engines.choose()[::2] == taken


def test_an_apple_gpu_is_taken_where_it_is_asked_for_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines.here, "_driver", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert engines.choose() == ("openvino", "auto", "cpu")
    assert engines.choose(device="mps") == ("torch", "fp32", "mps")


def test_a_card_that_cannot_be_asked_is_told_and_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def busy() -> None:
        raise RuntimeError("CUDA-capable device(s) is/are busy or unavailable")

    monkeypatch.setattr(engines.here, "_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", busy)
    with pytest.warns(EngineWarning, match=r"cannot be used \(CUDA-capable device.*runs on the CPU"):
        assert engines.choose() == ("openvino", "auto", "cpu")
