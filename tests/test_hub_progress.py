"""Progress of downloads: a bar on a terminal; silence in a pipe, with --json, and where it is turned off."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from huggingface_hub.utils import are_progress_bars_disabled

from cjkclip.checkpoints import hub
from cjkclip.checkpoints.hub import Where, huggingface, silence
from families import GOLDEN
from support.hubstub import ASK, Stub, environment

END = b"<end>"
CONVERT = "import sys; from cjkclip.cli import main; sys.exit(main())"


def on_a_terminal(home: Path, stub: Stub, *command: str, **env: str) -> tuple[str, str]:
    """Return the standard output of a process, and the standard error that it shows on a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    try:
        done = subprocess.run(
            [sys.executable, "-c", *command],
            env=environment(home, stub.address, **env),
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=theirs,
            text=True,
            check=False,
            timeout=60,
        )
        os.write(theirs, END)
        shown = b""
        while not shown.endswith(END):
            shown += os.read(ours, 1 << 16)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0, shown
    return done.stdout, shown.removesuffix(END).decode()


@pytest.mark.parametrize("name", ["org/clip", "modelscope:org/clip"])
def test_a_terminal_shows_a_bar_unless_told_not_to(tmp_path: Path, stub: Stub, name: str) -> None:
    out, shown = on_a_terminal(tmp_path, stub, ASK, name)
    assert json.loads(out)[0][0] == "ok"
    assert "100%" in shown
    assert on_a_terminal(tmp_path, stub, ASK, name)[1] == ""  # nothing is fetched, nothing is shown
    (tmp_path / "b").mkdir()
    assert on_a_terminal(tmp_path / "b", stub, ASK, name, HF_HUB_DISABLE_PROGRESS_BARS="1")[1] == ""


def test_a_pipe_and_json_show_none(tmp_path: Path, stub: Stub) -> None:
    source = GOLDEN / "hf-clip-gelu"
    stub.repositories["org/tiny"] = {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()}
    names = ("org/tiny", "modelscope:org/tiny")
    for number, name in enumerate(names):
        words = ("convert", name, str(number), "--layout", "cjkclip", "--json")
        out, shown = on_a_terminal(tmp_path, stub, CONVERT, *words)
        assert json.loads(out)["command"] == "convert"
        assert shown == ""
    (tmp_path / "b").mkdir()
    piped = subprocess.run(
        [sys.executable, "-c", ASK, *names],
        env=environment(tmp_path / "b", stub.address),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert [kind for kind, *_ in json.loads(piped.stdout)] == ["ok", "ok"]
    assert piped.stderr == ""


def test_older_clients_show_no_bar_of_a_small_file(tmp_path, monkeypatch):
    """huggingface_hub before 1.0 shows bars of its own, which only its global switch turns off."""
    (tmp_path / "vocab.txt").touch()
    hidden = []

    def download(*_, **__):
        hidden.append(are_progress_bars_disabled())
        return str(tmp_path)

    monkeypatch.setattr(huggingface, "snapshot_download", download)
    with silence():
        hub.file("org/name", "vocab.txt", Where(offline=True))
    hub.file("org/name", "vocab.txt", Where(offline=True))
    assert hidden == [True, False]
