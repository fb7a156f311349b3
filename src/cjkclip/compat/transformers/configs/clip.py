"""transformers' configurations of CLIP and Chinese-CLIP: their fields and defaults.

Facts: transformers 4.57.6 and 5.23.0. Only `cjkclip.checkpoints.formats` defines the meaning of each field for
the towers.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar, TypeVar

from cjkclip.checkpoints.formats import chinese
from cjkclip.checkpoints.formats.bert import DEFAULTS as BERT_DEFAULTS
from cjkclip.checkpoints.formats.bert import bert_json, read_bert
from cjkclip.checkpoints.formats.transformers import (
    TEXT_DEFAULTS,
    VISION_DEFAULTS,
    both_json,
    encoder_json,
    read_both,
    read_text,
    read_vision,
    text_json,
    vision_json,
)
from cjkclip.compat.transformers.configs.configuration import Fields, PretrainedConfig
from cjkclip.config import Bert, Model, Text, Vit
from cjkclip.errors import LayoutError

__all__ = [
    "CLIPConfig",
    "CLIPTextConfig",
    "CLIPVisionConfig",
    "ChineseCLIPConfig",
    "ChineseCLIPTextConfig",
    "ChineseCLIPVisionConfig",
    "PretrainedConfig",
    "VisionTextConfig",
]
_INIT: Fields = {"initializer_range": 0.02, "initializer_factor": 1.0}
_JOINT: Fields = {"projection_dim": 512, "logit_scale_init_value": 2.6592, "initializer_factor": 1.0}
_M = TypeVar("_M", bound="_Both")


class CLIPTextConfig(PretrainedConfig):
    """Configuration of a causal text tower."""

    model_type = "clip_text_model"
    inside = ("clip", "text_config")
    ids: ClassVar[Fields] = {"pad_token_id": 1, "bos_token_id": 49_406, "attention_dropout": 0.0}
    defaults = TEXT_DEFAULTS | ids | _INIT | {"projection_dim": 512}

    @staticmethod
    def record(whole: Mapping[str, Any]) -> Fields:
        """Return the config fields of the text tower, with its projection."""
        return {"text": read_text(whole), "embed": whole["projection_dim"] or whole["hidden_size"]}

    @staticmethod
    def fields_of(model: Model) -> Fields:
        """Return the fields for a causal text tower. Raises LayoutError for another tower."""
        if not isinstance(model.text, Text):
            raise LayoutError(
                "CLIPTextConfig: this model has no causal text tower; use AutoConfig.from_pretrained(name)"
            )
        return text_json(model.text, model.embed, None)


class CLIPVisionConfig(PretrainedConfig):
    """Configuration of a ViT image tower."""

    model_type = "clip_vision_model"
    inside = ("clip", "vision_config")
    defaults = VISION_DEFAULTS | _INIT | {"projection_dim": 512, "attention_dropout": 0.0}

    @staticmethod
    def record(whole: Mapping[str, Any]) -> Fields:
        """Return the config fields of the image tower, with its projection."""
        return {"vision": read_vision(whole), "embed": whole["projection_dim"] or whole["hidden_size"]}

    @staticmethod
    def fields_of(model: Model) -> Fields:
        """Return the fields for a ViT of CLIP's kind. Raises LayoutError for another tower."""
        if not (isinstance(model.vision, Vit) and model.vision.pre_norm and not model.vision.patch_bias):
            raise LayoutError(
                "CLIPVisionConfig: this model has no ViT image tower like CLIP's; use AutoConfig.from_pretrained(name)"
            )
        return vision_json(model.vision, model.embed)


