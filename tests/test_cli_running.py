"""How the command line says what runs a model: its engine, its precision, how much it gets at once."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import cjkclip
from cjkclip.engines.openvino import int8 as int8_openvino
from support.cli import FLAGS, IMAGES, MODEL, TINY, answer, run


@pytest.mark.parametrize(
    "words",
    [
        ("classify", IMAGES / "a.png", "-l", "猫,犬", "-m", TINY),
        ("search", "猫", "--in", IMAGES, "-m", TINY),
        ("embed", "猫", "-m", TINY),
        ("doctor", TINY),
    ],
    ids=lambda words: words[0],
)
def test_the_precision_is_that_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str | Path, ...]
) -> None:
    asked: list[tuple[str, str, str]] = []
    real = cjkclip.load

    def load(name: str | Path, *, engine: str, precision: str, **more: Any) -> cjkclip.Clip:
        asked.append((str(name), engine, precision))
        return real(name, engine=engine, precision=precision, **more)

    monkeypatch.setattr(cjkclip, "load", load)
    out = ("--out", tmp_path / "v.npy") if words[0] == "embed" else ()
    answer(*words, *out, "--engine", "numpy", "--precision", "fp16-weights")
    answer(*words, *out, "--engine", "numpy")
    once = 2 if words[0] == "doctor" else 1  # it is held against the NumPy engine
    exact = "fp32" if words[0] == "doctor" else "auto"
    rounded, plain = [(str(TINY), "numpy", "fp16-weights")] * once, [(str(TINY), "numpy", "auto")]
    assert asked == [*rounded, *plain, *[(str(TINY), "numpy", exact)] * (once - 1)]


@pytest.mark.parametrize(
    "command",
    [("classify", IMAGES / "a.png", "-l", "a"), ("search", "a"), ("embed", "a")],
    ids=lambda command: command[0],
)
def test_a_wrong_precision_ends_as_a_wrong_engine_does(tmp_path: Path, command: tuple[str | Path, ...]) -> None:
    out = ("--out", tmp_path / "v.npy") if command[0] == "embed" else ()
    for wrong in (("--engine", "warp"), ("--engine", "numpy", "--precision", "warp")):
        error = answer(*command, *out, "-m", TINY, *wrong, code=5)["error"]
        assert error["kind"] == "EngineError"
        assert "'warp'" in error["message"]
        assert "fp32" in error["message"] or "numpy" in error["message"]


@pytest.mark.parametrize(
    "words", [[f"number {number}" for number in range(10)], [IMAGES / "a.png"] * 24], ids=["texts", "pictures"]
)
def test_memory_that_does_not_suffice_names_an_option_that_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str | Path]
) -> None:
    clip = cjkclip.load(TINY, engine="numpy")
    real = clip.engine

    def short(tower: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def run(*arrays: np.ndarray) -> np.ndarray:
            if len(arrays[0]) > 2:
                raise MemoryError("no room")
            return tower(*arrays)

        return run

    small = SimpleNamespace(image=short(real.image), text=short(real.text))
    monkeypatch.setattr(clip, "engine", small)
    monkeypatch.setattr(cjkclip, "load", lambda *_, **__: clip)
    out = tmp_path / "v.npy"
    failed = run("embed", *words, "-o", out, *MODEL)
    assert failed.exit_code == 5
    assert not out.exists()
    [option, number] = re.findall(r"cjkclip embed (--\S+) (\d+)\)", failed.stderr)[0]
    assert option in FLAGS["embed"].split()
    assert run("embed", *words, "-o", out, option, number, *MODEL).exit_code == 0
    assert np.load(out).shape == (len(words), clip.embed_dim)


@pytest.mark.parametrize("gains", [True, False])
def test_int8_is_made_once_and_said_to_take_long(gains: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_openvino, "overflows", lambda: not gains)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(int8_openvino, "quantise", lambda graph, *_: graph)
    words = ("embed", "猫", IMAGES / "a.png", "-o", tmp_path / "v.npy", "-m", TINY, "--precision", "int8")
    made, again = (answer(*words)["notes"] for _ in range(2))
    assert (
        len([note for note in made if note.startswith("quantising this model to int8, which takes minutes, once")]) == 1
    )
    assert len(made) == 1 + len(again)
    assert [note.partition(",")[0] for note in again] == ["this processor has no instruction for int8"] * (not gains)
