"""Saving over an existing model: the old one or the new one is there, whole, whatever happens meanwhile."""

import errno
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cjkclip
from cjkclip.checkpoints.weights import replace
from cjkclip.checkpoints.weights.replace import new_folder, replacing
from cjkclip.errors import CheckpointError, InputError, WeightsError
from families import GOLDEN
from support.processes import environment

OLD, NEW = GOLDEN / "hf-clip-eos2", GOLDEN / "hf-clip-gelu"
TEXTS = ["a cat", "dog"]

# Kills itself at the k-th file operation below the directory, counted by Python's audit hook.
KILLED = """
import os, signal, sys
from pathlib import Path
import cjkclip
root, old, new, layout = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
one, two = (cjkclip.load(path, engine="numpy") for path in (old, new))
WATCHED = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link"}
for k in range(1, 40):
    folder = root / str(k) / "model"
    one.save(folder, layout)
    (folder / "notes.txt").write_text("mine")
    process = os.fork()
    if process == 0:
        count = 0
        def hook(event, args):
            global count
            writes = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if (writes or event in WATCHED) and str(args[0]).startswith(str(root)):
                count += 1
                if count == k:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        two.save(folder, layout)
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(process, 0)[1])
    print(k, killed, flush=True)
    if not killed:
        break
"""


def state(clip: cjkclip.Clip) -> tuple[bytes, str, Any]:
    return clip.encode_text(TEXTS).tobytes(), repr(clip.config), clip.tokenize(TEXTS).ids.tolist()


def states() -> dict[str, Any]:
    return {name: state(cjkclip.load(path, engine="numpy")) for name, path in (("old", OLD), ("new", NEW))}


def found(folder: Path) -> str:
    got = state(cjkclip.load(folder, engine="numpy"))
    return next(name for name, want in states().items() if want == got)


@pytest.mark.parametrize("layout", ["cjkclip", "transformers"])
def test_a_program_killed_at_any_file_operation_leaves_the_old_model_or_the_new(layout: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, tmp_path, OLD, NEW, layout]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120, check=True)
    lines = [line.split() for line in ran.stdout.splitlines()]
    assert [line[1] for line in lines] == ["True"] * (len(lines) - 1) + ["False"]
    assert len(lines) > 6
    results = [found(tmp_path / number / "model") for number, _ in lines]
    assert results == sorted(results, reverse=True)  # old until the exchange, new after it
    assert set(results) == {"old", "new"}
    assert all((tmp_path / number / "model" / "notes.txt").read_text() == "mine" for number, _ in lines)


def test_what_a_killed_program_left_is_deleted_by_the_next_save(tmp_path: Path) -> None:
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, env=environment(), check=True
    )
    left = tmp_path / f".{'0' * 16}.{int(gone.stdout)}.part"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"-")
    (tmp_path / f".{'1' * 16}.{int(gone.stdout)}.part").write_bytes(b"-")
    kept = [tmp_path / ".mine.part", tmp_path / f".{'2' * 16}.{int(gone.stdout)}.part"]
    for path in kept:
        path.mkdir()
    number = os.open(kept[1], os.O_RDONLY)
    fcntl.flock(number, fcntl.LOCK_EX)  # another program writes there
    cjkclip.load(OLD, engine="numpy").save(tmp_path / "model")
    os.close(number)
    assert {path.name for path in tmp_path.iterdir()} == {"model", *(path.name for path in kept)}


