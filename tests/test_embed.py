"""`cjkclip embed`: the files that arrays in memory give, without the memory; what it says about time; how it ends."""

import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cjkclip
from cjkclip.checkpoints import weights
from cjkclip.checkpoints.weights import safetensors
from cjkclip.cli.embed import LONG, advice
from cjkclip.errors import InputError
from cjkclip.gallery import Gallery, Rows
from cjkclip.gallery.index import IndexInputs, Seconds
from cjkclip.gallery.rows import ENDINGS, LONGEST_NAME
from support.cli import MODEL, TINY, answer, run
from support.processes import environment, printed

IMAGES = [TINY / "images" / name for name in ("a.png", "b.png", "c.jpg")]


def in_memory(path: Path, names: list[str], vectors: np.ndarray, fingerprint: str) -> None:
    """The same files by the plainest way."""
    if path.suffix == ".npy":
        np.save(path, vectors)
    elif path.suffix == ".npz":
        np.savez(path, vectors=vectors, names=np.array(names), fingerprint=np.array(fingerprint))
    else:
        Gallery(names, vectors, fingerprint=fingerprint).save(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_file_is_that_of_arrays_in_memory(tmp_path: Path, ending: str) -> None:
    """Pictures, bad pictures and texts in turn, over several batches."""
    (tmp_path / "bad.png").write_bytes(b"none")
    pictures = [str(path) for path in [*IMAGES * 20, tmp_path / "bad.png", *IMAGES * 3]]
    far = f"{IMAGES[0].parent}{'/../images' * 40}/a.png"
    pictures.append(far)
    words = ["猫", *pictures[:40], "a cat", *pictures[40:], "犬", "고양이"]
    answer("embed", *words, "--out", tmp_path / f"got{ending}", *MODEL, code=1)

    clip = cjkclip.load(TINY, engine="numpy")
    texts = [i for i, word in enumerate(words) if word not in pictures]
    shown = [i for i, word in enumerate(words) if word in pictures]
    vectors = np.full((len(words), clip.embed_dim), np.nan, np.float32)
    vectors[texts] = clip.encode_text([words[i] for i in texts])
    vectors[shown] = clip.encode_image([words[i] for i in shown], on_error=lambda *_: None)
    good = np.flatnonzero(np.isfinite(vectors).all(axis=1))
    assert len(good) == len(words) - 1
    in_memory(tmp_path / f"want{ending}", [words[i] for i in good], vectors[good], clip.fingerprint)
    assert (tmp_path / f"got{ending}").read_bytes() == (tmp_path / f"want{ending}").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["bad.png", f"got{ending}", f"want{ending}"])


