"""What a user's training run is refused for, before its first step, and what it leaves behind."""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import cjkclip
from cjkclip import checkpoints
from cjkclip.errors import InputError
from cjkclip.train import Recipe, finetune, read_pairs
from drawn import OFF

START = "moji"
COLOURS = ("red", "green", "blue", "white")
RECIPE = Recipe(steps=2, batch=2, augment=OFF, precision="fp32")


def pairs_file(folder: Path, extra: str = "") -> Path:
    """Four pictures and their names, and whatever follows."""
    for colour in COLOURS:
        PIL.Image.new("RGB", (40, 30), colour).save(folder / f"{colour}.png")
    file = folder / "pairs.tsv"
    file.write_text("".join(f"{colour}.png\t{colour}\n" for colour in COLOURS) + extra, "utf-8")
    return file


def test_pictures_that_cannot_be_decoded_are_told_before_the_first_step(tmp_path: Path) -> None:
    whole = (pairs_file(tmp_path).parent / "red.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:60])
    (tmp_path / "bad.webp").write_text("no picture")
    file, heard = pairs_file(tmp_path, "cut.png\t赤\nbad.webp\t犬\nblue.png\t青\nbad.webp\t개\n"), list[Any]()
    with pytest.raises(InputError, match="5 good pairs, 3 bad lines") as caught:
        finetune(START, file, tmp_path / "out", RECIPE, listen=heard.append, every=1)
    told = [line.split(":")[0].strip() for line in str(caught.value).splitlines()[1:]]
    assert told == ["line 5", "line 6", "line 8"]
    assert "bad.webp: no picture format" in str(caught.value)
    assert not heard
    assert not (tmp_path / "out").exists()


def test_of_many_bad_pictures_ten_are_told_and_the_rest_counted(tmp_path: Path) -> None:
    (tmp_path / "bad.webp").write_text("no picture")
    with pytest.raises(InputError, match=r"line 14: .*\n  \.\.\. and 90 more$"):
        read_pairs(pairs_file(tmp_path, "bad.webp\t犬\n" * 100))


def everything(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("out", ["pairs.tsv", "pairs.tsv/model", "full", "new/" + "x" * 300])
def test_a_place_that_cannot_be_written_is_told_before_the_first_step(tmp_path: Path, out: str) -> None:
    file, heard = pairs_file(tmp_path), list[Any]()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    before = everything(tmp_path)
    with pytest.raises(InputError, match=r"is there already|cannot be written"):
        finetune(START, file, tmp_path / out, RECIPE, listen=heard.append, every=1)
    assert not heard
    assert everything(tmp_path) == before


def test_training_that_is_stopped_leaves_nothing_behind(tmp_path: Path) -> None:
    def stop(_: Any) -> None:
        assert everything(tmp_path) == before  # what kills the program leaves nothing either
        raise KeyboardInterrupt

    file = pairs_file(tmp_path)
    before = everything(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        finetune(START, file, tmp_path / "some" / "where" / "new", RECIPE, listen=stop, every=1)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("there", [True, False], ids=["an empty folder", "a new folder"])
def test_a_model_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    def full(*args: Any) -> None:
        write(*args)
        raise OSError(28, "No space left on device")

    write, file, out = checkpoints.write, pairs_file(tmp_path), tmp_path / "some" / "where"
    if there:
        out.mkdir(parents=True)
    before = everything(tmp_path)
    monkeypatch.setattr(checkpoints, "write", full)
    with pytest.raises(InputError, match=r"cannot be written.*No space left"):
        finetune(START, file, out, RECIPE)
    monkeypatch.setattr(checkpoints, "write", write)
    assert everything(tmp_path) == before
    clip = finetune(START, file, out, RECIPE)
    assert cjkclip.load(out).fingerprint == clip.fingerprint
    assert np.isfinite(clip.encode_text(["猫"])).all()
    assert {each.name for each in out.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    assert everything(out.parent) == [out, *everything(out)]
