"""Models written here and now by the installed peers, both end-of-text rules, ViT and RN, and ours read by the peers.

The golden cases pin the peers' numbers for ever; these tests see whether today's peers still write what we read.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cjkclip
from cjkclip.checkpoints import weights
from cjkclip.checkpoints.families import find_release
from cjkclip.errors import FactsError
from families import ENGINES, FAMILIES, GOLDEN
from support.peers import CN_SIZES, load_cn_clip, open_clip, transformers

ATOL = 2e-6
RNG = np.random.default_rng(3)
PIXELS = RNG.normal(size=(3, 3, 64, 64)).astype(np.float32)


def assert_equal_features(clip: cjkclip.Clip, ids: np.ndarray, image: np.ndarray, text: np.ndarray) -> None:
    for got, want in ((clip.engine.image(PIXELS), image), (clip.engine.text(ids, np.ones_like(ids)), text)):
        assert np.abs(got - want).max() <= ATOL * max(1.0, float(np.abs(want).max()))


def write_transformers(folder: Path, act: str, eos: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A random CLIPModel as transformers saves it; the ids it was asked, and its features."""
    peer = transformers()
    torch.manual_seed(eos)
    shared = {"hidden_act": act, "num_hidden_layers": 2, "projection_dim": 20}
    text = shared | {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 2, "vocab_size": 60}
    text |= {"max_position_embeddings": 12, "eos_token_id": eos, "bos_token_id": 58, "pad_token_id": 1}
    vision = shared | {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4}
    vision |= {"image_size": 64, "patch_size": 16}
    model = peer.CLIPModel(peer.CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
    model.save_pretrained(folder)
    ids = RNG.integers(3, 57, (4, 12))
    ids[np.arange(4), [3, 11, 5, 1]] = 59
    ids[2, 8] = 59  # a second end token after the first
    with torch.no_grad():
        image = model.get_image_features(torch.tensor(PIXELS)).pooler_output.numpy()
        features = model.get_text_features(torch.tensor(ids)).pooler_output.numpy()
    return ids, image, features


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("act", "eos"), [("quick_gelu", 2), ("quick_gelu", 59), ("gelu", 59)])
def test_a_transformers_model(act: str, eos: int, engine: str, tmp_path: Path) -> None:
    ids, image, text = write_transformers(tmp_path, act, eos)
    clip = cjkclip.load(tmp_path, engine=engine)
    assert clip.config.text is not None
    assert clip.config.text.pool == ("largest-id" if eos == 2 else "first-eot")
    assert_equal_features(clip, ids, image, text)


def test_saving_a_transformers_model_back_is_bit_identical(tmp_path: Path) -> None:
    write_transformers(tmp_path / "theirs", "gelu", 59)
    cjkclip.load(tmp_path / "theirs").save(tmp_path / "ours", layout="transformers")
    theirs, ours = (weights.read(tmp_path / side / "model.safetensors") for side in ("theirs", "ours"))
    assert set(theirs) == set(ours)
    for name in theirs:
        assert theirs[name].tobytes() == ours[name].tobytes(), name


def test_transformers_reads_what_we_save(tmp_path: Path) -> None:
    ids, image, text = write_transformers(tmp_path / "theirs", "quick_gelu", 59)
    cjkclip.load(tmp_path / "theirs").save(tmp_path / "ours", layout="transformers")
    again = transformers().CLIPModel.from_pretrained(tmp_path / "ours").eval()
    with torch.no_grad():
        np.testing.assert_array_equal(again.get_image_features(torch.tensor(PIXELS)).pooler_output.numpy(), image)
        np.testing.assert_array_equal(again.get_text_features(torch.tensor(ids)).pooler_output.numpy(), text)


TEXT = {"context_length": 12, "vocab_size": 60, "width": 24, "heads": 3, "layers": 2}
VIT = {"image_size": 64, "layers": 2, "width": 32, "head_width": 8, "patch_size": 16}
RESNET = {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32, "patch_size": None}


