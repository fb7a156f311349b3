"""Another image size (interpolated positions) and another text length, as the original packages do them."""

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import cjkclip
from cjkclip.checkpoints import weights
from cjkclip.checkpoints.positions import resized
from cjkclip.errors import FactsError, InputError, TextError
from families import ENGINES, FAMILIES, GOLDEN, Case
from support.peers import cn_clip, open_clip, transformers

ATOL = 2e-6
RNG = np.random.default_rng(11)
PIXELS = RNG.normal(size=(3, 3, 64, 64)).astype(np.float32)
WAYS: dict[Any, dict[str, bool]] = {
    "half-pixel": {"align_corners": False},
    "align-corners": {"align_corners": True},
    "antialias": {"align_corners": False, "antialias": True},
}
WITH_IMAGES = [case for case in FAMILIES if case.towers != "text" and not case.form]


def case_named(name: str) -> Case:
    return next(case for case in FAMILIES if case.name == name)


def load(case: Case, **options: Any) -> cjkclip.Clip:
    path = case.folder / case.weights if case.facts or case.image else case.folder
    tower = {"image_tower": case.folder / case.image} if case.image else {}
    return cjkclip.load(path, facts=case.facts, **tower, **case.asked, **options)


def assert_close(got: np.ndarray, want: np.ndarray) -> None:
    assert np.abs(got - want).max() <= ATOL * max(1.0, float(np.abs(want).max()))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("old", [1, 2, 7, 14])
@pytest.mark.parametrize("new", [1, 3, 7, 16, 24])
def test_a_table_is_resized_as_torch_does(old: int, new: int, way: Any) -> None:
    table = RNG.normal(size=(1 + old * old, 5)).astype(np.float32)
    grid = torch.tensor(table[1:]).reshape(1, old, old, -1).permute(0, 3, 1, 2)
    want = F.interpolate(grid, size=(new, new), mode="bicubic", **WAYS[way])[0].permute(1, 2, 0).reshape(new * new, -1)
    got = resized(table, new, way)
    np.testing.assert_array_equal(got[0], table[0])
    np.testing.assert_allclose(got[1:], want.numpy(), atol=5e-6)


def by_transformers(folder: Path) -> np.ndarray:
    model = transformers().CLIPModel.from_pretrained(folder).eval()
    return model.get_image_features(torch.tensor(PIXELS), interpolate_pos_encoding=True).pooler_output.numpy()


def by_chinese_clip(folder: Path) -> np.ndarray:
    model = transformers().ChineseCLIPModel.from_pretrained(folder).eval()
    return model.get_image_features(torch.tensor(PIXELS), interpolate_pos_encoding=True).pooler_output.numpy()


def by_open_clip(folder: Path) -> np.ndarray:
    record = weights.read(folder / "open_clip_model.safetensors")
    state = {name: torch.tensor(np.array(array)) for name, array in record.items()}
    vision = {"image_size": 64, "layers": 2, "width": 32, "head_width": 8, "patch_size": 8}
    text = {"context_length": 77, "vocab_size": 724, "width": 24, "heads": 3, "layers": 2}
    model = open_clip().CLIP(32, vision, text, quick_gelu=True).eval()
    importlib.import_module("open_clip.model").resize_pos_embed(state, model)
    model.load_state_dict(state)
    return model.encode_image(torch.tensor(PIXELS)).numpy()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("name", "original"),
    [("hf-clip-eos2", by_transformers), ("hf-chinese-clip", by_chinese_clip), ("open-clip", by_open_clip)],
)
def test_another_size_gives_the_originals_features(name: str, original: Any, engine: str) -> None:
    with torch.no_grad():
        want = original(GOLDEN / name)
    assert_close(load(case_named(name), engine=engine, image_size=64).encode_pixels(PIXELS, normalize=False), want)


def test_cn_clips_positions_are_those_of_its_own_function() -> None:
    case = case_named("cn-clip-vit")
    cn_clip()
    published = weights.read(case.folder / case.weights)
    state = {"visual.positional_embedding": torch.tensor(np.array(published["module.visual.positional_embedding"]))}
    grid = SimpleNamespace(visual=SimpleNamespace(grid_size=(8, 8)))
    importlib.import_module("cn_clip.clip.model").resize_pos_embed(state, grid)
    got = load(case, engine="numpy", image_size=64).params["vision.position.weight"]
    np.testing.assert_allclose(got, state["visual.positional_embedding"].numpy(), atol=5e-6)


