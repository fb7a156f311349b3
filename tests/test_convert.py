"""`cjkclip convert`: any layout that can hold the model; the reason where it cannot; never half a folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cjkclip
from cjkclip import checkpoints, verify
from families import FAMILIES, GOLDEN
from support.cli import answer, run

EOS2 = GOLDEN / "hf-clip-eos2"
INPUTS = {"tokens", "pixels"}  # for which a layout has rules of its own
CHINESE = {"vision.heads": 4, "text.heads": 3}  # that cn_clip's files do not tell of these widths


def stated(facts: dict[str, Any]) -> list[str]:
    return [word for name, value in facts.items() for word in ("--fact", f"{name}={value}")]


@pytest.mark.parametrize(
    ("source", "layout", "same", "lacks"),
    [
        ("hf-clip-eos2", "cjkclip", True, {}),
        ("hf-clip-trueeos", "transformers", True, {}),
        ("hf-clip-eos2", "open_clip", False, {}),
        ("hf-clip-gelu", "open_clip_custom", False, {}),
        ("hf-clip-text-projection", "cjkclip", True, {}),
        ("hf-clip-v5-unprefixed/text", "transformers_text", True, {}),
        ("hf-clip-trueeos", "flax", True, {}),
        ("open-clip", "open_clip_custom", True, {}),
        ("open-clip", "transformers", False, {}),
        ("openai-vit-torchscript", "open_clip", True, {}),
        ("openai-vit-torchscript", "openai", True, {"vision.act": "quick_gelu", "text.act": "quick_gelu"}),
        ("hf-chinese-clip", "cn_clip", True, CHINESE),
        ("hf-chinese-clip", "cn_clip_flash", True, CHINESE),
        ("rinna-clip-bert", "cjkclip", True, {}),
        ("rinna-cloob", "rinna", True, {}),
        ("koclip", "cjkclip", True, {}),
    ],
)
def test_the_towers_arrive(source: str, layout: str, same: bool, lacks: dict[str, Any], tmp_path: Path) -> None:
    data = answer("convert", GOLDEN / source, tmp_path / "out", "--layout", layout, "--verify", code=int(not same))
    stages = {stage["name"]: stage for stage in data["verified"]["stages"]}
    assert data["verified"]["same"] is same
    assert {name for name, stage in stages.items() if not stage["same"]} <= INPUTS
    assert {stage["apart"] for name, stage in stages.items() if name not in INPUTS} == {0}
    assert lacks.items() <= data["facts"].items()
    assert bool(lacks) == bool(data["facts"]) == any("pass them: load(" in note for note in data["notes"])
    assert {file["name"] for file in data["files"]} == {path.name for path in (tmp_path / "out").iterdir()}
    again = cjkclip.load(tmp_path / "out", engine="numpy", facts=data["facts"])
    assert again.params.keys() == cjkclip.load(GOLDEN / source).params.keys()


@pytest.mark.parametrize("layout", ["cjkclip", "open_clip", "openai", "transformers"])
def test_a_resnet_arrives_where_there_is_a_place_for_it(layout: str, tmp_path: Path) -> None:
    facts = stated({"text.act": "quick_gelu", "text.heads": 1})
    source, code = GOLDEN / "openai-rn" / "model.pt", 3 if layout == "transformers" else 0
    data = answer("convert", source, tmp_path / "out", "--layout", layout, "--verify", *facts, code=code)
    assert (tmp_path / "out").exists() is (code == 0)
    if code == 0:
        assert data["verified"]["same"]
        assert set(data["facts"]) == ({"text.act", "text.heads"} if layout == "openai" else set())


def test_full_width_marks_are_all_that_transformers_reads_differently(tmp_path: Path) -> None:
    """open_clip's cleaning narrows them, transformers' does not; its padding is another too, which nobody reads."""
    data = answer("convert", GOLDEN / "open-clip", tmp_path / "out", "--layout", "transformers", "--verify", code=1)
    [tokens] = [stage for stage in data["verified"]["stages"] if stage["name"] == "tokens"]
    assert tokens["apart"] == sum("，" in text for text in verify.sentences()) == 5


@pytest.mark.parametrize(
    ("source", "layout", "why"),
    [
        ("hf-clip-eos2", "cn_clip", "no place for 2 parameters (text.ln_final"),
        ("rinna-clip", "transformers", "Layouts that fit this model: cjkclip, rinna"),
        ("openai-vit-torchscript", "rinna", "no place for"),
        ("hf-clip-eos2", "transformers_text", "no place for"),
        ("hf-clip-eos2", "onnx", "layout 'onnx' does not exist. Use one of"),
        ("hf-chinese-clip-crop", "open_clip", "no place for"),
    ],
)
def test_a_layout_that_cannot_hold_the_model_leaves_nothing(source: str, layout: str, why: str, tmp_path: Path) -> None:
    data = answer("convert", GOLDEN / source, tmp_path / "out", "--layout", layout, code=3)
    assert data["error"]["kind"] == "LayoutError"
    assert why in data["error"]["message"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "field", "value", "layout", "why"),
    [
        ("hf-clip-eos2", "hidden_act", "gelu", "open_clip", "one activation and two projections"),
        ("hf-clip-eos2", "layer_norm_eps", 1e-6, "open_clip", None),
        (
            "koclip-naive-eos1",
            "eos_token_id",
            1,
            "openai",
            "layout 'openai' cannot hold this model: its files would have text.pool 'largest-id', not 'first-eot'",
        ),
        ("hf-clip-eos2", "hidden_act", "gelu", "transformers", None),
    ],
)
def test_a_layout_that_would_say_something_wrong_is_refused(
    source: str, field: str, value: Any, layout: str, why: str | None, tmp_path: Path
) -> None:
    shutil.copytree(GOLDEN / source, tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text("utf-8"))
    config["text_config"][field] = value
    (tmp_path / "m" / "config.json").write_text(json.dumps(config), "utf-8")
    target = tmp_path / "out"
    data = answer("convert", tmp_path / "m", target, "--layout", layout, code=3 if why else 0)
    assert target.exists() is (why is None)
    if why is not None:
        assert why in data["error"]["message"]


def test_a_folder_is_replaced_only_if_asked_and_only_if_it_is_a_model(tmp_path: Path) -> None:
    convert = ("convert", EOS2, tmp_path / "out", "--layout", "cjkclip")
    (tmp_path / "out").mkdir()
    answer(*convert)  # an empty folder is room enough
    before = sorted(path.name for path in (tmp_path / "out").iterdir())
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert "--force to replace it" in answer(*convert, code=4)["error"]["message"]
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    answer(*convert, "--force")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == before
    (tmp_path / "out" / "album").mkdir()
    assert "contains directories, so --force" in answer(*convert, "--force", code=4)["error"]["message"]
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"mine")
    data = answer("convert", EOS2, photos, "--layout", "cjkclip", "--force", code=4)
    assert "only replaces the directory of a model" in data["error"]["message"]
    assert (photos / "a.jpg").read_bytes() == b"mine"


def test_a_file_in_the_place_of_the_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    for more in ((), ("--force",)):
        answer("convert", EOS2, tmp_path / "out", "--layout", "cjkclip", *more, code=4)
    assert (tmp_path / "out").read_text() == "mine"


def test_a_model_is_not_written_over_itself_nor_into_nowhere(tmp_path: Path) -> None:
    shutil.copytree(EOS2, tmp_path / "m", ignore=shutil.ignore_patterns("images"))
    for source in (tmp_path / "m", tmp_path / "m" / "model.safetensors"):
        data = answer("convert", source, tmp_path / "m", "--layout", "cjkclip", "--force", code=4)
        assert "contains the model to convert" in data["error"]["message"]
    cjkclip.load(tmp_path / "m")
    assert (
        "create it first"
        in answer("convert", EOS2, tmp_path / "a" / "b", "--layout", "cjkclip", code=4)["error"]["message"]
    )


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_that_appears_while_it_runs_is_left_alone(
    force: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, told = tmp_path / "out", checkpoints.stored_config

    def meanwhile(folder: Path) -> dict[str, Any]:
        out.mkdir()
        (out / "album.txt").write_text("mine")
        return told(folder)

    monkeypatch.setattr(checkpoints, "stored_config", meanwhile)
    more = ("--force",) if force else ()
    data = answer("convert", EOS2, out, "--layout", "cjkclip", *more, code=4)
    assert ("only replaces" if force else "already exists") in data["error"]["message"]
    assert (out / "album.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_may_be_called_as_a_release_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "moji").mkdir()
    monkeypatch.chdir(tmp_path / "moji")
    answer("convert", "moji", tmp_path / "moji" / "moji", "--layout", "cjkclip")
    assert cjkclip.load(tmp_path / "moji" / "moji").fingerprint == cjkclip.load("moji").fingerprint
    data = answer("convert", "moji", checkpoints.BUNDLED, "--layout", "cjkclip", "--force", code=4)
    assert "contains the model to convert" in data["error"]["message"]


def test_places_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for target in (tmp_path / "loop", tmp_path / "loop" / "out", tmp_path / ("n" * 300), Path("/proc/out")):
        data = answer("convert", EOS2, target, "--layout", "cjkclip", code=4)
        assert "cannot be written" in data["error"]["message"]
    (tmp_path / "loop").unlink()
    assert not list(tmp_path.iterdir())


def test_a_write_that_fails_leaves_the_old_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert = ("convert", EOS2, tmp_path / "out", "--layout", "cjkclip")
    answer(*convert)
    old = cjkclip.load(tmp_path / "out").fingerprint

    def full(path: Path, tensors: Any) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints.weights, "write", full)
    assert "No space left" in answer(*convert, "--force", code=4)["error"]["message"]
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert cjkclip.load(tmp_path / "out").fingerprint == old


def test_two_sources_become_one_folder(tmp_path: Path) -> None:
    case = next(case for case in FAMILIES if case.case == "taiyi-logits")
    convert = ("convert", case.folder / "text", tmp_path / "out", "--layout", "cjkclip", "--verify")
    data = answer(*convert, "--image-tower", case.folder / "image")
    assert data["verified"]["same"]
    whole, expected = cjkclip.load(tmp_path / "out", engine="numpy"), case.expected()
    assert np.abs(whole.engine.image(expected["pixel_values"]) - expected["image_features"]).max() < 1e-5
    assert (
        "no place for"
        in answer(
            *convert[:2], tmp_path / "text", "--layout", "taiyi_logits", "--image-tower", case.folder / "image", code=3
        )["error"]["message"]
    )


def test_what_a_person_sees(tmp_path: Path) -> None:
    facts = {"vision.act": "quick_gelu", "vision.heads": 1, "text.act": "quick_gelu", "text.heads": 1}
    result = run(
        "convert", GOLDEN / "openai-vit" / "model.pt", tmp_path / "out", "--layout", "open_clip", *stated(facts)
    )
    assert result.exit_code == 0
    assert "written to" in result.stdout
    size = (tmp_path / "out" / "open_clip_model.safetensors").stat().st_size
    assert f"{size:,} bytes" in result.stdout
    assert run("convert", EOS2, tmp_path / "x").exit_code == 2  # no layout
