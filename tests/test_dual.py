"""VisionTextDualEncoderModel, written here and now by transformers, in both of its namings."""

from pathlib import Path

import numpy as np
import pytest
import torch

import cjkclip
from cjkclip.checkpoints import weights
from cjkclip.errors import FactsError, LayoutError
from cjkclip.text import Tokens
from families import ENGINES, GOLDEN
from support.peers import transformers

ATOL = 2e-6
PIXELS = np.random.default_rng(5).normal(size=(3, 3, 64, 64)).astype(np.float32)
IDS = np.array([[2, 9, 30, 3, 0, 0], [2, 8, 7, 41, 5, 3], [2, 3, 0, 0, 0, 0]])
MASK = (IDS != 0).astype(np.int64)


def write(folder: Path, text: str = "bert") -> tuple[np.ndarray, np.ndarray]:
    """A random dual encoder as transformers saves it, and its features."""
    peer = transformers()
    torch.manual_seed(0)
    size = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 2, "num_hidden_layers": 2}
    words = {"bert": peer.BertConfig, "roberta": peer.RobertaConfig}[text](
        **size, vocab_size=60, max_position_embeddings=12
    )
    vision = peer.CLIPVisionConfig(**(size | {"hidden_size": 32}), image_size=64, patch_size=16)
    config = peer.VisionTextDualEncoderConfig.from_vision_text_configs(vision, words, projection_dim=20)
    model = peer.VisionTextDualEncoderModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.2)
        model.save_pretrained(folder)
        image = model.get_image_features(torch.tensor(PIXELS)).pooler_output
        features = model.get_text_features(torch.tensor(IDS), attention_mask=torch.tensor(MASK)).pooler_output
    return image.numpy(), features.numpy()


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


def test_another_text_tower_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "roberta")
    with pytest.raises(FactsError, match=r"'text_config': 'roberta'.*'text_config': 'bert'"):
        cjkclip.load(tmp_path)


def test_a_model_that_projects_its_first_token_is_refused(tmp_path: Path) -> None:
    clip = cjkclip.load(GOLDEN / "hf-chinese-clip")
    with pytest.raises(LayoutError, match="this text tower has head 'project'"):
        clip.save(tmp_path / "out", layout="transformers_dual")
