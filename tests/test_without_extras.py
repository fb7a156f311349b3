"""The base alone: no OpenVINO, torch, sentencepiece or ml_dtypes. One line says what runs, and nothing else is lost."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from cjkclip import text
from cjkclip.checkpoints import weights
from cjkclip.engines import choose, here, wheels
from cjkclip.errors import EngineWarning, MissingDependencyError
from cjkclip.text.unigram import Unigram
from families import GOLDEN
from support.processes import python

EXTRAS = ("openvino", "torch", "sentencepiece", "ml_dtypes", "h5py")
# before anything is imported: find_spec and import answer as where the packages are not installed
BARE = f"""
import importlib.util, sys
for name in {EXTRAS}:
    sys.modules[name] = None
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name in {EXTRAS} else find(name, *rest)
from cjkclip.engines import wheels
wheels._glibc = lambda: {{glibc}}
wheels.platform.machine = lambda: "aarch64"
from cjkclip.cli import main
sys.exit(main())
"""


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "find_spec", lambda _: None)
    monkeypatch.setattr(here, "_driver", lambda: False)


def system(monkeypatch: pytest.MonkeyPatch, name: str, machine: str, glibc: tuple[int, int] | None = None) -> None:
    monkeypatch.setattr(wheels.platform, "system", lambda: name)
    monkeypatch.setattr(wheels.platform, "machine", lambda: machine)
    monkeypatch.setattr(wheels, "_glibc", lambda: glibc)


@pytest.mark.parametrize(
    ("here", "openvino", "torch"),
    [
        (("Linux", "x86_64", (2, 17)), None, "glibc 2.17, but it needs 2.28"),
        (("Linux", "x86_64", (2, 36)), None, None),
        (("Linux", "x86_64", None), "Linux without glibc", "Linux without glibc"),
        (("Linux", "aarch64", (2, 34)), "glibc 2.34, but it needs 2.35", None),
        (("Linux", "aarch64", (2, 35)), None, None),
        (("Linux", "riscv64", (2, 39)), "Linux on riscv64", "Linux on riscv64"),
        (("Darwin", "arm64"), None, None),
        (("Darwin", "x86_64"), None, "Darwin on x86_64"),
        (("Windows", "AMD64"), None, None),
        (("Windows", "ARM64"), "Windows on ARM64", "Windows on ARM64"),
    ],
)
def test_what_has_a_wheel_where(
    monkeypatch: pytest.MonkeyPatch, here: tuple[Any, ...], openvino: str | None, torch: str | None
) -> None:
    system(monkeypatch, *here)
    assert (wheels.lacking("openvino"), wheels.lacking("torch")) == (openvino, torch)


def test_the_c_library_of_this_system(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "linux":
        assert wheels._glibc() == tuple(map(int, (os.confstr("CS_GNU_LIBC_VERSION") or "").split()[1].split(".")))

    def unknown(_: str) -> str:
        raise ValueError("unrecognized configuration name")  # as Python says on musl

    monkeypatch.setattr(wheels.os, "confstr", unknown, raising=False)
    assert wheels._glibc() is None


@pytest.mark.usefixtures("nothing")
def test_no_advice_that_pip_cannot_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    system(monkeypatch, "Linux", "aarch64", (2, 34))
    with pytest.warns(EngineWarning, match=r"\(glibc 2.34, but it needs 2.35\): cjkclip uses numpy") as said:
        assert choose() == ("numpy", "fp32", "cpu")
    assert str(said[0].message).endswith(
        "which is slower. Install torch, which is faster: pip install 'cjkclip[torch]'"
    )
    system(monkeypatch, "Linux", "x86_64", None)
    with pytest.warns(EngineWarning, match=r"Linux without glibc\): cjkclip uses numpy, which is slower$") as said:
        choose()
    assert "pip" not in str(said[0].message)
    with pytest.raises(
        MissingDependencyError,
        match=r"'torch' has no release for this system \(Linux without glibc\): use engine='auto', device='auto'$",
    ):
        choose("torch")
    system(monkeypatch, "Linux", "x86_64", (2, 36))
    with pytest.warns(EngineWarning, match=r"pip install 'cjkclip\[openvino\]'\. Until then cjkclip uses numpy"):
        choose()


def test_a_torch_that_is_there_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(here, "find_spec", lambda name: name if name == "torch" else None)
    monkeypatch.setattr(here, "_driver", lambda: False)
    system(monkeypatch, "Linux", "aarch64", (2, 31))
    with pytest.warns(EngineWarning, match=r"cjkclip uses torch, which is slower$"):
        assert choose()[0] == "torch"


@pytest.mark.parametrize("glibc", [None, (2, 34)])
def test_the_program_answers_with_one_line_more(tmp_path: Path, glibc: tuple[int, int] | None) -> None:
    if sys.platform != "linux":
        pytest.skip("the C library is Linux's question")
    done = python("-c", BARE.format(glibc=glibc), "embed", "猫", "-o", tmp_path / "v.npy", HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("cjkclip: note: engine 'openvino' has no release for this system (")
    assert (tmp_path / "v.npy").is_file()


def test_what_needs_an_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = GOLDEN / "rinna-clip" / "spiece.model"
    for name in ("sentencepiece", "ml_dtypes"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError, match=r"needs sentencepiece, .*: pip install 'cjkclip\[rinna\]'$"):
        Unigram.from_file(model, text.unigram.RINNA)
    with pytest.raises(MissingDependencyError, match=r"needs ml_dtypes, .*: pip install 'cjkclip\[bfloat16\]'$"):
        weights.tensors.dtype_of("BF16")
