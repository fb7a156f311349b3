"""Bad input on the command line: a clear message, the right exit code, never a traceback, and the others answered."""

import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cjkclip import moji
from support.cli import MODEL, TINY, answer, bad_run, program, run
from support.images import picture
from support.processes import environment, python
from support.runner import invoke

GOOD = TINY / "images" / "a.png"


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = moji.gallery("noto")[:8]
    monkeypatch.setattr(moji, "gallery", lambda _: kept)


def bomb(path: Path) -> None:
    """A small PNG that says it is 60,000 x 60,000 pixels."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 99))]
    chunks = [struct.pack(">I", len(d)) + t + d + struct.pack(">I", zlib.crc32(t + d)) for t, d in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def cut(path: Path) -> None:
    picture().save(path)
    path.write_bytes(path.read_bytes()[:1500])


def animated(path: Path) -> None:
    picture().save(path, save_all=True, append_images=[picture().rotate(90)])


BAD: dict[str, Callable[[Path], Any]] = {
    "missing.png": lambda path: None,
    "folder.png/none": lambda path: None,
    "text.png": lambda path: path.write_text("this is no picture"),
    "empty.png": lambda path: path.write_bytes(b""),
    "cut.png": cut,
    "bomb.png": bomb,
    "page.jpg": lambda path: path.write_text("<html>404</html>"),
}
FINE: dict[str, Callable[[Path], Any]] = {
    "one.png": lambda path: picture(size=(1, 1)).save(path),
    "tall.png": lambda path: picture(size=(1, 5000)).save(path),
    "wide.png": lambda path: picture(size=(5000, 1)).save(path),
    "moving.gif": animated,
    "cmyk.jpg": lambda path: picture("CMYK").save(path),
    "palette.png": lambda path: picture("P").save(path),
    "clear.png": lambda path: picture("RGBA").save(path),
    "deep.png": lambda path: Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40)).save(path),
    "bilevel.tif": lambda path: picture("1").save(path),
    "ねこ 고양이 🐱.png": lambda path: picture().save(path),
    "a\x1b[31m\n.png": lambda path: picture().save(path),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_named_and_the_others_are_answered(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    BAD[name](path)
    alone = bad_run("classify", path, "-l", "a,b", *MODEL, code=4)
    assert path.name in alone.stderr
    both = bad_run("classify", path, GOOD, "-l", "a,b", *MODEL, code=1)
    assert path.name in both.stderr
    assert str(GOOD) in both.stdout
    data = answer("classify", path, GOOD, "-l", "a,b", *MODEL, code=1)
    assert [problem["input"] for problem in data["problems"]] == [str(path)]
    assert [result["picture"] for result in data["results"]] == [str(GOOD)]


@pytest.mark.parametrize("name", FINE)
def test_a_strange_picture_works(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    FINE[name](path)
    data = answer("classify", path, "-l", "a,b", *MODEL)
    assert [result["picture"] for result in data["results"]] == [str(path)]
    shown = run("classify", path, "-l", "a,b", *MODEL)
    assert "\x1b" not in shown.stdout
    assert len(shown.stdout.splitlines()) == 5


def test_a_folder_with_bad_pictures_is_searched(tmp_path: Path) -> None:
    for name in ("cut.png", "empty.png"):
        BAD[name](tmp_path / name)
    picture().save(tmp_path / "good.png")
    found = answer("search", "cat", "--in", tmp_path, *MODEL, code=1)
    assert [hit["name"] for hit in found["results"][0]["hits"]] == ["good.png"]
    assert {Path(problem["input"]).name for problem in found["problems"]} == {"cut.png", "empty.png"}
    vectors = answer("embed", tmp_path, "--out", tmp_path / "v.npz", *MODEL, code=1)
    assert vectors["names"] == [str(tmp_path / "good.png")]
    (tmp_path / "good.png").unlink()
    bad_run("search", "cat", "--in", tmp_path, *MODEL, code=4)
    bad_run("embed", tmp_path, "--out", tmp_path / "w.npz", *MODEL, code=4)
    assert not (tmp_path / "w.npz").exists()


@pytest.mark.parametrize("query", ["", "  \t ", "\u200b\u2060", "\x00\x07", "\u3000"])
def test_a_query_without_words_is_refused(query: str) -> None:
    bad_run("search", query, *MODEL, code=4)
    data = answer("search", query, "cat", *MODEL, code=1)
    assert [result["query"] for result in data["results"]] == ["cat"]
    assert [problem["kind"] for problem in data["problems"]] == ["TextError"]


@pytest.mark.parametrize("query", ["cat\x1b]0;title\x07", "cat\r\x9b2J", "\u202ecat"])
def test_control_characters_of_a_query_are_shown_not_sent(query: str) -> None:
    shown = run("search", query, "-k", "1", *MODEL)
    assert shown.exit_code == 0
    assert not set("\x1b\x07\r\x9b\u202e") & set(shown.output)
    assert "cat" in shown.stdout


def test_bytes_that_are_not_utf8() -> None:
    query = program("search", b"ne\xffko", "-k", "1", *map(str, MODEL))
    assert (query.returncode, b"Traceback" in query.stderr) == (4, False)
    assert b"ne\\xffko" in query.stderr
    label = program("classify", str(GOOD), "-l", b"a,b\xff", *map(str, MODEL))
    assert (label.returncode, b"Traceback" in label.stderr) == (4, False)


def test_a_file_name_that_is_not_utf8(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/by\xffte.png"
    try:
        shutil.copy(GOOD, name)
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    done = program("classify", name, "-l", "a,b", *map(str, MODEL))
    assert done.returncode == 0
    assert b"/by\\xffte.png" in done.stdout.replace(b"\n", b"")  # a long path is folded
    data = program("classify", name, "-l", "a,b", "--json", *map(str, MODEL))
    assert b"/by\\udcffte.png" in data.stdout


def folder_with(tmp_path: Path, name: str, content: bytes) -> Path:
    """The tiny model with one of its files changed."""
    shutil.copytree(TINY, tmp_path / "model")
    (tmp_path / "model" / name).write_bytes(content)
    return tmp_path / "model"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("mojj", "Did you mean 'moji'?"),
        ("ViT-B-23", "Did you mean"),
        ("./no/such/folder", "no file or directory"),
        ("{tmp}", "no weight file"),
        ("", "is not a model"),
        (str(GOOD), "a.png"),
    ],
)
def test_a_model_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, said: str) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = bad_run("search", "cat", "-m", model.replace("{tmp}", str(tmp_path)), code=3)
    assert said in result.stderr
    assert answer("search", "cat", "-m", "mojj", code=3)["error"]["kind"] == "ModelNotFoundError"


def test_a_model_of_the_hub_with_the_network_off() -> None:
    done = program("search", "cat", "-m", "openai/clip-vit-base-patch32", HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"HF_HUB_OFFLINE" in done.stderr
    assert b"Traceback" not in done.stderr


def test_weights_that_are_cut_short(tmp_path: Path) -> None:
    whole = (TINY / "model.safetensors").read_bytes()
    folder = folder_with(tmp_path, "model.safetensors", whole[: len(whole) // 2])
    assert "is truncated or damaged" in bad_run("search", "cat", "-m", folder, code=3).stderr


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {marker}",)

    folder = folder_with(tmp_path, "pytorch_model.bin", pickle.dumps({"weight": Harm()}))
    (folder / "model.safetensors").unlink()
    bad_run("search", "cat", "-m", folder, code=3)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["nonsense"], 2),
        (["\x1b[31m"], 2),
        (["search", "cat", "--\u202eflag"], 2),
        (["search"], 2),
        (["search", "cat", "-k", "0"], 2),
        (["search", "cat", "-k", "many"], 2),
        (["search", "cat", "--language", "fr"], 2),
        (["classify", str(GOOD)], 2),
        (["classify", str(GOOD), "-l", " ， , ", *MODEL], 4),
        (["classify", str(GOOD), "-l", "a", "--template", "no place", *MODEL], 4),
        (["classify", str(GOOD), "-l", "a", "--language", "ja", *MODEL], 4),
        (["classify", str(GOOD), "--label-file", "/no/such/file", *MODEL], 4),
        (["classify", str(GOOD), "--label-file", str(GOOD), *MODEL], 4),
        (["classify", str(GOOD), "-l", "a", "-m", str(TINY), "--engine", "warp"], 5),
        (["search", "cat", "--in", "/no/such/folder", *MODEL], 4),
        (["search", "cat", "--in", str(GOOD), *MODEL], 3),
        (["search", "cat", "--sheet", "/no/such/folder/x.png", *MODEL], 4),
        (["search", "cat", "--sheet", "x.txt", *MODEL], 4),
        (["embed", "cat"], 2),
        (["embed", "cat", "-o", "x.txt"], 2),
        (["embed", "-o", "x.npz"], 2),
        (["embed", "cat", "-o", "x.npz", "--batch-size", "0"], 2),
        (["embed", "cat", "-o", "x.npz", "--batch-size", "many"], 2),
        (["embed", "cat", "-o", "/no/such/folder/x.npz", *MODEL], 4),
        (["train", "/no/such/pairs.tsv", "--from", str(TINY), "-o", "/no/such/out"], 4),
    ],
    ids=lambda value: " ".join(map(str, value))[:40].replace("\x1b", "ESC") if isinstance(value, list) else None,
)
def test_wrong_usage(args: list[str], code: int) -> None:
    result = bad_run(*args, code=code)
    assert result.stdout == ""
    assert not set("\x1b\u202e") & set(result.stderr)
    assert len(result.stderr.strip()) > 20


def test_another_models_gallery_is_refused(tmp_path: Path) -> None:
    assert run("embed", GOOD, "-o", tmp_path / "g.safetensors", *MODEL).exit_code == 0
    other = TINY.parent / "hf-clip-gelu"
    result = bad_run("search", "cat", "--in", tmp_path / "g.safetensors", "-m", other, code=3)
    assert "another model" in result.stderr


def test_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cjkclip.load", stopped)
    result = bad_run("search", "cat", code=130)
    assert "interrupted" in result.stderr


def test_interrupted_while_it_is_imported() -> None:
    code = (
        "import sys; from types import SimpleNamespace\n"
        "def find_spec(name, *_):\n    if name == 'typer': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, SimpleNamespace(find_spec=find_spec))\n"
        "from cjkclip.__main__ import main; main()"
    )
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (130, "cjkclip: interrupted\n")


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
@pytest.mark.parametrize("flags", [[], ["--json"], ["--help"]])
def test_the_reader_has_gone(flags: list[str]) -> None:
    """This is `cjkclip models | head -0`. typer itself ends --help with 1."""
    command = [sys.executable, "-m", "cjkclip", "models", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait() == (1 if "--help" in flags else 128 + signal.SIGPIPE)
    assert said == b""


def test_runner_and_program_agree() -> None:
    assert invoke(["models", "--json"]).stdout_bytes == program("models", "--json").stdout