@pytest.mark.parametrize("case", WITH_IMAGES, ids=lambda case: case.name)
def test_every_family_takes_another_size_and_keeps_it_when_saved(case: Case, tmp_path: Path) -> None:
    vision = load(case, engine="numpy").config.vision
    assert vision is not None
    size = 2 * vision.image_size
    images = [RNG.integers(0, 256, (50, 70, 3), dtype=np.uint8)]
    one, *others = (load(case, engine=engine, image_size=size) for engine in ENGINES)
    assert one.preprocess(images).shape == (1, 3, size, size) if one.config.image else True
    pixels = RNG.normal(size=(2, 3, size, size)).astype(np.float32)
    features = one.encode_pixels(pixels)
    for other in others:
        np.testing.assert_allclose(other.encode_pixels(pixels), features, atol=1e-5)
    again = cjkclip.load(one.save(tmp_path / "new"), engine="numpy")
    np.testing.assert_array_equal(again.encode_pixels(pixels), features)


def test_the_models_own_size_changes_nothing() -> None:
    case = case_named("hf-clip-eos2")
    assert load(case, engine="numpy", image_size=32).fingerprint == case.load().fingerprint


@pytest.mark.parametrize("size", [33, 0, -8, 5000])
def test_a_size_that_is_no_multiple_of_the_patches_is_refused(size: int) -> None:
    with pytest.raises(
        FactsError, match=rf"image_size={size}, expected a multiple of 8 .* load\(..., image_size=\d+\)"
    ):
        load(case_named("hf-clip-eos2"), image_size=size)


def test_a_model_without_images_has_no_size() -> None:
    with pytest.raises(FactsError, match="image_size=64, but this checkpoint has no image tower"):
        load(case_named("hf-clip-text-projection"), image_size=64)


LONG = "猫" * 70 + "狗"


def test_a_longer_text_is_read_up_to_the_position_table() -> None:
    """Chinese-CLIP was trained with 52 ids; its tower has more positions."""
    case = case_named("hf-chinese-clip")
    with pytest.warns(cjkclip.errors.TruncatedTextWarning):
        short = case.load().encode_text([LONG, LONG[:-1]])
    np.testing.assert_array_equal(short[0], short[1])
    stated = load(case, engine="numpy", context=96)
    at_load, per_call = stated.encode_text([LONG, LONG[:-1]]), case.load().encode_text([LONG, LONG[:-1]], context=96)
    np.testing.assert_array_equal(at_load, per_call)
    assert np.abs(at_load[0] - at_load[1]).max() > 1e-4
    peer = transformers().AutoTokenizer.from_pretrained(GOLDEN / "hf-chinese-clip")
    ids = stated.tokenize([LONG])
    assert peer(LONG)["input_ids"] == ids.ids[0][ids.mask[0] == 1].tolist()


@pytest.mark.parametrize("name", ["hf-chinese-clip", "hf-clip-eos2", "rinna-clip", "moji"])
def test_a_shorter_context_is_kept_when_the_model_is_saved(name: str, tmp_path: Path) -> None:
    clip = load(case_named(name), engine="numpy", context=8)
    again = cjkclip.load(clip.save(tmp_path / "short"), engine="numpy")
    assert again.tokenize(["a cat"]).ids.shape == clip.tokenize(["a cat"]).ids.shape == (1, 8)


@pytest.mark.parametrize("context", [0, 2, 97, -1])
def test_a_context_beyond_the_table_is_refused(context: int) -> None:
    case = case_named("hf-chinese-clip")
    with pytest.raises(InputError, match="expected 3 to 96 ids per text"):
        load(case, context=context)
    with pytest.raises(InputError, match="expected 3 to 96 ids per text"):
        case.load().tokenize(["猫"], context=context)


def test_a_text_that_is_too_long_for_the_stated_context_is_an_error_on_request() -> None:
    with pytest.raises(TextError, match="longer than 8 tokens"):
        case_named("hf-chinese-clip").load().encode_text([LONG], context=8, truncate="error")


def test_a_model_without_texts_has_no_context() -> None:
    with pytest.raises(FactsError, match="context=9, but this checkpoint has no texts to read"):
        load(case_named("hf-clip-vision-projection"), context=9)
