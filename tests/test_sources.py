"""Traps of single families: two sources, an end token in the wrong place, a scale that is no parameter."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import cjkclip
from cjkclip.checkpoints import weights
from cjkclip.config import Text
from cjkclip.errors import FactsError, LayoutError
from families import FAMILIES, GOLDEN

TAIYI = GOLDEN / "taiyi-pooler-gelu"
CASES = {case.case: case for case in FAMILIES}


def test_a_retrained_tokenizer_whose_end_token_is_not_the_last_is_detected() -> None:
    """The peer pools an ordinary word there; the error names the facts that read the end of the text instead."""
    folder = GOLDEN / "koclip-naive-eos1"
    with pytest.raises(
        FactsError, match=r"id .799., but the end token is id 1, .*\"text\.pool\": \"first-eot\", \"text\.eot\": 1"
    ):
        cjkclip.load(folder, family="koclip")
    stated = {"text.pool": "first-eot", "text.eot": 1}
    clip = cjkclip.load(folder, family="koclip", engine="numpy", facts=stated)
    with np.load(folder / "expected.npz") as expected:
        ids, eos = expected["input_ids"], expected["eos_position"]
        stages = clip.engine.text_stages(ids, expected["attention_mask"])
    # unknown bytes are the end token's id too, so the first of them is read: never later than the closing one
    rows = (ids == 1).argmax(axis=1)
    assert (rows <= eos).all()
    np.testing.assert_array_equal(stages["text_pooled"], stages["text_final"][np.arange(len(ids)), rows])


def test_the_facts_of_the_message_can_be_pasted() -> None:
    file = GOLDEN / "openai-vit" / "model.pt"
    with pytest.raises(
        FactsError, match=r"does not say vision\.heads \(int\), vision\.act \(one of \['quick_gelu'"
    ) as caught:
        cjkclip.load(file)
    facts = json.loads(str(caught.value).partition("load(..., facts=")[2].removesuffix(")"))
    assert facts == {"vision.heads": 1, "vision.act": "quick_gelu", "text.heads": 1, "text.act": "quick_gelu"}
    assert cjkclip.load(file, facts=facts, engine="numpy").config.vision is not None


def test_an_end_token_that_no_text_has_is_detected(tmp_path: Path) -> None:
    """By the default of a config without `eos_token_id`, each text is read at its start: all get one vector."""
    folder = Path(shutil.copytree(GOLDEN / "koclip-naive-eos1", tmp_path / "m"))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    del config["text_config"]["eos_token_id"]
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    why = r"first token id 49407, but the end token is id 1, .*.text\.eot.: 1\}"
    with pytest.raises(FactsError, match=why):
        cjkclip.load(folder, family="koclip", engine="numpy")
    clip = cjkclip.load(folder, family="koclip", engine="numpy", facts={"text.eot": 1})
    assert isinstance(clip.config.text, Text)
    assert (clip.config.text.pool, clip.config.text.eot) == ("first-eot", 1)


def test_a_text_tower_alone_encodes_texts_and_no_pictures() -> None:
    clip = cjkclip.load(TAIYI / "text", engine="numpy")
    assert clip.encode_text(["一只猫"]).shape == (1, 32)
    with pytest.raises(cjkclip.errors.InputError, match="no image tower"):
        clip.encode_pixels(np.zeros((1, 3, 32, 32), np.float32))


def test_an_image_tower_of_another_width_is_refused() -> None:
    with pytest.raises(LayoutError, match="no image tower"):
        cjkclip.load(TAIYI / "text", image_tower=GOLDEN / "taiyi-pooler-gelu" / "text")
    text = CASES["hf-clip-text-projection"]
    with pytest.raises(LayoutError, match="no image tower"):
        cjkclip.load(TAIYI / "text", image_tower=text.folder)


def test_the_scale_is_that_of_the_image_checkpoint() -> None:
    case = CASES["taiyi-pooler-gelu"]
    assert case.load().logit_scale == pytest.approx(float(case.expected()["logit_scale_exp"]), rel=1e-6)


def rescaled(case: str, folder: Path, logarithm: float) -> Path:
    """A copy of a checkpoint with another logit_scale."""
    made = Path(shutil.copytree(GOLDEN / case, folder))
    tensors = dict(weights.read(made / "model.safetensors"))
    weights.write(made / "model.safetensors", tensors | {"logit_scale": np.array(logarithm, np.float32)})
    return made


def test_two_whole_checkpoints_are_joined_at_the_image_ones_scale(tmp_path: Path) -> None:
    text, image = (rescaled("hf-clip-gelu", tmp_path / str(n), n) for n in (1.0, 4.0))
    clip = cjkclip.load(text, image_tower=image, engine="numpy")
    assert clip.logit_scale == pytest.approx(np.exp(4.0))
    assert cjkclip.load(clip.save(tmp_path / "saved"), engine="numpy").logit_scale == clip.logit_scale


def test_a_text_checkpoint_may_hold_more_than_its_tower() -> None:
    """A scale beside an image source without one, or a pooler that the text is read without."""
    cloob = cjkclip.load(GOLDEN / "rinna-clip", image_tower=GOLDEN / "rinna-cloob", engine="numpy")
    assert cloob.logit_scale == 30.0
    assert "logit_scale" not in cloob.params
    whole = GOLDEN / "taiyi-clip-model"
    clip = cjkclip.load(whole, image_tower=whole, engine="numpy", facts={"text.head": "project"})
    assert clip.fingerprint == CASES["taiyi-clip-model"].load().fingerprint


def test_whole_numbers_in_place_of_a_weight_are_refused(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN / "hf-clip-gelu", tmp_path / "m"))
    tensors = dict(weights.read(folder / "model.safetensors"))
    name = "text_model.encoder.layers.0.mlp.fc1.weight"
    weights.write(folder / "model.safetensors", tensors | {name: (tensors[name] * 127).astype(np.int8)})
    with pytest.raises(LayoutError, match=r"text\.blocks\.0\.mlp\.fc1\.weight has type int8, expected floats"):
        cjkclip.load(folder, engine="numpy")


@pytest.mark.filterwarnings("ignore::cjkclip.errors.LayoutWarning")
@pytest.mark.parametrize("layout", ["cjkclip", "transformers", "flax"])
def test_a_scale_in_a_list_of_one_is_saved_as_other_packages_read_it(layout: str, tmp_path: Path) -> None:
    """transformers refuses the shape (1,) that some files of open_clip have."""
    folder = Path(shutil.copytree(GOLDEN / "open-clip", tmp_path / "m"))
    tensors = dict(weights.read(folder / "open_clip_model.safetensors"))
    weights.write(folder / "open_clip_model.safetensors", tensors | {"logit_scale": tensors["logit_scale"].reshape(1)})
    clip = cjkclip.load(folder, engine="numpy")
    assert clip.logit_scale == CASES["open-clip"].load().logit_scale
    saved = weights.read(weights.find(clip.save(tmp_path / "saved", layout)))
    assert saved["logit_scale"].shape == ()


@pytest.mark.parametrize(
    ("text", "image"),
    [("hf-clip-gelu", "hf-clip-gelu"), ("taiyi-pooler-gelu/text", "taiyi-pooler-gelu/image")],
)
def test_facts_of_pictures_are_those_of_the_image_source(text: str, image: str) -> None:
    facts = {"image.alpha": "drop", "image.crop": "half-even"}
    clip = cjkclip.load(GOLDEN / text, image_tower=GOLDEN / image, engine="numpy", facts=facts)
    assert clip.config.image is not None
    assert (clip.config.image.alpha, clip.config.image.crop) == ("drop", "half-even")


def test_a_stated_scale_is_that_of_the_image_source() -> None:
    cloob, whole = GOLDEN / "rinna-cloob", GOLDEN / "hf-clip-gelu"
    assert cjkclip.load(cloob, image_tower=cloob, engine="numpy", facts={"scale": 50.0}).logit_scale == 50.0
    with pytest.raises(LayoutError, match=r"has 1 that the config does not need \(logit_scale\)"):
        cjkclip.load(whole, image_tower=whole, engine="numpy", facts={"scale": 50.0})  # as without image_tower


def test_an_image_source_without_a_scale_asks_for_one() -> None:
    """The text file's own was learnt beside other pictures."""
    text, image = GOLDEN / "hf-clip-gelu", GOLDEN / "hf-clip-vision-projection"
    with pytest.raises(FactsError, match=r"has no logit_scale.*facts=\{.scale.: 100\.0\}"):
        cjkclip.load(text, image_tower=image)
    assert cjkclip.load(text, image_tower=image, engine="numpy", facts={"scale": 100.0}).logit_scale == 100.0