def test_a_gallery_is_written_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {"a": np.arange(24, dtype=np.float32).reshape(4, 6).T, "b": np.float32(2)[...], "c": np.zeros((0, 3))}
    weights.write(tmp_path / "whole.safetensors", tensors)
    monkeypatch.setattr(safetensors, "PIECE", 5)
    weights.write(tmp_path / "pieces.safetensors", tensors)
    assert (tmp_path / "pieces.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    found = weights.read(tmp_path / "pieces.safetensors")
    assert all(np.array_equal(found[name], array) for name, array in tensors.items())


WIDE = 20_000  # numbers in a vector: 96 MB for 1,200 pictures


@pytest.mark.parametrize("ending", ENDINGS)
def test_memory_does_not_grow_with_the_number_of_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    clip = cjkclip.load(TINY, engine="numpy")
    clip.embed_dim = WIDE
    monkeypatch.setattr(clip, "encode_pixels", lambda pixels, **_: np.full((len(pixels), WIDE), WIDE**-0.5, np.float32))
    monkeypatch.setattr(cjkclip, "load", lambda *_, **__: clip)
    peaks: dict[int, int] = {}
    for count in (300, 1200):
        folder = tmp_path / str(count)
        folder.mkdir()
        for number in range(count):
            os.link(shared(tmp_path, number), folder / f"{number}.png")
        tracemalloc.start()
        assert run("embed", folder, "--out", folder / f"v{ending}", *MODEL).exit_code == 0
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (folder / f"v{ending}").stat().st_size > count * WIDE * 4
    assert peaks[1200] - peaks[300] < 8_000_000, peaks
    assert peaks[1200] < 64_000_000, peaks


def shared(folder: Path, number: int) -> Path:
    """One of two small pictures on the same disk."""
    path = folder / f"{number % 2}.png"
    if not path.exists():
        path.write_bytes(IMAGES[number % 2].read_bytes())
    return path


def test_rows_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must end in"):
        Rows(tmp_path / "x.txt", 4)
    with Rows(tmp_path / "x.npy", 4) as rows:
        with pytest.raises(InputError, match=r"expected \(n, 4\)"):
            rows.add(["a"], np.zeros((1, 3), np.float32))
        with pytest.raises(InputError, match="no row was added"):
            rows.save("")
    with pytest.raises(InputError, match="cannot be written"):
        Rows(tmp_path / "gone" / "x.npy", 4)
    assert not list(tmp_path.iterdir())


ADDED = """
import sys
from pathlib import Path
import numpy as np
from cjkclip.errors import InputError
from cjkclip.gallery import Rows

vectors = np.load(sys.argv[1])
with Rows(Path(sys.argv[2]), 4) as rows:
    rows.add(list("abc"), vectors)
    for bad in (np.ones((1, 4), int), np.ones(4, vectors.dtype), np.ones((1, 4), complex)):
        try:
            rows.add(["e"], bad)
        except InputError as error:
            print(error)
    rows.save("")
"""


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ["<f8", "<f2", ">f4"])
def test_any_floating_point_becomes_single_precision(tmp_path: Path, ending: str, kind: str) -> None:
    """In a process without jaxtyping, as users have it. The middle row is left out."""
    vectors = np.array([[0.1, 0.7, 0.1, 0.7], [np.nan, 0, 0, 0], [0.5, 0.5, 0.5, -0.5]], kind)
    np.save(tmp_path / "in.npy", vectors)
    said = printed("-c", ADDED, tmp_path / "in.npy", tmp_path / f"v{ending}")
    assert said.count("expected (n, 4) of floating point") == 3
    want = vectors[[0, 2]].astype("<f4")
    in_memory(tmp_path / f"want{ending}", ["a", "c"], want, "")
    assert (tmp_path / f"v{ending}").read_bytes() == (tmp_path / f"want{ending}").read_bytes()


def test_names_are_kept_whole_or_refused(tmp_path: Path) -> None:
    out = tmp_path / "v.npz"
    names, bad = ["猫" * (LONGEST_NAME - 1) + end for end in "ab"], ["猫" * (LONGEST_NAME + 1), "cat\0"]
    with Rows(out, 1) as rows:
        rows.add(names, np.ones((2, 1), np.float32))
        for name in bad:
            with pytest.raises(InputError, match=r"expected for \.npz up to 1,024 and no NUL at the end"):
                rows.add([name], np.ones((1, 1), np.float32))
        rows.save("")
    with np.load(out) as arrays:
        assert arrays["names"].tolist() == names
    with Rows(tmp_path / "v.safetensors", 1) as rows:
        rows.add(names + bad, np.ones((4, 1), np.float32))
        rows.save("")
    assert Gallery.load(tmp_path / "v.safetensors").names == tuple(names + bad)
    found = run("embed", bad[0], "--out", out, "--model", tmp_path / "none")  # before the model is looked for
    assert found.exit_code == 4
    assert "has 1,025 characters" in found.stderr


def test_where_the_time_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = answer("embed", *IMAGES, "猫", "-o", tmp_path / "v.npy", *MODEL)
    assert data["pictures"] == 3
    assert set(data["seconds"]) == {"reading", "encoding", "writing"}
    assert all(0 < seconds < 60 for seconds in data["seconds"].values())
    monkeypatch.chdir(tmp_path)  # a long path would be folded
    shown = run("embed", *IMAGES, "-o", "v.npy", *MODEL).stdout.splitlines()
    assert len(shown) == 2
    assert shown[1].startswith("3 images in 0.")
    assert "pictures" not in answer("embed", "猫", "-o", tmp_path / "v.npy", *MODEL)


