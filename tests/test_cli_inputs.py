"""Inputs of the command line: directories, files of lines, facts, and inputs that cannot be read."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cjkclip
from cjkclip.checkpoints import weights
from cjkclip.checkpoints.weights.replace import replacing
from cjkclip.errors import FactsError, InputError, WeightsError
from cjkclip.gallery import find_pictures
from support.cli import MODEL, TINY, answer, bad_run, run
from support.images import picture

GELU = TINY.parent / "hf-clip-gelu"


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a picture and with a folder `no` that nobody may look into. Root may, so the system is asked."""
    folder = tmp_path / "private"
    for name in ("no", "yes"):
        (folder / name).mkdir(parents=True)
        picture().save(folder / name / "a.png")
    shut = str(folder / "no")

    def refusing(real: Callable[..., Any], *, itself: bool) -> Callable[..., Any]:
        def call(path: Any = ".", *args: Any, **more: Any) -> Any:
            name = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
            if name.startswith(shut + os.sep) or (itself and name == shut):
                raise PermissionError(13, "Permission denied", name)
            return real(path, *args, **more)

        return call

    for name, itself in {"scandir": True, "listdir": True, "stat": False}.items():
        monkeypatch.setattr(os, name, refusing(getattr(os, name), itself=itself))
    return folder


def test_a_folder_below_that_cannot_be_read_is_a_problem(private: Path) -> None:
    commands = [
        ("embed", private, "-o", private / "v.npz"),
        ("classify", private, "-l", "a,b"),
        ("search", "cat", "--in", private),
    ]
    for command in commands:
        data = answer(*command, *MODEL, code=1)
        assert [problem["input"] for problem in data["problems"]] == [str(private / "no")]
        assert "cannot be read: Permission denied" in data["problems"][0]["message"]
    with np.load(private / "v.npz") as saved:
        assert list(saved["names"]) == [str(private / "yes" / "a.png")]


def test_without_on_error_a_folder_that_cannot_be_read_stops_it(private: Path) -> None:
    with pytest.raises(InputError, match=r"no' cannot be read: Permission denied"):
        find_pictures(private)
    told: list[tuple[str, str]] = []
    found = find_pictures(private, lambda name, error: told.append((name, str(error))))
    assert found == [private / "yes" / "a.png"]
    assert told == [(str(private / "no"), f"{str(private / 'no')!r} cannot be read: Permission denied")]


@pytest.mark.parametrize("name", ["no", "no/x"])
def test_a_folder_that_cannot_be_read_is_not_said_to_be_empty(private: Path, name: str) -> None:
    folder = private / name
    commands = [
        ("embed", folder, "-o", private / "v.npz"),
        ("embed", "cat", "-o", folder / "x" / "v.npz"),
        ("classify", folder, "-l", "a,b"),
        ("search", "cat", "--in", folder),
    ]
    for command in commands:
        assert re.search(r"cannot be (read: |opened \(.*)Permission denied", bad_run(*command, *MODEL, code=4).stderr)
    answer("embed", "--as", "text", folder, "-o", private / "v.npz", *MODEL)  # a text is looked for nowhere


def test_a_model_in_a_folder_that_cannot_be_read(private: Path) -> None:
    assert "cannot be read: Permission denied" in bad_run("verify", private / "no", TINY, code=3).stderr
    with pytest.raises(WeightsError, match="cannot be read: Permission denied"):
        weights.find(private / "no")


def test_the_longest_name_that_a_file_may_have(tmp_path: Path) -> None:
    for ending in (".npz", ".safetensors"):
        out = tmp_path / f"{'猫' * 80}{ending}"
        answer("embed", "cat", "-o", out, *MODEL)
        assert list(tmp_path.iterdir()) == [out]
        out.unlink()


