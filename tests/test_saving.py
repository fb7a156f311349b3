"""Clip.save: the same ids when the folder is read again, or a refusal that leaves the folder as it was."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest

import cjkclip
from cjkclip.checkpoints import weights
from cjkclip.errors import InputError, LayoutError, LayoutWarning
from families import FAMILIES, GOLDEN

EOS2 = GOLDEN / "hf-clip-eos2"


def changed(folder: Path, name: str, change: dict[str, int]) -> Path:
    """The small CLIP with another tokenizer file in the place of all that it has."""
    shutil.copytree(EOS2, folder, ignore=shutil.ignore_patterns("images", "tokenizer.json", "*.h5", "*.msgpack"))
    vocab = json.loads((EOS2 / name).read_text("utf-8"))
    (folder / name).write_text(json.dumps(vocab | change), "utf-8")
    return folder


@pytest.mark.parametrize("layout", ["open_clip", "cjkclip", "transformers"])
def test_a_vocabulary_keeps_its_ids_or_is_refused(layout: str, tmp_path: Path) -> None:
    """open_clip's files hold merges alone: ids that do not follow from them have no place there."""
    vocab = json.loads((EOS2 / "vocab.json").read_text("utf-8"))
    swapped = {"a": vocab["b"], "b": vocab["a"]}
    for source in (GOLDEN / "koclip", changed(tmp_path / "swapped", "vocab.json", swapped)):
        clip, folder = cjkclip.load(source, engine="numpy"), tmp_path / source.name / layout
        if layout == "open_clip":
            with pytest.raises(
                LayoutError, match=f"'open_clip' cannot hold this model's vocabulary of {clip.config.text.vocab} ids"
            ):
                clip.save(folder, layout)
            assert not folder.exists()
        else:
            assert tokens(cjkclip.load(clip.save(folder, layout))) == tokens(clip)


def tokens(clip: cjkclip.Clip) -> list[list[int]]:
    return clip.tokenize(["a b ab", "두 마리 고양이", "ＳＴＯＰ", "don’t", "猫" + 150 * "a", "ς"]).ids.tolist()


RULES = {
    ("open-clip", "transformers"): "cleaning 'hf', not 'openai'",
    ("open-clip", "flax"): "cleaning 'hf', not 'openai'",
    ("hf-clip-eos2", "open_clip"): "cleaning 'openai', not 'hf'",
    ("hf-chinese-clip", "cn_clip"): "style 'cn_clip', not 'hf', max_chars 200, not 100",
    ("open-clip", "open_clip_custom"): "",
    ("open-clip", "cjkclip"): "",
    ("hf-clip-eos2", "flax"): "",
}


@pytest.mark.parametrize(("case", "layout"), RULES)
def test_other_rules_for_texts_are_told(case: str, layout: str, tmp_path: Path) -> None:
    """Where nothing is told, nothing is read in another way."""
    clip, why = cjkclip.load(GOLDEN / case, engine="numpy"), RULES[case, layout]
    if not why:
        assert tokens(cjkclip.load(clip.save(tmp_path, layout))) == tokens(clip)
        return
    with pytest.warns(LayoutWarning, match=f"layout '{layout}' tokenizes texts by its own rules .{why}"):
        clip.save(tmp_path, layout)
    facts = {"vision.heads": 4, "text.heads": 3} if layout == "cn_clip" else None
    assert tokens(cjkclip.load(tmp_path, facts=facts)) != tokens(clip)


def test_what_is_refused_leaves_the_model_that_is_there(tmp_path: Path) -> None:
    old = cjkclip.load(GOLDEN / "open-clip", engine="numpy")
    old.save(tmp_path, "open_clip")
    before: dict[str, Any] = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(LayoutError):
        cjkclip.load(GOLDEN / "koclip").save(tmp_path, "open_clip")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_weights_that_would_be_read_first_are_not_written_beside(tmp_path: Path) -> None:
    """Or else the older model would come back. Its own layout again, and one that is read first, have room."""
    old, new = (cjkclip.load(GOLDEN / case, engine="numpy") for case in ("hf-clip-eos2", "hf-clip-trueeos"))
    old.save(tmp_path, "transformers")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for layout in ("flax", "open_clip", "openai"):
        with pytest.raises(
            InputError,
            match=r"already contains model.safetensors; load\(\) would read that .* delete model.safetensors",
        ):
            new.save(tmp_path, layout)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    new.save(tmp_path, "transformers")
    assert cjkclip.load(tmp_path).fingerprint == new.fingerprint
    old.save(tmp_path / "two", "flax")
    new.save(tmp_path / "two", "cjkclip")
    assert cjkclip.load(tmp_path / "two").fingerprint == new.fingerprint
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "clip_cn.pt").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"already contains clip_cn\.pt"):
        new.save(tmp_path / "three", "openai")


