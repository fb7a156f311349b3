"""What may go wrong on a CUDA device, on a stand-in for it: it costs speed, and no answer."""

import logging
import subprocess
import sys
from typing import Any

import pytest
import torch

import fakecuda
from cjkclip.engines.torch import gpu
from cjkclip.errors import EngineError
from test_families import difference
from test_gpu import ATOL, pixels, runner


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


@pytest.mark.parametrize("error", [RuntimeError("fatal error: Python.h: No such file"), OSError("cannot find -lcuda")])
def test_what_cannot_be_compiled_runs_plainly(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    def compile_blocks(tower: torch.nn.Module) -> None:
        for unit in gpu._units(tower):
            unit._compiled_call_impl = fail

    monkeypatch.setattr(gpu, "lacking", lambda: None)
    monkeypatch.setattr(gpu, "compile_blocks", compile_blocks)
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
    assert tried[:3] == [64, 32, 16]
    del tried[:]
    assert difference(fast(seen), want) <= ATOL
    assert max(tried) <= 16
    fits = 0
    fast._let_go()
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
    done = subprocess.run([sys.executable, "-c", SETTINGS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    before, inside, after = lines[::3], lines[1::3], lines[2::3]
    assert before == after
    assert [line.split()[0] for line in before] == ["tf32", "tf32", "tf32", "tf32", "ieee"]
    assert ["tf32" in line.split()[1] for line in before] == [True, True, False, True, False]
    assert "tf32" not in " ".join(inside)


def test_a_gpu_is_known_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import cjkclip.engines.torch as torch_engine

    for ask in (torch_engine.fast, torch_engine.machine, torch_engine._there):
        with pytest.raises(EngineError, match=r"device 'cuda' was asked for, but torch .* finds no CUDA device"):
            ask("cuda")
    with monkeypatch.context() as patch:
        patch.setattr(torch.backends.mps, "is_available", lambda: False)
        with pytest.raises(EngineError, match=r"device 'mps' was asked for, but torch .* finds no Apple GPU"):
            torch_engine._there("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert [torch_engine._there(name) for name in ("cuda", "cuda:0", "cpu", "mps")] == [
        "cuda:1",
        "cuda:0",
        "cpu",
        "mps",
    ]