def test_cloob_has_a_scale_that_is_a_fact() -> None:
    clip = CASES["rinna-cloob"].load()
    assert clip.config.scale == clip.logit_scale == 30.0
    assert "logit_scale" not in clip.params


def test_a_clip_of_rinnas_without_its_scale_is_no_cloob(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(GOLDEN / "rinna-clip-bert", tmp_path / "m"))
    tensors = dict(weights.read(folder / "model.safetensors"))
    del tensors["logit_scale"]
    weights.write(folder / "model.safetensors", tensors)
    with pytest.raises(LayoutError, match=r"1 parameters that the file lacks \(logit_scale\)"):
        cjkclip.load(folder, engine="numpy")


def test_pads_are_masked_and_card_parity_is_a_mask_of_ones() -> None:
    """The model cards pass no mask, so that a text's feature depends on its neighbours'; that can be had, knowingly."""
    case = CASES["taiyi-pooler"]
    clip, expected = case.load(), case.expected()
    ids = expected["input_ids"].astype(np.int64)
    open_mask = cjkclip.Tokens(ids=ids, mask=np.ones_like(ids), truncated=())
    card = clip.encode_tokens(open_mask, normalize=False)
    np.testing.assert_allclose(card, expected["text_features_nomask"], atol=2e-6)
    assert np.abs(card - expected["text_features"]).max() > 1e-3