def test_open_clips_weights_do_not_come_back(tmp_path: Path) -> None:
    """Our config.json names no model_type, as timm's, beside which open_clip's weights would be read first."""
    old, new = (cjkclip.load(GOLDEN / case, engine="numpy") for case in ("hf-clip-eos2", "hf-clip-trueeos"))
    with pytest.warns(LayoutWarning):
        old.save(tmp_path, "open_clip")
    new.save(tmp_path)
    again = cjkclip.load(tmp_path, engine="numpy")
    assert (again.fingerprint, tokens(again)) == (new.fingerprint, tokens(new))


def test_a_vocabulary_of_another_layout_is_not_left_to_be_read_first(tmp_path: Path) -> None:
    clip = next(case for case in FAMILIES if case.case == "cn-clip-vit").load()
    clip.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match=r"already contains tokenizer\.json of another model.*Use an empty directory"):
        clip.save(tmp_path, "transformers_chinese")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    clip.save(tmp_path)
    assert tokens(cjkclip.load(tmp_path)) == tokens(clip)


def test_a_constant_scale_is_not_lost(tmp_path: Path) -> None:
    text, image = GOLDEN / "hf-clip-gelu", GOLDEN / "hf-clip-vision-projection"
    clip = cjkclip.load(text, image_tower=image, facts={"scale": 100.0}, engine="numpy")
    with pytest.raises(LayoutError, match=r"'transformers' requires logit_scale, .* is a constant"):
        clip.save(tmp_path / "saved", "transformers")
    assert not (tmp_path / "saved").exists()
    assert cjkclip.load(clip.save(tmp_path / "saved")).logit_scale == 100.0


@pytest.mark.parametrize(
    ("case", "published"),
    [
        ("hf-chinese-clip", "transformers_chinese"),
        ("cn-clip-vit", "transformers_chinese"),
        ("hf-clip-text-projection", "transformers_text_projection"),
        ("hf-clip-v5-unprefixed-vision", "transformers_vision"),
        ("koclip", "transformers"),
        ("openai-vit", "transformers"),
    ],
)
def test_transformers_means_the_transformers_layout_of_the_model(case: str, published: str, tmp_path: Path) -> None:
    clip = next(each for each in FAMILIES if each.name == case).load()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LayoutWarning)
        one, two = (clip.save(tmp_path / layout, layout=layout) for layout in ("transformers", published))
    assert weights.read(one / "model.safetensors").keys() == weights.read(two / "model.safetensors").keys()
    again = cjkclip.load(one, engine="numpy")
    assert again.fingerprint == cjkclip.load(two, engine="numpy").fingerprint
    assert {n: a.tobytes() for n, a in again.params.items()} == {n: a.tobytes() for n, a in clip.params.items()}


@pytest.mark.parametrize(
    ("case", "layout", "fits"),
    [
        ("hf-chinese-clip", "openai", "cjkclip, cn_clip, cn_clip_flash, transformers_chinese"),
        ("openai-rn", "transformers", "cjkclip, open_clip, open_clip_custom, openai"),
        ("rinna-clip", "transformers", "cjkclip, rinna"),
    ],
)
def test_a_layout_that_does_not_fit_names_those_that_do(case: str, layout: str, fits: str, tmp_path: Path) -> None:
    clip = next(each for each in FAMILIES if each.name == case).load()
    with pytest.raises(LayoutError, match=f"Layouts that fit this model: {fits}$"):
        clip.save(tmp_path / "new", layout=layout)
    assert not (tmp_path / "new").exists()
