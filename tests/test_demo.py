"""`make demo`: it runs on any model, and its words are what it says they are."""

import re
import sys
from pathlib import Path

import pytest
from PIL import Image
from tools import demo

from cjkclip import moji
from support.cli import TINY
from support.pages import is_shown
from support.processes import printed
from support.sources import ROOT

pytestmark = pytest.mark.usefixtures("fewer_pictures")


def test_the_demo_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    sheet = tmp_path / "demo.png"
    monkeypatch.setattr(sys, "argv", ["demo.py", "--model", str(TINY), "--sheet", str(sheet)])
    demo.main()
    shown = capsys.readouterr().out
    for words in (*demo.QUERIES.values(), *demo.LANGUAGES.values()):
        assert any(word in shown for word in ([words] if isinstance(words, str) else words))
    with Image.open(sheet) as drawn:
        assert drawn.format == "PNG"


@pytest.mark.parametrize("language", moji.LANGUAGES)
def test_one_query_is_a_name_and_one_is_not(language: str) -> None:
    names = {concept.names[language] for concept in moji.concepts()}
    name, word = demo.QUERIES[language]
    assert name in names
    assert word not in names
    assert language == "en" or word in demo.IN_ENGLISH
    assert len(demo.LABELS[language]) == len(set(demo.LABELS[language])) == 6


def test_the_readme_shows_what_the_demo_prints(tmp_path: Path) -> None:
    """Nobody runs `make demo` in a test, so its block is not executed with the others of the page."""
    page = (ROOT / "README.md").read_text("utf-8")
    [shown] = re.findall(r"^```text\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    assert is_shown(shown, printed(ROOT / "tools" / "demo.py", "--sheet", tmp_path / "demo.png", HF_HUB_OFFLINE="1"))
    assert not is_shown(shown.replace("판다", "반달곰"), shown)
