"""open_clip_config.json in every form that open_clip reads: each gives open_clip's own numbers and pixels."""

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

import cjkclip
from cjkclip.checkpoints import weights
from cjkclip.errors import FactsError, LayoutError
from families import ENGINES, GOLDEN
from support.peers import open_clip

ATOL = 2e-6
RNG = np.random.default_rng(7)
VISION: dict[str, Any] = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16}
TEXT: dict[str, Any] = {"context_length": 12, "vocab_size": 60, "width": 64, "layers": 2, "heads": 8}
EOS = {"pool_type": "eos", "eos_id": 59}
IDLE = {
    "patch_dropout": 0.0,
    "pool_type": "tok",
    "attentional_pool": False,
    "ls_init_value": None,
    "output_tokens": False,
}


def write(folder: Path, vision: dict[str, Any], text: dict[str, Any], **model: Any) -> tuple[np.ndarray, ...]:
    """Write a random model of open_clip, and return ids, pixels and its features of both."""
    whole = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": text} | model
    torch.manual_seed(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer's own deprecations are not ours
        peer = open_clip().CLIP(**{name: value for name, value in whole.items() if name != "custom_text"}).eval()
    with torch.no_grad():
        for tensor in peer.parameters():
            tensor.normal_(0, 0.2)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.numpy() for name, tensor in peer.state_dict().items() if "attn_mask" not in name}
    weights.write(folder / "open_clip_model.safetensors", tensors)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": whole, "preprocess_cfg": {}}))
    side = peer.visual.image_size[0]
    pixels = RNG.normal(size=(3, 3, side, side)).astype(np.float32)
    ids = RNG.integers(0, 59, (3, text.get("context_length", 77)))
    ids[np.arange(3), [3, 11, 5]] = 59
    if EOS.items() <= text.items():
        ids[:, 0] = 57
        ids[0, 7] = 59  # a second end token after the first
    with torch.no_grad():
        image, texts = peer.encode_image(torch.tensor(pixels)), peer.encode_text(torch.tensor(ids))
    return ids, pixels, image.numpy(), texts.numpy()


FORMS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "default head width and mlp": (VISION, TEXT, {}),
    "two sides": (VISION | {"image_size": [32, 32]}, TEXT, {}),
    "options at their defaults": (VISION | IDLE, TEXT | {"pool_type": "argmax", "proj_bias": False}, {}),
    "initial scale": (VISION, TEXT, {"init_logit_scale": 2.0, "quick_gelu": True}),
    "no first norm, other eps": (
        VISION | {"no_ln_pre": True, "norm_kwargs": {"eps": 1e-3}},
        TEXT | {"norm_kwargs": {"eps": 1e-2}},
        {},
    ),
    "eos pooling": (VISION, TEXT | EOS, {}),
    "left-out sizes": ({"width": 64, "image_size": 32}, {"vocab_size": 60, "layers": 1}, {}),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_config_gives_open_clips_numbers(form: str, engine: str, tmp_path: Path) -> None:
    vision, text, model = FORMS[form]
    ids, pixels, image, texts = write(tmp_path, vision, text, **model)
    clip = cjkclip.load(tmp_path, engine=engine)
    for got, want in ((clip.engine.image(pixels), image), (clip.engine.text(ids, np.ones_like(ids)), texts)):
        assert np.abs(got - want).max() <= ATOL * max(1.0, float(np.abs(want).max()))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_saved_and_read_back(form: str, tmp_path: Path) -> None:
    vision, text, model = FORMS[form]
    write(tmp_path, vision, text, **model)
    clip = cjkclip.load(tmp_path, engine="numpy")
    assert cjkclip.load(clip.save(tmp_path / "again", layout="open_clip")).config == clip.config


def changed(folder: Path, part: str, value: Any) -> Path:
    """Copy the golden directory of open_clip with one part of its config replaced."""
    shutil.copytree(GOLDEN / "open-clip", folder)
    record = json.loads((folder / "open_clip_config.json").read_text("utf-8"))
    (folder / "open_clip_config.json").write_text(json.dumps(record | {part: value}), "utf-8")
    return folder