class ChineseCLIPTextConfig(PretrainedConfig):
    """Configuration of a BERT text tower."""

    model_type = "chinese_clip_text_model"
    inside = ("chinese_clip", "text_config")
    ids: ClassVar[Fields] = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": None}
    defaults = BERT_DEFAULTS | ids | _INIT | {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}

    @staticmethod
    def record(whole: Mapping[str, Any]) -> Fields:
        """Return the config fields of the text tower, with its pooler."""
        return {"text": read_bert(whole, "pooler"), "embed": whole["hidden_size"]}

    @staticmethod
    def fields_of(model: Model) -> Fields:
        """Return the fields for a BERT. Raises LayoutError for another tower."""
        if not isinstance(model.text, Bert):
            raise LayoutError(
                "ChineseCLIPTextConfig: this model has no BERT text tower; use AutoConfig.from_pretrained(name)"
            )
        return bert_json(model.text)


class ChineseCLIPVisionConfig(CLIPVisionConfig):
    """Configuration of the same image tower, under Chinese-CLIP's name."""

    model_type = "chinese_clip_vision_model"
    inside = ("chinese_clip", "vision_config")


class _Both(PretrainedConfig):
    """Base of configurations of two towers and their joint space."""

    @classmethod
    def from_text_vision_configs(
        cls: type[_M], text_config: PretrainedConfig, vision_config: PretrainedConfig, **fields: Any
    ) -> _M:
        """Build from a text and an image configuration, as in transformers 4."""
        return cls(text_config=deepcopy(text_config), vision_config=deepcopy(vision_config), **fields)


class CLIPConfig(_Both):
    """Configuration of CLIPModel."""

    model_type = "clip"
    defaults = _JOINT
    nested: ClassVar[Mapping[str, type[PretrainedConfig]]] = {
        "text_config": CLIPTextConfig,
        "vision_config": CLIPVisionConfig,
    }

    @staticmethod
    def record(whole: Mapping[str, Any]) -> Fields:
        """Return the config fields of both towers."""
        return read_both(whole)

    @staticmethod
    def fields_of(model: Model) -> Fields:
        """Return the fields for both towers. Raises LayoutError for other towers."""
        return both_json(model, None)


class ChineseCLIPConfig(_Both):
    """Configuration of ChineseCLIPModel."""

    model_type = "chinese_clip"
    defaults = _JOINT | {"initializer_range": 0.02}
    nested: ClassVar[Mapping[str, type[PretrainedConfig]]] = {
        "text_config": ChineseCLIPTextConfig,
        "vision_config": ChineseCLIPVisionConfig,
    }

    @staticmethod
    def record(whole: Mapping[str, Any]) -> Fields:
        """Return the config fields of both towers."""
        return chinese.read_both(whole)

    @staticmethod
    def fields_of(model: Model) -> Fields:
        """Return the fields for both towers. Raises LayoutError for other towers."""
        return chinese.both_json(model)


class VisionTextConfig(PretrainedConfig):
    """Configuration of all other families: `towers` is the model's config record."""

    model_type = "cjkclip"
    defaults: ClassVar[Mapping[str, Any]] = {"towers": None, "projection_dim": 512}

    @staticmethod
    def record(whole: Mapping[str, Any]) -> Fields:
        """Return the record itself."""
        return whole["towers"]

    @staticmethod
    def fields_of(model: Model) -> Fields:
        """Return the fields for any model."""
        return {"towers": model.to_dict(), "projection_dim": model.embed}

    def set_vocab_size(self, size: int) -> None:
        """Set the number of tokens of the text tower."""
        self.towers = self.towers | {"text": self.towers["text"] | {"vocab": size}}

    @property
    def text_config(self) -> PretrainedConfig:
        """Sizes of the text tower, under transformers' names."""
        return self._view(self.to_model().text)

    @property
    def vision_config(self) -> PretrainedConfig:
        """Sizes of the image tower, under transformers' names; a ResNet has only image_size."""
        return self._view(self.to_model().vision)

    def _view(self, tower: object) -> PretrainedConfig:
        sizes = encoder_json(tower) if isinstance(tower, Text | Bert | Vit) else {}
        more = {"image_size": "image_size", "patch_size": "patch", "vocab_size": "vocab"}
        more |= {"max_position_embeddings": "context"}
        return PretrainedConfig.from_dict(sizes | {n: getattr(tower, o) for n, o in more.items() if hasattr(tower, o)})
