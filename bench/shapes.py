"""Other models in their real shapes with random weights: ViT-L/14, RN50, int8, and the towers of the other families.

They are compared with transformers in fp32 on the same weights, RN50 with cn_clip. KoCLIP's and Taiyi's checkpoints
contain a ViT-B/32 and a BERT; one dual encoder of transformers represents them. rinna's towers are transformers' ViT
and a BERT, both without a pooler.
"""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tests.support.peers import cn_clip, transformers

import cjkclip
from bench.chinese import row, unit, write_peer
from bench.timing import Row, used, worked
from cjkclip.probes import noise
from cjkclip.speed import work

THEIRS = "transformers fp32"
ANYHOW = {"text.heads": 12, "vision.heads": 32}


def measure(rounds: int) -> list[Row]:
    """Measure every row."""
    return [*int8(rounds), *large(rounds), *resnet(rounds), *dual(rounds), *rinna(rounds)]


def beside(
    job: str, clip: cjkclip.Clip, names: tuple[str, str], theirs: Callable[[], Any], count: int, rounds: int
) -> Row:
    """Measure one row of an image tower."""
    seen = noise(count, 224)  # speed does not depend on the pixel values
    result = row(f"{job}, {count} at once", names, lambda: clip.encode_pixels(seen), theirs, rounds)
    return worked(result, count * work.image(clip.config))


def short_texts(job: str, clip: cjkclip.Clip, names: tuple[str, str], model: Any, rounds: int) -> Row:
    """Measure one row of a BERT: 32 texts of 16 tokens."""
    ids = torch.from_numpy(np.random.default_rng(0).integers(1, 21_000, (32, 16)))
    mask = torch.ones_like(ids)

    def theirs() -> np.ndarray:
        with torch.inference_mode():
            return unit(model.get_text_features(input_ids=ids, attention_mask=mask).pooler_output)

    tokens = cjkclip.Tokens(ids=ids.numpy(), mask=mask.numpy(), truncated=())
    result = row(f"{job}, 32 texts of 16", names, lambda: clip.encode_tokens(tokens), theirs, rounds)
    return worked(result, 32 * work.text(clip.config, 16))


def hugging(model: Any, count: int) -> Callable[[], np.ndarray]:
    """Return a function that computes transformers' image features of `count` images."""
    tensor = torch.from_numpy(noise(count, 224))

    def encode() -> np.ndarray:
        with torch.inference_mode():
            return unit(model.get_image_features(pixel_values=tensor).pooler_output)

    return encode


