"""Pairs of the same tiny random model: transformers' own, and ours loaded from the files that it wrote."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import cjkclip.compat.transformers as compat
from support.peers import transformers

EOS, PAD, VOCAB, CONTEXT = 59, 1, 60, 12
KINDS = ("clip-legacy", "clip", "chinese")  # pool at the largest id, at the end token, at the first token
TEXT = {"hidden_size": 24, "intermediate_size": 40, "num_attention_heads": 3, "vocab_size": VOCAB}
TEXT |= {"max_position_embeddings": CONTEXT, "num_hidden_layers": 2}
VISION = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 2}
VISION |= {"image_size": 32, "patch_size": 8}
SINGLES = (
    "CLIPTextModel",
    "CLIPTextModelWithProjection",
    "CLIPVisionModel",
    "CLIPVisionModelWithProjection",
    "ChineseCLIPTextModel",
    "ChineseCLIPVisionModel",
)


@dataclass(frozen=True)
class Pair:
    """The peer's model and ours, both in evaluation mode."""

    peer: Any
    ours: Any
    folder: Path


def configured(kind: str, text: dict[str, Any], vision: dict[str, Any]) -> Any:
    """Return the peer's configuration of a tiny model of two towers."""
    text = TEXT | text | ({} if kind == "chinese" else {"eos_token_id": 2 if kind == "clip-legacy" else EOS})
    vision = VISION | vision
    if kind != "chinese":
        text |= {"bos_token_id": 58, "pad_token_id": PAD, "projection_dim": 20}
    kinds = transformers().ChineseCLIPConfig if kind == "chinese" else transformers().CLIPConfig
    return kinds(text_config=text, vision_config=vision | {"projection_dim": 20}, projection_dim=20)


def randomised(model: Any) -> Any:
    """Randomise the weights, so that every part changes the output; return the model."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter + torch.randn_like(parameter) * 0.1)
    return model.eval()


def pair(kind: str, folder: Path, *, text: dict[str, Any] | None = None, vision: dict[str, Any] | None = None) -> Pair:
    """Build a model of two towers, whose kind is one of KINDS."""
    config = configured(kind, text or {}, vision or {})
    name = "ChineseCLIPModel" if kind == "chinese" else "CLIPModel"
    peer = randomised(getattr(transformers(), name)(config))
    peer.save_pretrained(folder)
    return Pair(peer, getattr(compat, name).from_pretrained(folder), folder)


def single(name: str, folder: Path) -> Pair:
    """Build a model of one tower, whose class is one of SINGLES."""
    config = configured("chinese" if name.startswith("Chinese") else "clip", {}, {})
    part = config.text_config if "Text" in name else config.vision_config
    peer = randomised(getattr(transformers(), name)(part))
    peer.save_pretrained(folder)
    return Pair(peer, getattr(compat, name).from_pretrained(folder), folder)


def ids(batch: int, seed: int = 1) -> torch.Tensor:
    """Return texts of 9 tokens: end tokens at different places, then padding; one text has two end tokens."""
    found = np.random.default_rng(seed).integers(3, 57, (batch, 9))
    ends = np.array([8, 4, 6, 2])[:batch]
    for row, end in enumerate(ends):
        found[row, end + 1 :] = PAD
        found[row, end] = EOS
    if batch > 2:
        found[2, 8] = EOS
    return torch.tensor(found)


def pixels(batch: int, height: int = 32, width: int = 32) -> torch.Tensor:
    """Return random pixels."""
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(height + batch))


def masks(batch: int) -> dict[str, torch.Tensor | None]:
    """Return every kind of mask: 1 for a token, 0 for padding."""
    right, left, holes = (torch.ones(batch, 9, dtype=torch.int64) for _ in range(3))
    right[0, 7:] = 0
    left[-1, :3] = 0
    holes[0, 2] = holes[-1, 5] = 0
    return {"none": None, "ones": torch.ones(batch, 9, dtype=torch.int64), "right": right, "left": left, "holes": holes}


def furthest(got: Any, want: Any) -> float:
    """Return the largest difference of two tensors, or of two tuples of tensors with the same structure."""
    if isinstance(want, tuple):
        assert len(got) == len(want)
        return max(furthest(g, w) for g, w in zip(got, want, strict=True))
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    return float((got - want).detach().abs().max())
