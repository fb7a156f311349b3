"""transformers' classes for CLIP and Chinese-CLIP, and its Auto classes for every family.

Models need the extra `torch`.

Replace `from transformers import ...` by `from cjkclip.compat.transformers import ...`. Each name is imported at its
first use.
"""

import importlib
from typing import Any

from cjkclip.need import need

MODULES: dict[str, tuple[str, ...]] = {
    "outputs": (
        "BaseModelOutputWithPooling",
        "CLIPOutput",
        "CLIPTextModelOutput",
        "CLIPVisionModelOutput",
        "ChineseCLIPOutput",
        "ModelOutput",
    ),
    "configs": (
        "CLIPConfig",
        "CLIPTextConfig",
        "CLIPVisionConfig",
        "ChineseCLIPConfig",
        "ChineseCLIPTextConfig",
        "ChineseCLIPVisionConfig",
        "PretrainedConfig",
        "VisionTextConfig",
    ),
    "models": (
        "CLIPModel",
        "CLIPTextModel",
        "CLIPTextModelWithProjection",
        "CLIPVisionModel",
        "CLIPVisionModelWithProjection",
        "ChineseCLIPModel",
        "ChineseCLIPTextModel",
        "ChineseCLIPVisionModel",
    ),
    "vision_text": ("VisionTextModel",),
    "auto_models": ("AutoConfig", "AutoModel"),
    "batches": ("BatchEncoding", "BatchFeature"),
    "tokenizers": (
        "BertTokenizer",
        "BertTokenizerFast",
        "CLIPTokenizer",
        "CLIPTokenizerFast",
        "SentencePieceTokenizer",
    ),
    "images": (
        "CLIPFeatureExtractor",
        "CLIPImageProcessor",
        "CLIPImageProcessorFast",
        "ChineseCLIPFeatureExtractor",
        "ChineseCLIPImageProcessor",
        "ChineseCLIPImageProcessorFast",
    ),
    "processors": ("CLIPProcessor", "ChineseCLIPProcessor"),
    "auto_processors": ("AutoImageProcessor", "AutoProcessor", "AutoTokenizer"),
    "pipelines": ("pipeline",),
}
TORCH = {"outputs", "models", "vision_text", "auto_models"}  # the others need it for tensors only
_HOMES = {name: module for module, names in MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a class at its first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'cjkclip.compat.transformers' has no attribute {name!r}; it has {sorted(_HOMES)}")
    if _HOMES[name] in TORCH:
        need("torch", extra="torch")
    return getattr(importlib.import_module(f"cjkclip.compat.transformers.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
