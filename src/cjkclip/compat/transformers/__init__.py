"""transformers' classes for CLIP and Chinese-CLIP, and its Auto classes for models of every family.

Replace `from transformers import ...` by `from cjkclip.compat.transformers import ...`. Each name is imported at its
first use. Models need the extra `torch`.
"""

import importlib
from typing import Any

from cjkclip.need import need

MODULES: dict[str, tuple[str, ...]] = {
    "models.outputs": (
        "BaseModelOutputWithPooling",
        "CLIPOutput",
        "CLIPTextModelOutput",
        "CLIPVisionModelOutput",
        "ChineseCLIPOutput",
        "ModelOutput",
    ),
    "configs.clip": (
        "CLIPConfig",
        "CLIPTextConfig",
        "CLIPVisionConfig",
        "ChineseCLIPConfig",
        "ChineseCLIPTextConfig",
        "ChineseCLIPVisionConfig",
        "PretrainedConfig",
        "VisionTextConfig",
    ),
    "models.clip": (
        "CLIPModel",
        "CLIPTextModel",
        "CLIPTextModelWithProjection",
        "CLIPVisionModel",
        "CLIPVisionModelWithProjection",
        "ChineseCLIPModel",
        "ChineseCLIPTextModel",
        "ChineseCLIPVisionModel",
    ),
    "models.pretrained": ("PreTrainedModel",),
    "models.vision_text": ("VisionTextModel",),
    "models.auto": ("AutoConfig", "AutoModel", "AutoModelForZeroShotImageClassification"),
    "inputs.batches": ("BatchEncoding", "BatchFeature"),
    "inputs.tokenizers": (
        "BertTokenizer",
        "BertTokenizerFast",
        "CLIPTokenizer",
        "CLIPTokenizerFast",
        "SentencePieceTokenizer",
    ),
    "inputs.images": (
        "CLIPFeatureExtractor",
        "CLIPImageProcessor",
        "CLIPImageProcessorFast",
        "ChineseCLIPFeatureExtractor",
        "ChineseCLIPImageProcessor",
        "ChineseCLIPImageProcessorFast",
    ),
    "inputs.processors": ("CLIPProcessor", "ChineseCLIPProcessor"),
    "inputs.auto": ("AutoImageProcessor", "AutoProcessor", "AutoTokenizer"),
    "pipelines": ("ZeroShotImageClassificationPipeline", "pipeline"),
}
# Other names of the same classes: of version 5, of its back ends, and of bases that differ only in transformers.
ALIASES = {
    "AutoFeatureExtractor": "AutoImageProcessor",
    "CLIPImageProcessorPil": "CLIPImageProcessor",
    "CLIPPreTrainedModel": "PreTrainedModel",
    "ChineseCLIPImageProcessorPil": "ChineseCLIPImageProcessor",
    "ChineseCLIPPreTrainedModel": "PreTrainedModel",
    "PreTrainedConfig": "PretrainedConfig",
    "VisionTextDualEncoderProcessor": "CLIPProcessor",
}
_HOMES = {name: module for module, names in MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a class at its first use. Raises AttributeError for an unknown name."""
    name = ALIASES.get(name, name)
    if name not in _HOMES:
        raise AttributeError(f"module 'cjkclip.compat.transformers' has no attribute {name!r}; it has {sorted(_HOMES)}")
    if _HOMES[name].startswith("models."):  # the other modules need torch only if tensors are requested
        need("torch", extra="torch")
    return getattr(importlib.import_module(f"cjkclip.compat.transformers.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*_HOMES, *ALIASES])