@pytest.mark.parametrize(
    ("seconds", "name", "fast", "said"),
    [
        (Seconds(reading=LONG, encoding=1), "a.JPG", False, "--fast"),
        (Seconds(reading=LONG, encoding=1), "a.jpg", True, None),
        (Seconds(reading=LONG, encoding=1), "a.png", False, None),
        (Seconds(reading=1, encoding=LONG), "a.jpg", False, "a smaller model"),
        (Seconds(reading=LONG / 3, encoding=LONG / 2), "a.jpg", False, None),
    ],
)
def test_what_would_be_faster(seconds: Seconds, name: str, fast: bool, said: str | None) -> None:
    lines = advice(seconds, IndexInputs(names=[name], pictures=[0]), fast)
    assert len(lines) == (said is not None)
    assert said is None or said in lines[0]


# The program, with a step that says that it was reached and then takes half a minute.
PROGRAM = """
import resource, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a test runner in the background ignores it
from cjkclip import cli, clip
from cjkclip.gallery import rows

step, number = sys.argv[1], int(sys.argv[2])
sys.argv[1:] = sys.argv[3:]

def slow(real, calls):
    def slowed(*args, **more):
        calls.append(1)
        if len(calls) == number:
            print("reached", flush=True)
            for _ in range(300):
                time.sleep(0.1)  # a signal that comes just before it begins waits until a sleep is over
        return real(*args, **more)
    return slowed

if step == "encode":
    clip.Clip.encode_pixels = slow(clip.Clip.encode_pixels, [])
elif step == "write":
    rows.np.save = slow(rows.np.save, [])
elif step == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, -1))
try:
    cli.main()
finally:
    print([thread.name for thread in threading.enumerate()], flush=True)
"""


def start(out: Path, *how: str) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", PROGRAM, *how, "embed", *map(str, IMAGES * 40), "--out", str(out), *map(str, MODEL)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())


@pytest.mark.skipif(sys.platform == "win32", reason="no signals there")
@pytest.mark.parametrize("ending", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("step", ["encode", "write"])
def test_stopped_in_the_middle(tmp_path: Path, step: str, ending: str) -> None:
    out = tmp_path / "v.npy"
    out.write_bytes(b"what was there")
    with start(out, step, "2" if step == "encode" else "1") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "reached\n"
        process.send_signal(getattr(signal, ending))
        began = time.monotonic()
        said, problems = process.communicate(timeout=25)
    assert time.monotonic() - began < 20
    code, word = {"SIGINT": (130, "interrupted"), "SIGTERM": (143, "terminated")}[ending]
    assert (process.returncode, problems) == (code, f"cjkclip: {word}\n")
    assert said == "['MainThread']\n"
    assert out.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.skipif(sys.platform == "win32", reason="no limits there")
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("room", [5_000, 15_500])  # too little for the rows, and enough for them but not for the file
def test_a_full_disk(tmp_path: Path, ending: str, room: int) -> None:
    out = tmp_path / f"v{ending}"
    out.write_bytes(b"what was there")
    with start(out, "full", str(room)) as process:
        _, problems = process.communicate(timeout=60)
    assert process.returncode == (0 if ending == ".npy" and room > 15_360 + 128 else 4), problems
    assert "Traceback" not in problems
    if process.returncode:
        assert "cannot be written" in problems
        assert out.read_bytes() == b"what was there"
    assert list(tmp_path.iterdir()) == [out]


def test_threads_end_when_the_caller_stops_early() -> None:
    clip = cjkclip.load(TINY, engine="numpy")
    batches = clip.encode_image_batches(IMAGES * 5, batch_size=2)
    assert next(batches).start == 0
    assert any(thread.name.startswith("cjkclip-ahead") for thread in threading.enumerate())
    batches.close()
    assert not any(thread.name.startswith("cjkclip") for thread in threading.enumerate())


def test_few_batches_are_made_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    real = cjkclip.image.batches.load_pixels

    def load(pictures: Any, *args: Any, **more: Any) -> np.ndarray:
        made.append(len(pictures))
        return real(pictures, *args, **more)

    monkeypatch.setattr("cjkclip.image.batches.load_pixels", load)
    clip = cjkclip.load(TINY, engine="numpy")
    for number, batch in enumerate(clip.encode_image_batches(IMAGES * 20, batch_size=4)):
        time.sleep(0.01)  # time in which more could be made
        assert len(made) <= number + 2
        assert batch.start == 4 * number
    assert sum(made) == 60
