"""A checkpoint that another program changes while it is loaded: the same results as before, or WeightsError."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cjkclip
from cjkclip import checkpoints
from cjkclip.clip import Clip
from cjkclip.errors import WeightsError
from cjkclip.machine.mapped import MappedFile, steady
from families import GOLDEN

TEXTS = ["猫", "two dogs"]
Change = Callable[[Path], None]


def overwrite(path: Path) -> None:
    """Write other numbers of the same length in place, as `cp` and rsync --inplace do."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(range(1, 101)))


def cut(path: Path) -> None:
    os.truncate(path, 1000)


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(bytes(path.stat().st_size))
    other.replace(path)


CHANGES: list[Change] = [overwrite, cut]
USES: dict[str, Callable[[Clip, Path], object]] = {
    "text": lambda clip, _: clip.encode_text(TEXTS),
    "pixels": lambda clip, _: clip.encode_image([np.zeros((9, 9, 3), np.uint8)]),
    "classify": lambda clip, _: clip.classify([np.zeros((9, 9, 3), np.uint8)], TEXTS),
    "fingerprint": lambda clip, _: clip.fingerprint,
    "save": lambda clip, path: clip.save(path / "saved"),
    "pickle": lambda clip, _: clip.__reduce__(),
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return cjkclip.load("moji").save(tmp_path / "model")


@pytest.mark.parametrize("engine", ["numpy", "openvino", "torch"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("use", USES)
def test_a_file_that_changed_is_an_error_before_the_first_use(
    engine: str, change: Change, use: str, model: Path, tmp_path: Path
) -> None:
    clip = cjkclip.load(model, engine=engine)
    change(model / "model.safetensors")
    with pytest.raises(WeightsError, match=r"changed this file after it was loaded.*mapped=False"):
        USES[use](clip, tmp_path)


@pytest.mark.parametrize("engine", ["numpy", "openvino", "torch"])
@pytest.mark.parametrize("change", CHANGES)
def test_after_the_first_use_results_stay_or_are_an_error(engine: str, change: Change, model: Path) -> None:
    """torch copied the weights; the other engines may read the file again."""
    clip = cjkclip.load(model, engine=engine)
    before = clip.encode_text(TEXTS)
    change(model / "model.safetensors")
    if engine == "torch":
        assert np.array_equal(clip.encode_text(TEXTS), before)
    else:
        with pytest.raises(WeightsError, match="Load it again"):
            clip.encode_text(TEXTS)
    with pytest.raises(WeightsError, match="Load it again"):
        _ = clip.fingerprint


@pytest.mark.parametrize("change", [overwrite, cut, replace, Path.unlink])
def test_a_copy_in_memory_does_not_depend_on_the_file(change: Change, model: Path, tmp_path: Path) -> None:
    mapped, copied = cjkclip.load(model), cjkclip.load(model, mapped=False)
    assert mapped.fingerprint == copied.fingerprint
    expected = copied.encode_text(TEXTS)
    change(model / "model.safetensors")
    assert np.array_equal(cjkclip.load(copied.save(tmp_path / "saved")).encode_text(TEXTS), expected)
    assert np.array_equal(copied.encode_text(TEXTS), expected)


@pytest.mark.parametrize("change", [replace, Path.unlink])
def test_a_file_that_was_replaced_or_deleted_stays_mapped(change: Change, model: Path) -> None:
    clip = cjkclip.load(model, engine="numpy")
    expected = cjkclip.load("moji", engine="numpy").encode_text(TEXTS)
    change(model / "model.safetensors")
    assert np.array_equal(clip.encode_text(TEXTS), expected)


def test_a_change_during_a_call_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    path.write_bytes(bytes(9999))
    file = MappedFile.of(path)
    with pytest.raises(WeightsError, match="numbers"), steady([file]):
        overwrite(path)
    with steady([MappedFile.of(path)]):
        pass


def test_an_image_tower_of_another_directory_is_watched(tmp_path: Path) -> None:
    text, image = (cjkclip.load("moji").save(tmp_path / name) for name in ("text", "image"))
    clip = cjkclip.load(text, image_tower=image)
    overwrite(image / "model.safetensors")
    with pytest.raises(WeightsError, match="image"):
        clip.encode_text(TEXTS)


def test_a_model_that_compat_copies_is_watched(tmp_path: Path) -> None:
    from cjkclip.compat.transformers import CLIPModel

    folder = shutil.copytree(GOLDEN / "hf-clip-eos2", tmp_path / "model")
    found = checkpoints.read(checkpoints.resolve(folder))
    overwrite(folder / "model.safetensors")
    with pytest.raises(WeightsError, match="Load it again"):
        CLIPModel.from_found(found, "model", None, None, {})


def test_training_from_a_file_that_changed_is_an_error(model: Path) -> None:
    from cjkclip.train.towers import towers_of

    clip = cjkclip.load(model)
    overwrite(model / "model.safetensors")
    with pytest.raises(WeightsError, match="Load it again"):
        towers_of(clip)