@pytest.mark.parametrize("name", ["猫" * 90, "file/x"])
def test_a_name_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match="cannot be written"), replacing(tmp_path / name) as file:
        file.write(b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


ODD = "\u2028\u2029\x85\x0b\x0c\x1c\x1d\x1e"  # where str.splitlines breaks, and files of lines do not


def test_lines_end_at_line_feeds_and_carriage_returns_alone(tmp_path: Path) -> None:
    (tmp_path / "u.txt").write_bytes(f"a{ODD}b\r\nc\rd\ne".encode())
    data = answer("embed", "--lines", tmp_path / "u.txt", "-o", tmp_path / "v.npz", *MODEL)
    assert data["names"] == [f"a{ODD}b", "c", "d", "e"]
    data = answer("classify", TINY / "images" / "a.png", "--label-file", tmp_path / "u.txt", *MODEL)
    assert data["labels"] == [f"a{ODD}b", "c", "d", "e"]


def test_blank_lines_are_told(tmp_path: Path) -> None:
    lines = tmp_path / "u.txt"
    lines.write_bytes("one\n\nthree\n\u3000\n".encode())
    data = answer("embed", "--lines", lines, "-o", tmp_path / "v.npy", *MODEL)
    assert data["names"] == ["one", "three"]
    assert data["notes"] == [f"{str(lines)!r}: 2 of 4 lines are blank and skipped (first: line 2)"]
    assert answer("classify", TINY / "images" / "a.png", "--label-file", lines, *MODEL)["labels"] == ["one", "three"]


@pytest.mark.parametrize("content", ["", "\n"])
def test_files_without_lines(tmp_path: Path, content: str) -> None:
    (tmp_path / "u.txt").write_text(content, encoding="utf-8")
    said = bad_run("embed", "--lines", tmp_path / "u.txt", "-o", tmp_path / "v.npz", *MODEL, code=4).stderr
    assert "nothing to embed: the files of --lines contain no text" in said


@pytest.mark.parametrize(
    "command",
    [
        ("embed", "", "-o", "v.npz"),
        ("embed", "cat", "", "-o", "v.npz"),
        ("embed", "", "--as", "picture", "-o", "v.npz"),
        ("classify", "", "-l", "cat"),
        ("search", "cat", "--in", ""),
    ],
)
def test_an_empty_argument_is_not_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    picture().save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert "an argument is empty" in bad_run(*command, *MODEL, code=4).stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_no_advice_to_write_over_what_is_no_gallery() -> None:
    said = bad_run("search", "cat", "--in", TINY / "model.safetensors", *MODEL, code=3).stderr
    assert "is not a gallery" in said
    assert said.count("model.safetensors") == 1


def test_facts_go_before_what_the_files_tell(tmp_path: Path) -> None:
    stated = ("--fact", "vision.act=quick_gelu", "--fact", "text.act=quick_gelu")
    assert run("convert", GELU, tmp_path / "out", "--layout", "transformers", *stated).exit_code == 0
    facts = {"vision.act": "quick_gelu", "text.act": "quick_gelu"}
    assert cjkclip.load(tmp_path / "out").fingerprint == cjkclip.load(GELU, facts=facts).fingerprint
    found = {each["name"]: each["found"] for each in answer("doctor", GELU, "--engine", "numpy", *stated)["checks"]}
    assert "vision.act quick_gelu" in found["activation"]


@pytest.mark.parametrize("name", ["typo", "vision.typo"])
def test_a_fact_that_no_config_has(tmp_path: Path, name: str) -> None:
    said = bad_run("convert", GELU, tmp_path / "out", "--layout", "transformers", "--fact", f"{name}=1", code=3).stderr
    assert "typo" in said
    with pytest.raises(FactsError, match="typo"):
        cjkclip.load(GELU, facts={name: 1})


def test_verify_refuses_a_fact_that_neither_model_needs() -> None:
    """It compares what the files tell; a fact that goes before them would hide the difference."""
    said = bad_run("verify", GELU, GELU, "--fact", "vision.act=quick_gelu", code=4).stderr
    assert "both models have their own config values" in said


@pytest.mark.parametrize("tolerance", ["inf", "nan", "-1"])
def test_a_tolerance_that_is_none(tolerance: str) -> None:
    bad_run("verify", GELU, GELU, "--tolerance", tolerance, "--json", code=2)


def test_one_picture_that_nobody_may_look_at_leaves_the_others(private: Path) -> None:
    good = private / "yes" / "a.png"
    for command in (("classify", "-l", "a,b"), ("embed", "-o", private / "v.npz")):
        data = answer(command[0], private / "no" / "a.png", good, *command[1:], *MODEL, code=1)
        assert [problem["input"] for problem in data["problems"]] == [str(private / "no" / "a.png")]
    with np.load(private / "v.npz") as saved:
        assert list(saved["names"]) == [str(good)]


def test_verify_states_a_fact_to_the_image_tower() -> None:
    image, alone = TINY.parent / "hf-clip-vision-projection", TINY.parent / "hf-clip-text-projection"
    assert cjkclip.load(alone, engine="numpy").config.vision is None
    both = ("verify", alone, alone, "--image-tower", image, "--engine", "numpy")
    assert 'facts={"scale": 100.0}' in bad_run(*both, code=3).stderr
    assert answer(*both, "--fact", "scale=100.0")["same"]
