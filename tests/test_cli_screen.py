"""Output of the command line: in a terminal of any width, in a pipe, and to streams that cannot be written."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import Result

from cjkclip.errors import MESSAGE, ImageError, InputError
from support.cli import IMAGES, MODEL, answer, run
from support.processes import environment
from support.runner import invoke


def narrow(columns: int | None, *args: str | Path) -> Result:
    """A run where the terminal is so wide; None: in a pipe, with nothing said."""
    env = {"COLUMNS": None if columns is None else str(columns)}
    return invoke([str(arg) for arg in args], env=env)


@pytest.mark.parametrize("columns", [40, 80, 100, 120, 200, None])
def test_models_shows_every_name_whole_with_languages_and_licence(columns: int | None) -> None:
    shown = narrow(columns, "models").stdout
    words = re.sub(r"\s+", " ", shown)
    for model in answer("models")["models"]:
        assert re.search(rf"^{re.escape(model['name'])}(\s|$)", shown, re.MULTILINE), model["name"]
        assert all(alias in words.split() for alias in model["aliases"][:1])
    assert words.count("zh zh-Hant ja ko en") == 1
    assert words.count("see the") == sum(model["licence"] != "mit" for model in answer("models")["models"]) - 1
    assert words.count("mit") == sum(model["licence"] == "mit" for model in answer("models")["models"])


def test_models_has_a_line_for_each_model_in_a_pipe() -> None:
    lines = narrow(None, "models").stdout.splitlines()
    models = answer("models")["models"]
    assert len(lines) == 1 + len(models)
    for line, model in zip(lines[1:], models, strict=True):
        assert re.split(" {3,}", line.strip())[::3] == [model["name"], model["licence"]]
        assert f"   {' '.join(model['languages'])}   " in line


@pytest.mark.parametrize("columns", [22, 26, 40])
def test_classify_shows_labels_and_probabilities_before_bars(columns: int) -> None:
    shown = narrow(columns, "classify", IMAGES / "a.png", "-l", "cat,dog", *MODEL).stdout
    data = answer("classify", IMAGES / "a.png", "-l", "cat,dog", *MODEL)
    for found in data["results"][0]["predictions"]:
        assert re.search(rf"^{found['label']} +{found['score']:.1%}", shown, re.MULTILINE), shown
    assert max(map(len, shown.splitlines())) <= columns


def test_bars_are_as_long_as_the_probabilities_say() -> None:
    lines = narrow(100, "classify", IMAGES / "a.png", "-l", "cat,dog", *MODEL).stdout.splitlines()
    best = answer("classify", IMAGES / "a.png", "-l", "cat,dog", *MODEL)["results"][0]["predictions"][0]
    assert lines[2].count("█") == round(20 * best["score"])


def test_long_labels_are_not_broken_in_a_pipe() -> None:
    label = "a label of many words " * 12
    assert label.strip() in narrow(None, "classify", IMAGES / "a.png", "-l", f"cat,{label}", *MODEL).stdout


def piped(words: str, ends: str, **env: str) -> subprocess.CompletedProcess[str]:
    """A run in a shell that closes or joins its streams as `ends` says."""
    command = ["sh", "-c", f"{sys.executable} -m cjkclip {words} {ends}"]
    return subprocess.run(command, capture_output=True, text=True, env=environment(**env), check=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", ["models", "models --json", "models --help", "--version"])
def test_a_full_disk_behind_standard_output(words: str, unbuffered: str) -> None:
    done = piped(words, ">/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 5
    assert done.stderr == "cjkclip: error: standard output cannot be written: No space left on device\n"


@pytest.mark.skipif(sys.platform == "win32", reason="no such shell")
def test_closed_streams(tmp_path: Path) -> None:
    for words in ("models", "models --json"):
        done = piped(words, ">&-")
        assert done.returncode == 5
        assert done.stderr == "cjkclip: error: standard output is closed: open it, for example with >/dev/null\n"
        assert piped(words, ">&- 2>&-").returncode == 5
    done = piped(f"embed --lines - -o {tmp_path}/v.npz", "<&-")
    assert done.returncode == 4
    assert done.stderr == "cjkclip: error: '-' is standard input, which is closed: pass a file, or pipe the lines in\n"


def test_another_failure_of_the_system_is_not_put_down_to_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("cjkclip.load", failing)
    assert isinstance(run("search", "cat").exception, OSError)


def test_what_an_error_lists_stands_on_lines_of_its_own(tmp_path: Path) -> None:
    """A line feed in a name stays an escape."""
    pairs = tmp_path / "a\nb.tsv"
    pairs.write_text("one\ntwo\n", encoding="utf-8")
    shown = run("train", pairs, "-o", tmp_path / "out")
    assert shown.exit_code == 4
    first, *lines = shown.stderr.splitlines()
    assert first.endswith("a\\x0ab.tsv: 0 good pairs, 2 bad lines: correct the file")
    assert lines == [f"  line {n}: 1 fields, expected image<TAB>caption, neither empty" for n in (1, 2)]


def test_a_long_list_is_cut_between_its_lines() -> None:
    error = InputError("bad:", listed=["x" * 100] * 1000)
    assert str(error).splitlines() == list(error.lines)
    assert len(str(error)) <= MESSAGE + 50
    assert error.lines[:2] == ("bad:", f"  {'x' * 100}")
    assert error.lines[-1] == f"  ... and {1000 - len(error.lines) + 2} more"
    assert ImageError("bad", [(0, "why")]).lines == ("bad",)


def test_a_pipe_gets_no_blanks_that_fill_up_lines(tmp_path: Path) -> None:
    lines = narrow(None, "doctor", tmp_path / ("nothing" * 20)).stdout.splitlines()
    assert len(lines) > 3
    assert [line for line in lines if line != line.rstrip()] == []