def test_a_bare_model_config_is_read(tmp_path: Path) -> None:
    config = json.loads((GOLDEN / "open-clip/open_clip_config.json").read_text("utf-8"))
    folder = changed(tmp_path / "bare", "preprocess_cfg", {})
    (folder / "open_clip_config.json").write_text(json.dumps(config["model_cfg"]), "utf-8")
    assert cjkclip.load(folder).config.vision == cjkclip.load(GOLDEN / "open-clip").config.vision


PIXELS = (
    {"resize_mode": "squash"},
    {"interpolation": "bilinear"},
    {"resize_mode": "squash", "interpolation": "bilinear", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
    {"interpolation": "random", "fill_color": 7, "mode": "RGB", "size": [99, 99]},
    {"mean": None, "std": None, "interpolation": None, "resize_mode": None},
)


@pytest.mark.parametrize("cfg", PIXELS, ids=str)
@pytest.mark.parametrize("size", [(90, 40), (33, 77), (32, 32), (20, 11)])
def test_preprocessing_gives_open_clips_pixels(cfg: dict[str, Any], size: tuple[int, int], tmp_path: Path) -> None:
    clip = cjkclip.load(changed(tmp_path / "model", "preprocess_cfg", cfg), engine="numpy")
    assert clip.config.image is not None
    image = PIL.Image.fromarray(RNG.integers(0, 256, (*size[::-1], 3), dtype=np.uint8))
    named = {name: value for name, value in cfg.items() if name in ("mean", "std", "interpolation", "resize_mode")}
    peer = open_clip().image_transform(clip.config.image.size, is_train=False, **named)
    np.testing.assert_array_equal(clip.preprocess([image], published=True)[0], peer(image).numpy())
    again = cjkclip.load(clip.save(tmp_path / "again", layout="open_clip"))
    assert again.config.image == clip.config.image


@pytest.mark.parametrize(
    ("part", "value", "why"),
    [
        ("preprocess_cfg", {"resize_mode": "longest"}, "resize_mode 'longest', expected one of"),
        ("preprocess_cfg", {"mode": "L"}, "preprocess_cfg has unsupported options {'mode': 'L'}"),
        ("model_cfg", {"embed_dim": 16, "init_logit_bias": -10}, "unsupported options {'init_logit_bias': -10}"),
        ("model_cfg", {"embed_dim": 16, "vision_cfg": {"pool_type": "avg"}}, "options {'pool_type': 'avg'}"),
        ("model_cfg", {"embed_dim": 16, "vision_cfg": {"ls_init_value": 1e-4}}, "options {'ls_init_value': 0.0001}"),
        ("model_cfg", {"embed_dim": 16, "vision_cfg": {"norm_kwargs": {"bias": False}}}, "unsupported norm_kwargs"),
        ("model_cfg", {"embed_dim": 16, "text_cfg": {"pool_type": "last"}}, "pool_type 'last', expected one of"),
        ("model_cfg", {"embed_dim": 16, "text_cfg": {"hf_model_name": "xlm-roberta-base"}}, "hf_model_name"),
    ],
)
def test_an_option_that_changes_the_numbers_is_refused_by_its_value(
    part: str, value: Any, why: str, tmp_path: Path
) -> None:
    with pytest.raises(FactsError, match=why):
        cjkclip.load(changed(tmp_path / "model", part, value))


def test_a_size_that_is_no_square_is_refused(tmp_path: Path) -> None:
    config = json.loads((GOLDEN / "open-clip/open_clip_config.json").read_text("utf-8"))["model_cfg"]
    config["vision_cfg"]["image_size"] = [32, 64]
    with pytest.raises(FactsError, match=r"size \[32, 64\] is not supported, expected a square"):
        cjkclip.load(changed(tmp_path / "model", "model_cfg", config))


def test_a_model_with_two_activations_does_not_fit_open_clip(tmp_path: Path) -> None:
    clip = cjkclip.load(GOLDEN / "open-clip", facts={"vision.act": "gelu", "text.act": "quick_gelu"})
    with pytest.raises(LayoutError, match="one activation and two projections"):
        clip.save(tmp_path / "model", layout="open_clip")
