"""What the command line shows: in a terminal of any width, in a pipe, and where it cannot be written."""

import re
from pathlib import Path

import pytest
from tests.test_cli import IMAGES, MODEL, answer
from typer.testing import CliRunner, Result

from cjkclip.cli import app


def narrow(columns: int | None, *args: str | Path) -> Result:
    """A run where the terminal is so wide; None: in a pipe, with nothing said."""
    env = {"COLUMNS": None if columns is None else str(columns)}
    return CliRunner(env=env).invoke(app, [str(arg) for arg in args])


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
