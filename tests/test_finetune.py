"""Fine-tuning: inputs that are rejected before the first step, and the files that a run writes."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

import cjkclip
from cjkclip.checkpoints import saving
from cjkclip.errors import InputError
from cjkclip.train import Recipe, finetune, read_pairs
from support.drawn import OFF
from support.runner import invoke

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
    assert "bad.webp: not in an image format" in str(caught.value)
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
    with pytest.raises(InputError, match=r"already exists|cannot be written"):
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

    write, file, out = saving.write, pairs_file(tmp_path), tmp_path / "some" / "where"
    if there:
        out.mkdir(parents=True)
    before = everything(tmp_path)
    monkeypatch.setattr(saving, "write", full)
    with pytest.raises(InputError, match=r"cannot be written.*No space left"):
        finetune(START, file, out, RECIPE)
    monkeypatch.setattr(saving, "write", write)
    assert everything(tmp_path) == before
    clip = finetune(START, file, out, RECIPE)
    assert cjkclip.load(out).fingerprint == clip.fingerprint
    assert np.isfinite(clip.encode_text(["猫"])).all()
    assert {each.name for each in out.iterdir()} == {"config.json", "model.safetensors", "tokenizer.json"}
    assert everything(out.parent) == [out, *everything(out)]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"steps": 0}, "steps is 0, expected at least 1"),
        ({"batch": 1}, "batch is 1, expected at least 2"),
        ({"batch": 7, "views": 4}, "batch is 7, expected at least 8"),
        ({"views": 0}, "views is 0, expected at least 1"),
        ({"lr": 0.0}, "lr is 0.0, expected more than 0"),
        ({"lr": float("inf")}, "lr is inf"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"warmup": -1}, "warmup is -1, expected at least 0"),
        ({"decay": -0.1}, "decay is -0.1, expected at least 0"),
        ({"decay": 1.5}, "decay is 1.5, expected at most 1"),
        ({"weight_decay": float("nan")}, "weight_decay is nan, expected at least 0"),
        ({"blend_chance": 2.0}, "blend_chance is 2.0, expected at most 1"),
        ({"same_thing": -1.0}, "same_thing is -1.0, expected at least 0"),
        ({"anchors": -1.0}, "anchors is -1.0, expected at least 0"),
        ({"average": 1.0}, "average is 1.0, expected below 1"),
        ({"clip_norm": 0.0}, "clip_norm is 0.0, expected more than 0"),
        ({"scale_limit": 0.5}, "scale_limit is 0.5, expected at least 1"),
        ({"seed": -1}, "seed is -1, expected at least 0"),
        ({"seed": 2**64}, "seed is 18446744073709551616, expected below 18446744073709551616"),
    ],
    ids=str,
)
def test_a_recipe_that_cannot_work_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=re.escape(says)):
        Recipe(**{"steps": 1, **wrong})


def test_a_precision_that_nobody_computes_is_refused() -> None:
    recipe = Recipe(steps=1)
    object.__setattr__(recipe, "precision", "fp16")  # the types that run in tests would refuse it first
    with pytest.raises(InputError, match=re.escape("precision is 'fp16', expected one of ['auto', 'bf16', 'fp32']")):
        recipe.__post_init__()


@pytest.mark.parametrize("text", ["red.png\t赤\n", "red.png\t赤\nred.png\tred\n", "red.png\t赤\nblue.png\t赤\n"])
def test_pairs_without_a_wrong_answer_are_refused(tmp_path: Path, text: str) -> None:
    pairs_file(tmp_path).write_text(text, "utf-8")
    with pytest.raises(InputError, match="every text is right for every image"):
        finetune(START, tmp_path / "pairs.tsv", tmp_path / "out", RECIPE)


@pytest.mark.parametrize("wrong", [["--lr", "nan"], ["--lr", "-1"], ["--lr", "inf"]])
def test_train_tells_a_rate_that_cannot_work(tmp_path: Path, wrong: list[str]) -> None:
    command = ["train", str(pairs_file(tmp_path)), "-o", str(tmp_path / "out"), *wrong]
    done = invoke(command)
    assert (done.exit_code, done.stdout) == (4, "")
    assert "recipe: lr is" in done.stderr


@pytest.mark.parametrize("wrong", [["--seed", "-1"], ["--batch", "1"], ["--steps", "0"]])
def test_train_takes_no_count_that_cannot_work(tmp_path: Path, wrong: list[str]) -> None:
    done = invoke(["train", str(pairs_file(tmp_path)), "-o", str(tmp_path / "out"), *wrong])
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"Invalid value for '{wrong[0]}'" in done.stderr


@pytest.mark.parametrize("lr", [1e20, 1e38, 3e38])
def test_a_model_that_answers_no_numbers_is_not_written(tmp_path: Path, lr: float) -> None:
    """The last update comes after the last loss: weights that are finite, but so large that features overflow."""
    with pytest.raises(InputError, match="lower the recipe's lr"):
        finetune(START, pairs_file(tmp_path), tmp_path / "out", replace(RECIPE, steps=1, lr=lr))
    assert not (tmp_path / "out").exists()


def test_what_listeners_put_beside_the_model_stays(tmp_path: Path) -> None:
    file, out = pairs_file(tmp_path), tmp_path / "model"

    def log(_: Any) -> None:
        out.mkdir(exist_ok=True)
        (out / "log.txt").touch()

    finetune(START, file, out, RECIPE, listen=log, every=1)
    assert {"log.txt", "config.json", "model.safetensors"} <= {path.name for path in out.iterdir()}


def test_a_model_whose_place_was_taken_is_kept_elsewhere(tmp_path: Path) -> None:
    file, out = pairs_file(tmp_path), tmp_path / "model"

    def take(_: Any) -> None:
        out.mkdir(exist_ok=True)
        (out / "config.json").write_text("mine")

    with pytest.raises(InputError, match=r"now contains config\.json.* The new files are in '(.*)'") as caught:
        finetune(START, file, out, RECIPE, listen=take, every=1)
    assert (out / "config.json").read_text() == "mine"
    assert cjkclip.load(str(caught.value).rsplit("'", 2)[1]).embed_dim