def test_fengshens_model_pools_in_two_ways() -> None:
    case = CASES["taiyi-clip-model"]
    clip = cjkclip.load(case.folder, engine="numpy")  # as its forward does, which training used
    with np.load(case.folder / "expected.npz") as expected:
        ids, mask = (expected[name].astype(np.int64) for name in ("input_ids", "attention_mask"))
        tokens = cjkclip.Tokens(ids=ids, mask=mask, truncated=())
        np.testing.assert_allclose(clip.encode_tokens(tokens), expected["forward_text_embeds"], atol=2e-6)


def test_a_stripped_file_that_still_has_a_pooler_loads(tmp_path: Path) -> None:
    case = CASES["cn-clip-vit"]
    tensors = {n.removeprefix("module."): array for n, array in weights.read(case.folder / "model.pt").items()}
    assert "bert.pooler.dense.weight" in tensors
    weights.write(tmp_path / "model.safetensors", tensors)
    clip = cjkclip.load(tmp_path / "model.safetensors", engine="numpy", facts=case.facts)
    assert clip.fingerprint == case.load().fingerprint


def test_a_whole_file_gives_single_towers(tmp_path: Path) -> None:
    source = GOLDEN / "hf-clip-gelu"
    whole = cjkclip.load(source, engine="numpy")
    folder = Path(shutil.copytree(source, tmp_path / "m"))
    taken = {n: a for n, a in weights.read(folder / "model.safetensors").items() if n.startswith("vision_model.")}
    weights.write(folder / "model.safetensors", taken)
    tower = cjkclip.load(folder, engine="numpy")
    assert tower.config.text is None
    pixels = np.zeros((1, 3, 32, 32), np.float32)
    np.testing.assert_array_equal(tower.engine.image(pixels), whole.engine.image_stages(pixels)["image_pooled"])


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_open_clips_model_is_read_beside_timms_image_encoder(name: str, tmp_path: Path) -> None:
    """timm publishes it so: its own config.json and weights contain only the image encoder."""
    folder = Path(shutil.copytree(GOLDEN / "open-clip", tmp_path / "m"))
    weights.write(folder / name, {"stem.conv1.weight": np.zeros((8, 3, 3, 3), np.float32)})
    (folder / "config.json").write_text(json.dumps({"architecture": "resnet50_clip", "num_classes": 0}), "utf-8")
    assert cjkclip.load(folder, engine="numpy").fingerprint == CASES["open-clip"].load().fingerprint


def test_transformers_model_is_read_beside_open_clips(tmp_path: Path) -> None:
    """LAION publishes it so. Only a config.json without a model type is timm's."""
    folder = Path(shutil.copytree(GOLDEN / "hf-clip-gelu", tmp_path / "m"))
    shutil.copy(GOLDEN / "open-clip/open_clip_config.json", folder)
    shutil.copy(GOLDEN / "open-clip/open_clip_model.safetensors", folder)
    assert weights.find(folder).name == "model.safetensors"
    (folder / "config.json").write_text("<html>", "utf-8")
    assert weights.find(folder).name == "model.safetensors"
    (folder / "config.json").unlink()
    assert weights.find(folder).name == "model.safetensors"
