"""transformers' configurations of CLIP and Chinese-CLIP: its fields and their defaults.

Facts: transformers 4.57.6 and 5.23.0. What a field means to the towers is said once, in
`cjkclip.checkpoints.formats`. Refuses: models that such a configuration cannot say.
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
    """A causal text tower."""

    model_type = "clip_text_model"
    inside = ("clip", "text_config")
    ids: ClassVar[Fields] = {"pad_token_id": 1, "bos_token_id": 49_406, "attention_dropout": 0.0}
    defaults = TEXT_DEFAULTS | ids | _INIT | {"projection_dim": 512}

    @staticmethod
    def record(whole: Mapping[str, Any]) -> Fields:
        """The text tower alone, with its projection."""
        return {"text": read_text(whole), "embed": whole["projection_dim"] or whole["hidden_size"]}

    @staticmethod
    def tell(model: Model) -> Fields:
        """Of a causal text tower."""
        if not isinstance(model.text, Text):
            raise LayoutError("CLIPTextConfig: this model has no causal text tower")
        return text_json(model.text, model.embed, None)


class CLIPVisionConfig(PretrainedConfig):
    """A ViT image tower."""

    model_type = "clip_vision_model"
    inside = ("clip", "vision_config")
    defaults = VISION_DEFAULTS | _INIT | {"projection_dim": 512, "attention_dropout": 0.0}

    @staticmethod
    def record(whole: Mapping[str, Any]) -> Fields:
        """The image tower alone, with its projection."""
        return {"vision": read_vision(whole), "embed": whole["projection_dim"] or whole["hidden_size"]}

    @staticmethod
    def tell(model: Model) -> Fields:
        """Of a ViT."""
        if not (isinstance(model.vision, Vit) and model.vision.pre_norm and not model.vision.patch_bias):
            raise LayoutError("CLIPVisionConfig: this model has no ViT image tower of CLIP's kind")
        return vision_json(model.vision, model.embed)


class ChineseCLIPTextConfig(PretrainedConfig):
    """A BERT text tower."""

    model_type = "chinese_clip_text_model"
    inside = ("chinese_clip", "text_config")
    ids: ClassVar[Fields] = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": None}
    defaults = BERT_DEFAULTS | ids | _INIT | {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}

    @staticmethod
    def record(whole: Mapping[str, Any]) -> Fields:
        """The text tower alone, with its pooler."""
        return {"text": read_bert(whole, "pooler"), "embed": whole["hidden_size"]}

    @staticmethod
    def tell(model: Model) -> Fields:
        """Of a BERT."""
        if not isinstance(model.text, Bert):
            raise LayoutError("ChineseCLIPTextConfig: this model has no BERT text tower")
        return bert_json(model.text)


class ChineseCLIPVisionConfig(CLIPVisionConfig):
    """The same tower under Chinese-CLIP's name."""

    model_type = "chinese_clip_vision_model"
    inside = ("chinese_clip", "vision_config")


class _Both(PretrainedConfig):
    """Two towers and what joins them."""

    @classmethod
    def from_text_vision_configs(
        cls: type[_M], text_config: PretrainedConfig, vision_config: PretrainedConfig, **fields: Any
    ) -> _M:
        """From a text configuration and an image configuration, as transformers 4 has it."""
        return cls(text_config=deepcopy(text_config), vision_config=deepcopy(vision_config), **fields)


class CLIPConfig(_Both):
    """CLIPModel's."""

    model_type = "clip"
    defaults = _JOINT
    nested: ClassVar[Mapping[str, type[PretrainedConfig]]] = {
        "text_config": CLIPTextConfig,
        "vision_config": CLIPVisionConfig,
    }

    @staticmethod
    def record(whole: Mapping[str, Any]) -> Fields:
        """Both towers."""
        return read_both(whole)

    @staticmethod
    def tell(model: Model) -> Fields:
        """Of both towers."""
        return both_json(model, None)


class ChineseCLIPConfig(_Both):
    """ChineseCLIPModel's."""

    model_type = "chinese_clip"
    defaults = _JOINT | {"initializer_range": 0.02}
    nested: ClassVar[Mapping[str, type[PretrainedConfig]]] = {
        "text_config": ChineseCLIPTextConfig,
        "vision_config": ChineseCLIPVisionConfig,
    }

    @staticmethod
    def record(whole: Mapping[str, Any]) -> Fields:
        """Both towers."""
        return chinese.read_both(whole)

    @staticmethod
    def tell(model: Model) -> Fields:
        """Of both towers."""
        return chinese.both_json(model)


class VisionTextConfig(PretrainedConfig):
    """Of every other family: `towers` is our own record."""

    model_type = "cjkclip"
    defaults: ClassVar[Mapping[str, Any]] = {"towers": None, "projection_dim": 512}

    @staticmethod
    def record(whole: Mapping[str, Any]) -> Fields:
        """The record itself."""
        return whole["towers"]

    @staticmethod
    def tell(model: Model) -> Fields:
        """Any model."""
        return {"towers": model.to_dict(), "projection_dim": model.embed}

    @property
    def text_config(self) -> PretrainedConfig:
        """The text tower's sizes under transformers' names."""
        return self._view(self.to_model().text)

    @property
    def vision_config(self) -> PretrainedConfig:
        """The image tower's sizes under transformers' names; a ResNet has its image_size alone."""
        return self._view(self.to_model().vision)

    def _view(self, tower: object) -> PretrainedConfig:
        sizes = encoder_json(tower) if isinstance(tower, Text | Bert | Vit) else {}
        more = {"image_size": "image_size", "patch_size": "patch", "vocab_size": "vocab"}
        more |= {"max_position_embeddings": "context"}
        return PretrainedConfig.from_dict(sizes | {n: getattr(tower, o) for n, o in more.items() if hasattr(tower, o)})