def int8(rounds: int) -> list[Row]:
    """Measure Chinese-CLIP ViT-B/16 in int8, quantised once and cached as in normal use."""
    with tempfile.TemporaryDirectory() as folder:
        peer = write_peer(Path(folder))
        clip = cjkclip.load(folder, precision="int8")
        return [
            beside("image tower", clip, ("openvino int8", THEIRS), hugging(peer, n), n, max(3, rounds // 2))
            for n in (1, 8, 32)
        ]


def large(rounds: int) -> list[Row]:
    """Measure CLIP ViT-L/14."""
    peer = transformers()
    torch.manual_seed(0)
    seen = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    config = peer.CLIPConfig(vision_config=seen | {"patch_size": 14}, projection_dim=768)
    with tempfile.TemporaryDirectory() as folder:
        model = peer.CLIPModel(config).eval()
        model.save_pretrained(folder)
        clip = cjkclip.load(folder)
        return [beside("ViT-L/14", clip, (used("default", clip), THEIRS), hugging(model, 4), 4, max(3, rounds // 2))]


def resnet(rounds: int) -> list[Row]:
    """Measure Chinese-CLIP RN50 against cn_clip."""
    peer = cn_clip()
    torch.manual_seed(0)
    model = peer.utils.create_model("RN50@RBT3-chinese").float().eval()
    tensor = torch.from_numpy(noise(8, 224))

    def theirs() -> np.ndarray:
        with torch.inference_mode():
            return unit(model.encode_image(tensor))

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip_cn_rn50.pt"
        torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}}, file)
        clips = precisions(file, facts=ANYHOW)
        return [beside("RN50", clip, (name, "cn_clip fp32"), theirs, 8, rounds) for name, clip in clips.items()]


def dual(rounds: int) -> list[Row]:
    """Measure a dual encoder of CLIP's ViT-B/32 and a base BERT."""
    peer = transformers()
    torch.manual_seed(0)
    config = peer.VisionTextDualEncoderConfig.from_vision_text_configs(
        peer.CLIPVisionConfig(), peer.BertConfig(vocab_size=21_128), projection_dim=512
    )
    with tempfile.TemporaryDirectory() as folder:
        model = peer.VisionTextDualEncoderModel(config).eval()
        model.save_pretrained(folder)
        clip = cjkclip.load(folder)
        names = used("default", clip), THEIRS
        return [
            beside("dual encoder's ViT-B/32", clip, names, hugging(model, 8), 8, rounds),
            short_texts("dual encoder's BERT", clip, names, model, rounds),
        ]


class Rinna(torch.nn.Module):
    """rinna's Japanese CLIP ViT-B/16 with random weights: the projected first token of transformers' towers."""

    def __init__(self) -> None:
        super().__init__()
        peer = transformers()
        self.vision = peer.ViTModel(peer.ViTConfig(), add_pooling_layer=False)
        self.text = peer.BertModel(peer.BertConfig(vocab_size=32_000), add_pooling_layer=False)
        self.projections = torch.nn.ModuleDict(
            {name: torch.nn.Linear(768, 512, bias=False) for name in ("visual_projection", "text_projection")}
        )
        with torch.no_grad():
            for parameter in self.parameters():  # also changes biases and norms, which start at 0 and 1
                parameter.add_(torch.randn_like(parameter), alpha=0.02)

    def get_image_features(self, pixel_values: torch.Tensor) -> SimpleNamespace:
        """Return image features, with the method name of transformers."""
        first = self.vision(pixel_values).last_hidden_state[:, 0]
        return SimpleNamespace(pooler_output=self.projections["visual_projection"](first))

    def get_text_features(self, **inputs: torch.Tensor) -> SimpleNamespace:
        """Return text features, with the method name of transformers."""
        first = self.text(**inputs).last_hidden_state[:, 0]
        return SimpleNamespace(pooler_output=self.projections["text_projection"](first))

    def save(self, folder: Path) -> None:
        """Write the published layout: the tensor names that transformers writes for each tower."""
        tensors, config = {"logit_scale": torch.tensor(2.6592)}, {"model_type": "clip", "projection_dim": 512}
        for name, tower in {"vision": self.vision, "text": self.text}.items():
            tower.save_pretrained(folder / name)
            config[f"{name}_config"] = tower.config.to_dict()
            written = load_file(folder / name / "model.safetensors")
            tensors |= {f"{name}_model.{key}": tensor for key, tensor in written.items()}
        tensors |= self.projections.state_dict()
        save_file(tensors, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config), "utf-8")


def rinna(rounds: int) -> list[Row]:
    """Measure rinna's towers in fp32 and in the default precision."""
    torch.manual_seed(0)
    model, rows = Rinna().eval(), list[Row]()
    with tempfile.TemporaryDirectory() as folder:
        model.save(Path(folder))
        for name, clip in precisions(Path(folder)).items():
            rows.append(beside("rinna's ViT-B/16", clip, (name, THEIRS), hugging(model, 8), 8, rounds))
            rows.append(short_texts("rinna's BERT", clip, (name, THEIRS), model, rounds))
    return rows


def precisions(path: Path, **asked: Any) -> dict[str, cjkclip.Clip]:
    """Load a model in fp32 and in the default precision; keys are the names of their rows."""
    clips = {"fp32": cjkclip.load(path, precision="fp32", **asked), "default": cjkclip.load(path, **asked)}
    return {used(name, clip): clip for name, clip in clips.items()}
