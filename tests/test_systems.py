"""Differences of Windows and macOS, as far as another system can show them."""

import errno
import io
import json
import stat
import sys
import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import typer.core

import cjkclip
from cjkclip import cli
from cjkclip.checkpoints import weights
from cjkclip.checkpoints.weights import replace
from cjkclip.cli import convert, inputs, report, streams
from cjkclip.errors import WeightsError
from cjkclip.gallery import files
from cjkclip.gallery.sheet.fonts import Fonts
from cjkclip.machine.threads import result
from cjkclip.train.step import Here, beside
from families import GOLDEN


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (report, streams, inputs):
        monkeypatch.setattr(module, "ON_WINDOWS", True)


def test_a_folder_that_cannot_be_exchanged_stays_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "config.json").write_text("old")
    with pytest.raises(FileNotFoundError):
        replace._exchange(tmp_path / "served", tmp_path / "nothing")
    assert [path.name for path in tmp_path.iterdir()] == ["served"]
    assert (tmp_path / "served" / "config.json").read_text() == "old"
    with monkeypatch.context() as patch:
        patch.setattr(replace.os, "access", lambda *_: False)
        with pytest.raises(PermissionError, match="protected"):
            replace._exchange(tmp_path / "served", tmp_path / "nothing")

    rename = Path.rename

    def interrupted(path: Path, to: Path) -> Path:
        if path.name == "new":
            raise KeyboardInterrupt
        return rename(path, to)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", interrupted)
        patch.setattr(replace, "_swapped", lambda *_: False)  # a system that exchanges in two steps
        with pytest.raises(KeyboardInterrupt):
            replace._exchange(tmp_path / "served", tmp_path / "new")
    assert (tmp_path / "served" / "config.json").read_text() == "old"
    (tmp_path / "new").mkdir()
    replace._exchange(tmp_path / "served", tmp_path / "new")
    assert [path.name for path in tmp_path.iterdir()] == ["served"]
    assert list((tmp_path / "served").iterdir()) == []


def test_what_describes_a_model_is_not_exchanged_where_its_weights_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows replaces no file that is mapped."""
    first, second = (cjkclip.load(GOLDEN / name) for name in ("hf-clip-eos2", "hf-clip-gelu"))
    first.save(tmp_path, "transformers")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def refuse(*_: object, **__: object) -> None:
        raise WeightsError("cannot be written")

    monkeypatch.setattr(weights, "write", refuse)
    with pytest.raises(WeightsError):
        second.save(tmp_path, "transformers")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_one_place_has_many_names(tmp_path: Path) -> None:
    (tmp_path / "Model").mkdir()
    (tmp_path / "model").symlink_to(tmp_path / "Model")  # as on a disk that does not mind capitals
    assert convert._is_same(tmp_path / "Model", tmp_path / "model")
    assert not convert._is_same(tmp_path / "Model", tmp_path / "other")
    assert not convert._is_same(tmp_path / "Model", tmp_path)


@pytest.mark.usefixtures("windows")
def test_wildcards_are_spread_over_pictures_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.jpg", "a.jpg", "c[1].jpg", "c1.jpg", "猫だ"):
        Path(name).touch()
    asked = ["猫?", "*.jpg", "c[1].jpg", "z*.jpg"]
    assert inputs.globbed(asked) == ["猫?", "a.jpg", "b.jpg", "c1.jpg", "c[1].jpg", "c[1].jpg", "z*.jpg"]
    monkeypatch.setattr(inputs, "ON_WINDOWS", False)
    assert inputs.globbed(asked) == asked


def test_typer_leaves_texts_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows it would make a home folder of ~ and the names of files of an asterisk."""
    seen: list[Any] = []
    monkeypatch.setattr(typer.core.TyperGroup, "main", lambda *words, **_: seen.append(words))
    with pytest.raises(SystemExit):
        cli.app(["models"], prog_name="cjkclip")
    assert seen[0][-1] is False


@pytest.mark.usefixtures("windows")
def test_what_goes_into_a_pipe_there_is_read_by_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    text = report.json_text({"name": "狗 🐕\u2028"})
    assert text.isascii()
    assert json.loads(text) == {"name": "狗 🐕\u2028"}
    for terminal, written in ((False, "狗█".encode()), (True, rb"\u72d7\u2588")):
        raw = io.BytesIO()
        out = io.TextIOWrapper(raw, encoding="cp1252", write_through=True)
        monkeypatch.setattr(out, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setattr(sys, "stdout", out)
        assert streams.ready_streams()
        out.write("狗█")
        assert raw.getvalue() == written


@pytest.mark.usefixtures("windows")
def test_a_reader_that_has_gone_is_told_in_another_way_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_leave_output", lambda: None)
    assert streams.leave_full(OSError(errno.EINVAL, "Invalid argument")) == streams.BROKEN_PIPE
    with pytest.raises(OSError, match="Invalid"):
        streams.leave_full(OSError(errno.EINVAL, "Invalid argument", "a file"))


def test_junctions_are_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("own", "junction"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.jpg").touch()
    real = Path.lstat
    tags = {"junction": 0xA0000003, "own": 0}
    monkeypatch.setattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", 0xA0000003, raising=False)
    fake = lambda path: SimpleNamespace(st_reparse_tag=tags[path.name]) if path.name in tags else real(path)  # noqa: E731
    monkeypatch.setattr(Path, "lstat", fake)
    assert [path.parent.name for path in files.find_pictures(tmp_path)] == ["own"]

    def refuse(_: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "lstat", refuse)  # a folder that may be listed and not entered
    assert len(files.find_pictures(tmp_path)) == 2


def test_a_font_is_known_by_a_name_in_parts(tmp_path: Path) -> None:
    """macOS may tell a letter and its mark as two characters."""
    name = unicodedata.normalize("NFD", "ヒラギノ角ゴシック W3.ttc")
    assert name != unicodedata.normalize("NFC", name)
    (tmp_path / name).touch()
    (tmp_path / "other.ttf").touch()
    assert Fonts(sorted(tmp_path.iterdir()))._rest == [tmp_path / "other.ttf"]


def test_a_wait_hands_over_what_a_thread_has_made_or_raised() -> None:
    ready = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(ready.wait, 20)
        threading.Timer(0.5, ready.set).start()
        assert result(late) is True
        with pytest.raises(ZeroDivisionError):
            result(pool.submit(lambda: 1 // 0))


def test_a_gpu_is_trained_on_by_one_thread() -> None:
    with beside(torch.device("mps")) as side:
        assert isinstance(side, Here)
        assert side.submit(threading.get_ident).result() == threading.get_ident()
    with beside(torch.device("cpu")) as side:
        assert side.submit(threading.get_ident).result() != threading.get_ident()
