"""What people type on the command line: folders, files of lines, facts, and what cannot be read."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.test_cli import MODEL, TINY, answer
from tests.test_cli_bad import bad_run, picture

from cjkclip import weights
from cjkclip.errors import InputError, WeightsError
from cjkclip.gallery import find_pictures
from cjkclip.weights.replace import replacing


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
        assert "cannot be read: Permission denied" in bad_run(*command, *MODEL, code=4).stderr
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