def test_an_entry_that_this_process_has_just_begun_is_not_deleted(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a") as part, replacing(tmp_path / "b") as file:
        cjkclip.load(OLD, engine="numpy").save(tmp_path / "c")
        (part / "x").touch()
        file.write(b"1")
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c"}


def filled(folder: Path) -> Path:
    """Save the old model, and put a note, a directory and a link beside it."""
    cjkclip.load(OLD, engine="numpy").save(folder)
    (folder / "README.md").write_text("mine")
    (folder / "runs").mkdir()
    (folder / "runs" / "1.txt").write_text("1")
    (folder / "link").symlink_to("README.md")
    return folder


def assert_saved_over(folder: Path) -> None:
    assert found(folder) == "new"
    assert (folder / "link").readlink() == Path("README.md")
    assert ((folder / "README.md").read_text(), (folder / "runs" / "1.txt").read_text()) == ("mine", "1")
    assert not [path for path in folder.parent.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize("exchanged", [True, False])
def test_other_files_stay(exchanged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = filled(tmp_path / "model")
    folder.chmod(0o750)
    if not exchanged:
        monkeypatch.setattr(replace, "_swapped", lambda *_: False)
    cjkclip.load(NEW, engine="numpy").save(folder)
    assert_saved_over(folder)
    assert folder.stat().st_mode & 0o777 == 0o750


def test_the_working_directory_stays_the_same_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(filled(tmp_path / "model"))
    number = Path.cwd().stat().st_ino
    cjkclip.load(NEW, engine="numpy").save(".")
    assert Path.cwd().stat().st_ino == number
    assert_saved_over(tmp_path / "model")


def test_a_link_to_a_directory_stays_a_link(tmp_path: Path) -> None:
    filled(tmp_path / "place" / "model")
    (tmp_path / "link").symlink_to("place/model")
    cjkclip.load(NEW, engine="numpy").save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert_saved_over(tmp_path / "place" / "model")


def test_an_exchange_that_was_killed_between_two_renames_is_undone(tmp_path: Path) -> None:
    folder = filled(tmp_path / "model")
    folder.rename(tmp_path / ".model.old")
    cjkclip.load(NEW, engine="numpy").save(folder)
    assert_saved_over(folder)


def test_a_failure_between_two_renames_puts_the_old_one_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, real = filled(tmp_path / "model"), Path.rename

    def rename(self: Path, target: Path) -> Path:
        if self.name.endswith(".part"):
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(replace, "_swapped", lambda *_: False)
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        cjkclip.load(NEW, engine="numpy").save(folder)
    assert found(folder) == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "vocab.json"])
def test_a_full_disk_changes_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip, folder = cjkclip.load(NEW, engine="numpy"), filled(tmp_path / "model")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    real = Path.write_text
    if name == "model.safetensors":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(
            Path, "write_text", lambda self, *a, **k: full() if self.name == name else real(self, *a, **k)
        )
    with pytest.raises((WeightsError, InputError), match="No space left on device"):
        clip.save(folder, "cjkclip" if name != "vocab.json" else "transformers")
    monkeypatch.undo()
    assert found(folder) == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_parts_of_two_models_are_refused(tmp_path: Path) -> None:
    old, new = (cjkclip.load(path, engine="numpy").save(tmp_path / path.name) for path in (OLD, NEW))
    shutil.copy(old / "config.json", new / "config.json")
    with pytest.raises(WeightsError, match=r'mixes two models.*remove "weights" from config.json'):
        cjkclip.load(new)
    record = json.loads((old / "config.json").read_text("utf-8"))
    del record["weights"]  # as in the files of older versions
    (old / "config.json").write_text(json.dumps(record), "utf-8")
    assert found(old) == "old"


def test_saving_is_deterministic(tmp_path: Path) -> None:
    clip = cjkclip.load(OLD, engine="numpy")
    one, two = (
        clip.save(tmp_path / "one"),
        cjkclip.load(clip.save(tmp_path / "x"), engine="numpy").save(tmp_path / "two"),
    )
    assert {f.name: f.read_bytes() for f in one.iterdir()} == {f.name: f.read_bytes() for f in two.iterdir()}


def test_a_reader_beside_a_writer_gets_one_of_the_two_or_a_typed_error(tmp_path: Path) -> None:
    folder = filled(tmp_path / "model")
    clips = [cjkclip.load(path, engine="numpy") for path in (NEW, OLD)]
    done, wanted = threading.Event(), set(map(repr, states().values()))

    def write() -> None:
        for number in range(30):
            clips[number % 2].save(folder, "transformers" if number % 3 else "cjkclip")
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    loads = 0
    while not done.is_set():
        try:
            assert repr(state(cjkclip.load(folder, engine="numpy"))) in wanted
            loads += 1
        except CheckpointError:
            continue
    thread.join()
    assert loads


def test_files_that_change_while_they_are_read_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cjkclip.load(OLD, engine="numpy").save(tmp_path / "model", "transformers")
    other = cjkclip.load(NEW, engine="numpy").save(tmp_path / "other", "transformers")
    from cjkclip import checkpoints

    real = checkpoints.find_format

    def exchanged(*args: Any) -> Any:
        shutil.copy(other / "config.json", folder / "config.json")
        return real(*args)

    monkeypatch.setattr(checkpoints, "find_format", exchanged)
    with pytest.raises(WeightsError, match="its files changed while they were read"):
        cjkclip.load(folder)


def test_the_order_in_memory_does_not_matter_for_the_identity() -> None:
    from cjkclip.fingerprint import identity

    array = np.arange(600, dtype=np.float32).reshape(20, 30)
    assert identity({"a": array}) == identity({"a": np.asfortranarray(array)}) != identity({"a": array + 1})