def write_open_clip(folder: Path, vision: dict[str, Any], quick_gelu: bool, custom: bool) -> tuple[np.ndarray, ...]:
    peer = open_clip()
    torch.manual_seed(5)
    model_cfg = {"embed_dim": 16, "vision_cfg": vision, "text_cfg": TEXT}
    kind = peer.CustomTextCLIP if custom else peer.CLIP
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peer's own deprecations are not ours
        model = kind(**model_cfg, quick_gelu=quick_gelu).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point() and not name.endswith("running_var"):
                tensor.normal_(0, 0.2)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items() if "attn_mask" not in name}
    weights.write(folder / "open_clip_model.safetensors", tensors)
    config = {"model_cfg": model_cfg | {"quick_gelu": quick_gelu, "custom_text": custom}, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    ids = RNG.integers(0, 59, (4, 12))
    ids[np.arange(4), [3, 11, 5, 1]] = 59
    with torch.no_grad():
        return ids, model.encode_image(torch.tensor(PIXELS)).numpy(), model.encode_text(torch.tensor(ids)).numpy()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("custom", [False, True])
@pytest.mark.parametrize(("vision", "quick_gelu"), [(VIT, True), (VIT, False), (RESNET, True)])
def test_an_open_clip_model(
    vision: dict[str, Any], quick_gelu: bool, custom: bool, engine: str, tmp_path: Path
) -> None:
    ids, image, text = write_open_clip(tmp_path, vision, quick_gelu, custom)
    clip = cjkclip.load(tmp_path, engine=engine)
    assert_equal_features(clip, ids, image, text)
    saved = clip.save(tmp_path / "ours", layout="open_clip_custom" if custom else "open_clip")
    theirs, ours = (weights.read(folder / "open_clip_model.safetensors") for folder in (tmp_path, saved))
    assert {n: a.tobytes() for n, a in theirs.items()} == {n: a.tobytes() for n, a in ours.items()}
    assert cjkclip.load(saved).config == clip.config


@pytest.mark.parametrize("part", ["model_cfg", "vision_cfg", "text_cfg"])
def test_an_open_clip_option_that_is_not_read_is_refused(part: str, tmp_path: Path) -> None:
    source = GOLDEN / "open-clip"
    config = json.loads((source / "open_clip_config.json").read_text())
    (config["model_cfg"] if part == "model_cfg" else config["model_cfg"][part])["surprise"] = 1
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    (tmp_path / "open_clip_model.safetensors").write_bytes((source / "open_clip_model.safetensors").read_bytes())
    with pytest.raises(FactsError, match=f"{part} has unsupported options .'surprise'"):
        cjkclip.load(tmp_path)


def golden(case: str) -> cjkclip.Clip:
    return next(row for row in FAMILIES if row.case == case).load()


@pytest.mark.parametrize("case", ["openai-vit", "openai-rn"])
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # it tries the other form first
def test_open_clip_reads_the_openai_files_that_we_save(case: str, tmp_path: Path) -> None:
    golden(case).save(tmp_path, layout="openai")
    model = open_clip().load_openai_model(str(tmp_path / "model.pt"), precision="fp32", device="cpu").eval()
    with np.load(GOLDEN / case / "expected.npz") as expected, torch.no_grad():
        image = model.encode_image(torch.tensor(expected["pixel_values"])).numpy()
        text = model.encode_text(torch.tensor(expected["input_ids"])).numpy()
        for got, want in ((image, expected["image_features"]), (text, expected["text_features"])):
            np.testing.assert_allclose(got, want, atol=ATOL * max(1.0, float(np.abs(want).max())))


@pytest.mark.parametrize("case", CN_SIZES)
def test_cn_clip_loads_the_files_that_we_save(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own load_from_name, told of a model of our size."""
    golden(case).save(tmp_path, layout="cn_clip")
    model, _ = load_cn_clip(case, tmp_path / "clip_cn.pt", tmp_path, monkeypatch)
    with np.load(GOLDEN / case / "expected.npz") as expected, torch.no_grad():
        image = model.encode_image(torch.tensor(expected["pixel_values"])).numpy()
        text = model.encode_text(torch.tensor(expected["input_ids"])).numpy()
        for got, want in ((image, expected["image_features"]), (text, expected["text_features"])):
            np.testing.assert_allclose(got, want, atol=ATOL * max(1.0, float(np.abs(want).max())))


def test_the_resnets_are_the_published_files() -> None:
    """open_clip lists the same files; the reference is what its own downloader compares."""
    for name in ("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64"):
        found = find_release(name)
        assert found is not None
        address, _, told = found[1].source.partition("#sha256=")
        assert address == open_clip().pretrained.get_pretrained_url(name, "openai")
        assert told == address.split("/")[-2]
