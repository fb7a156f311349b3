"""VisionTextDualEncoderModel, written here and now by transformers, in both of its namings."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import cjkclip
from cjkclip.checkpoints import weights
from cjkclip.errors import CheckpointError, FactsError, LayoutError
from cjkclip.text import Tokens
from families import ENGINES, GOLDEN
from support.dual import IDS, MASK, PIXELS, inputs, write
from support.peers import transformers

ATOL = 2e-6


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("naming", ["transformers_dual", "transformers_dual_bare"])
def test_features_equal_transformers(naming: str, engine: str, tmp_path: Path) -> None:
    image, text = write(tmp_path / "theirs")
    cjkclip.load(tmp_path / "theirs").save(tmp_path / "ours", layout=naming)
    clip = cjkclip.load(tmp_path / "ours", engine=engine)
    assert clip.family.name == "koclip"
    assert np.abs(clip.engine.image(PIXELS) - image).max() <= ATOL * np.abs(image).max()
    assert np.abs(clip.engine.text(IDS, MASK) - text).max() <= ATOL * np.abs(text).max()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_model_of_transformers_4(engine: str) -> None:
    """Written by transformers 4.57.6, whose names have the doubled prefix; so were its outputs."""
    folder = GOLDEN / "hf-dual-v4"
    clip, expected = cjkclip.load(folder, engine=engine), np.load(folder / "expected.npz")
    assert "vision_model.vision_model.post_layernorm.weight" in weights.read(folder / "model.safetensors")
    tokens = Tokens(ids=expected["input_ids"], mask=expected["attention_mask"], truncated=())
    assert np.abs(clip.encode_pixels(expected["pixel_values"]) - expected["image_embeds"]).max() <= ATOL
    assert np.abs(clip.encode_tokens(tokens) - expected["text_embeds"]).max() <= ATOL


def test_the_way_back_is_bit_identical_and_transformers_reads_it(tmp_path: Path) -> None:
    image, _ = write(tmp_path / "theirs")
    clip = cjkclip.load(tmp_path / "theirs")
    clip.save(tmp_path / "bare", layout="transformers_dual_bare")
    theirs, ours = (weights.read(tmp_path / side / "model.safetensors") for side in ("theirs", "bare"))
    assert set(theirs) == set(ours)
    for name in theirs:
        assert theirs[name].tobytes() == ours[name].tobytes(), name
    for naming in ("transformers_dual", "transformers_dual_bare"):
        clip.save(tmp_path / naming, layout=naming)
        again = transformers().VisionTextDualEncoderModel.from_pretrained(tmp_path / naming).eval()
        with torch.no_grad():
            got = again.get_image_features(torch.tensor(PIXELS)).pooler_output.numpy()
        np.testing.assert_array_equal(got, image)


def test_names_alone_do_not_tell_a_dual_encoder_from_fengshens_class() -> None:
    assert cjkclip.load(GOLDEN / "taiyi-clip-model").family.name == "taiyi"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("vision", ["clip", "vit"])
@pytest.mark.parametrize("text", ["bert", "roberta", "xlmr"])
def test_every_pair_of_towers(text: str, vision: str, engine: str, tmp_path: Path) -> None:
    image, features = write(tmp_path / "theirs", text, vision)
    clip = cjkclip.load(tmp_path / "theirs", engine=engine)
    got = clip.engine.image(PIXELS), clip.engine.text(*inputs(text))
    for ours, theirs in zip(got, (image, features), strict=True):
        assert np.abs(ours - theirs).max() <= ATOL * max(1.0, float(np.abs(theirs).max()))


@pytest.mark.parametrize("vision", ["clip", "vit"])
@pytest.mark.parametrize("text", ["bert", "roberta", "xlmr"])
def test_every_pair_is_written_back_and_transformers_reads_it(text: str, vision: str, tmp_path: Path) -> None:
    image, features = write(tmp_path / "theirs", text, vision)
    clip = cjkclip.load(tmp_path / "theirs")
    clip.save(tmp_path / "ours", layout="transformers")
    assert cjkclip.load(tmp_path / "ours").config == cjkclip.load(clip.save(tmp_path / "own")).config == clip.config
    assert cjkclip.load(tmp_path / "own").fingerprint == clip.fingerprint
    bare = clip.save(tmp_path / "bare", layout="transformers_dual_vit" if vision == "vit" else "transformers_dual_bare")
    theirs, ours = (weights.read(folder / "model.safetensors") for folder in (tmp_path / "theirs", bare))
    assert {n: a.tobytes() for n, a in theirs.items()} == {n: a.tobytes() for n, a in ours.items()}
    again = transformers().VisionTextDualEncoderModel.from_pretrained(tmp_path / "ours").eval()
    ids, mask = map(torch.tensor, inputs(text))
    with torch.no_grad():
        np.testing.assert_array_equal(again.get_image_features(torch.tensor(PIXELS)).pooler_output.numpy(), image)
        np.testing.assert_array_equal(again.get_text_features(ids, attention_mask=mask).pooler_output.numpy(), features)


@pytest.mark.parametrize(("text", "image"), [("ernie", "clip"), ("bert", "deit")])
def test_another_tower_is_refused_by_name(text: str, image: str, tmp_path: Path) -> None:
    write(tmp_path, text, image)
    with pytest.raises(CheckpointError, match=f"{text if image == 'clip' else image}"):
        cjkclip.load(tmp_path)


@pytest.mark.parametrize("option", [{"qkv_bias": False}, {"num_channels": 1}, {"pooler_output_size": 5}])
def test_an_option_of_the_vit_that_changes_the_arithmetic_is_refused(option: dict[str, int], tmp_path: Path) -> None:
    write(tmp_path, "bert", "vit")
    config = json.loads((tmp_path / "config.json").read_text("utf-8"))
    config["vision_config"] |= option
    (tmp_path / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(FactsError, match=next(iter(option))):
        cjkclip.load(tmp_path)


def test_a_roberta_fits_no_layout_whose_positions_count_from_0(tmp_path: Path) -> None:
    write(tmp_path / "theirs", "roberta", "vit")
    clip = cjkclip.load(tmp_path / "theirs", facts={"text.head": "project"})
    with pytest.raises(LayoutError, match=r"Layouts that fit this model|needs transformers' ViT and a BERT"):
        clip.save(tmp_path / "rinna", layout="rinna")


def test_a_model_that_projects_its_first_token_is_refused(tmp_path: Path) -> None:
    clip = cjkclip.load(GOLDEN / "hf-chinese-clip")
    with pytest.raises(LayoutError, match="this text tower has head 'project'"):
        clip.save(tmp_path / "out", layout="transformers_dual")
