"""transformers' AutoModel and AutoConfig: choose the class that fits a checkpoint, for every family.

CLIP and Chinese-CLIP get the classes of those names, single towers the classes for towers, all others VisionTextModel.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from cjkclip import checkpoints
from cjkclip.compat.transformers.configs.configuration import PretrainedConfig, config_record, places
from cjkclip.compat.transformers.models.clip import (
    ChineseCLIPModel,
    ChineseCLIPTextModel,
    ChineseCLIPVisionModel,
    CLIPModel,
    CLIPTextModel,
    CLIPVisionModel,
    Joint,
)
from cjkclip.compat.transformers.models.pretrained import PreTrainedModel
from cjkclip.compat.transformers.models.reading import HARMLESS, read_checkpoint
from cjkclip.compat.transformers.models.vision_text import VisionTextModel
from cjkclip.config import Bert, Model, Text, Vit
from cjkclip.errors import InputError, LayoutError

MODELS: tuple[type[PreTrainedModel], ...] = (
    CLIPModel,
    ChineseCLIPModel,
    CLIPTextModel,
    CLIPVisionModel,
    ChineseCLIPTextModel,
    ChineseCLIPVisionModel,
    VisionTextModel,
)


def class_for(model: Model) -> type[PreTrainedModel]:
    """Return the class for towers of this kind."""
    vision, text = model.vision, model.text
    if vision is None and text is not None:
        return CLIPTextModel if isinstance(text, Text) else ChineseCLIPTextModel
    if not (isinstance(vision, Vit) and vision.pre_norm and not vision.patch_bias) or model.scale is not None:
        return VisionTextModel
    if isinstance(text, Bert):
        return ChineseCLIPModel if text.head == "project" else VisionTextModel
    return CLIPVisionModel if text is None else CLIPModel


class AutoConfig:
    """Loads the configuration that fits a checkpoint."""

    def __init__(self) -> None:
        raise TypeError("AutoConfig cannot be called: use AutoConfig.from_pretrained(name)")

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> PretrainedConfig:
        """Load from a hub name, an alias, a directory or a file; see PretrainedConfig.from_pretrained."""
        options = {n: v for n, v in options.items() if n not in HARMLESS}
        where, fields = places(options, pretrained_model_name_or_path, "AutoConfig")
        source = checkpoints.resolve(pretrained_model_name_or_path, replace(where, small=True))
        record = config_record(source.name, source.folder)
        for model in MODELS if record is not None else ():
            kind = model.config_class
            if record is not None and record["model_type"] == kind.model_type and kind.reads(record) is not None:
                return kind.from_dict(record).updated(fields)
        found = checkpoints.read(source)
        return class_for(found.config).config_class.from_model(found.config).updated(fields)

    @classmethod
    def for_model(cls, model_type: str, **fields: Any) -> PretrainedConfig:
        """Return a new configuration by its model type, such as "clip". Raises InputError for an unknown one."""
        kinds = {model.config_class.model_type: model.config_class for model in MODELS}
        if model_type not in kinds:
            raise InputError(f"model_type is {model_type!r}, expected one of {list(kinds)}")
        return kinds[model_type](**fields)


class AutoModel:
    """Loads the model that fits a checkpoint."""

    def __init__(self) -> None:
        raise TypeError(
            "AutoModel cannot be called: use AutoModel.from_pretrained(name) or AutoModel.from_config(config)"
        )

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, config: PretrainedConfig | None = None, **options: Any
    ) -> PreTrainedModel:
        """Load a model in evaluation mode; see CLIPModel.from_pretrained for the options."""
        found, record, rest = read_checkpoint(pretrained_model_name_or_path, options, "AutoModel")
        kind = class_for(found.config)
        if record is not None:  # Chinese-CLIP's image tower is CLIP's, under another name
            same = (each for each in MODELS if issubclass(each, kind))
            kind = next((each for each in same if each.config_class.model_type == record["model_type"]), kind)
        return kind.from_found(found, str(pretrained_model_name_or_path), record, config, rest)

    @classmethod
    def from_config(cls, config: PretrainedConfig, **options: Any) -> PreTrainedModel:
        """Build a model with random weights. Raises InputError for a configuration without a model class."""
        for model in MODELS:
            if type(config) is model.config_class:
                return model.from_config(config, **options)
        kinds = [model.config_class.__name__ for model in MODELS]
        raise InputError(
            f"no model has a {type(config).__name__}; expected one of {kinds}: AutoModel.from_config(CLIPConfig())"
        )


class AutoModelForZeroShotImageClassification(AutoModel):
    """Loads the model of two towers that fits a checkpoint, under the name in the hub's own snippets."""

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *, config: PretrainedConfig | None = None, **options: Any
    ) -> PreTrainedModel:
        """Load a model in evaluation mode. Raises LayoutError for a tower alone."""
        model = super().from_pretrained(pretrained_model_name_or_path, config=config, **options)
        if not isinstance(model, Joint):
            raise LayoutError(
                f"{pretrained_model_name_or_path} contains one tower, but zero-shot classification needs two; use "
                "AutoModel.from_pretrained(name)"
            )
        return model
