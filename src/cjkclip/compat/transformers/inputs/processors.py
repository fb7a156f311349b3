"""transformers' processors: a tokenizer and an image processor behind one call."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from cjkclip.compat.sources import IGNORED, PLACES, SAVE_IDLE, require_idle, require_known, resolve_source, without_idle
from cjkclip.compat.transformers.inputs.batches import BatchFeature
from cjkclip.compat.transformers.inputs.images import (
    CALL,
    DEFAULTS,
    ChineseCLIPImageProcessor,
    CLIPImageProcessor,
    FamilyImageProcessor,
)
from cjkclip.compat.transformers.inputs.rows import OPTIONS
from cjkclip.compat.transformers.inputs.settings import IDLE
from cjkclip.compat.transformers.inputs.tokenization import SETTINGS, PreTrainedTokenizer
from cjkclip.compat.transformers.inputs.tokenizers import BertTokenizer, CLIPTokenizer
from cjkclip.errors import InputError, OptionError

ImageProcessor = CLIPImageProcessor | FamilyImageProcessor

_C = TypeVar("_C", bound="CLIPProcessor")


class CLIPProcessor:
    """Converts texts to ids, and images to pixels."""

    attributes = ("image_processor", "tokenizer")
    tokenizer_class: ClassVar[type[PreTrainedTokenizer]] = CLIPTokenizer
    image_processor_class: ClassVar[type[CLIPImageProcessor]] = CLIPImageProcessor

    def __init__(
        self,
        image_processor: ImageProcessor | None = None,
        tokenizer: PreTrainedTokenizer | None = None,
        feature_extractor: ImageProcessor | None = None,
    ) -> None:
        """Store both parts; feature_extractor is the older name of image_processor."""
        if image_processor is not None and feature_extractor is not None:
            raise OptionError(
                "got image_processor and feature_extractor, two names of one option: pass image_processor"
            )
        image_processor = image_processor or feature_extractor
        if image_processor is None or tokenizer is None:
            raise InputError(
                f"got image_processor={image_processor!r} and tokenizer={tokenizer!r}, but {type(self).__name__} needs "
                f"an image_processor and a tokenizer: {type(self).__name__}.from_pretrained(name) loads both"
            )
        self.image_processor, self.tokenizer = image_processor, tokenizer

    @classmethod
    def from_pretrained(cls: type[_C], pretrained_model_name_or_path: str | Path, **options: Any) -> _C:
        """Read both parts from a directory or hub repository.

        Options: those of the tokenizer's and the image processor's from_pretrained; `image_processor` and `tokenizer`,
        which are used as they are.
        """
        name, parts = pretrained_model_name_or_path, ProcessorOptions.of(options, cls.__name__, cls.tokenizer_class)
        require_known(parts.places, (*PLACES, *IGNORED), f"{cls.__name__}.from_pretrained")
        folder = resolve_source(name, parts.places, small=True).path
        images = parts.image_processor or cls.image_processor_class.from_folder(folder, str(name), **parts.images)
        return cls(images, parts.tokenizer or cls.tokenizer_class.from_folder(folder).changed(parts.texts))

    def to_dict(self) -> dict[str, Any]:
        """Return the options of the image processor and the class of this one."""
        images = self.image_processor
        record = {} if isinstance(images, FamilyImageProcessor) else {"image_processor": images.to_dict()}
        return {"processor_class": type(self).__name__} | record

    def to_json_string(self) -> str:
        """Return `to_dict` as JSON."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> tuple[str, ...]:
        """Write the files of both parts; return their paths. Raises InputError for a FamilyImageProcessor."""
        if isinstance(self.image_processor, FamilyImageProcessor):
            raise InputError(
                "preprocessor_config.json cannot express the preprocessing of this model: save the whole model with "
                "cjkclip.load(name).save(folder)"
            )
        require_idle(options, "save_pretrained", SAVE_IDLE)
        return (*self.tokenizer.save_pretrained(save_directory), *self.image_processor.save_pretrained(save_directory))

    @property
    def feature_extractor(self) -> ImageProcessor:
        """Older name of image_processor."""
        return self.image_processor

    @property
    def model_input_names(self) -> list[str]:
        """Names of the values that a call with text and images returns."""
        return [*self.tokenizer.model_input_names, *self.image_processor.model_input_names]

    def __call__(self, images: Any = None, text: Any = None, **options: Any) -> BatchFeature:
        """Return input_ids and related values of `text`, pixel_values of `images`, or all of them.

        Options are those of the tokenizer's and the image processor's call, also as text_kwargs, images_kwargs and
        common_kwargs. Texts first and images second, the order of transformers 4, is recognised.
        """
        if _is_text(images) and text is not None and not _is_text(text):
            images, text = text, images
        if images is None and text is None:
            raise InputError(
                "got neither text nor images: pass one or both, as in processor(text=texts, images=images)"
            )
        for_text, for_images = _split(options, type(self).__name__)
        batch: dict[str, Any] = {}
        if text is not None:
            batch |= self.tokenizer(text, **for_text)
        if images is not None:
            batch |= self.image_processor(images, **for_images)
        return BatchFeature(batch)

    def decode(self, token_ids: Any, **options: Any) -> str:
        """Call the tokenizer's decode."""
        return self.tokenizer.decode(token_ids, **options)

    def batch_decode(self, sequences: Any, **options: Any) -> list[str]:
        """Call the tokenizer's batch_decode."""
        return self.tokenizer.batch_decode(sequences, **options)


class ChineseCLIPProcessor(CLIPProcessor):
    """Converts texts and images for Chinese-CLIP."""

    tokenizer_class = BertTokenizer
    image_processor_class = ChineseCLIPImageProcessor


@dataclass(frozen=True, kw_only=True)
class ProcessorOptions:
    """The options of a processor's from_pretrained, by the part that reads them."""

    places: dict[str, Any]
    texts: dict[str, Any]
    images: dict[str, Any]
    tokenizer: PreTrainedTokenizer | None
    image_processor: ImageProcessor | None

    @classmethod
    def of(cls, options: dict[str, Any], owner: str, kind: type[PreTrainedTokenizer]) -> "ProcessorOptions":
        """Split the options; those that neither part knows are in `places`. Raises OptionError."""
        rest = without_idle(options, f"{owner}.from_pretrained", IDLE)
        parts = {name: rest.pop(name, None) for name in ("tokenizer", "image_processor")}
        texts = {name: rest.pop(name) for name in (*SETTINGS, *kind.rules) if name in rest}
        images = {name: rest.pop(name) for name in DEFAULTS if name in rest}
        return cls(places=rest, texts=texts, images=images, **parts)


def _is_text(value: Any) -> bool:
    """Whether it is a string, or a list that begins with one. A single string may also be the path of an image."""
    first = next(iter(cast(list[Any], value)), None) if isinstance(value, list | tuple) else value
    return isinstance(first, str)


def _split(options: dict[str, Any], owner: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split options into those for the tokenizer and those for the image processor. Raises OptionError."""
    groups = {name: dict(options.pop(name, None) or {}) for name in ("common_kwargs", "text_kwargs", "images_kwargs")}
    shared = options | groups["common_kwargs"]
    require_known(shared, (*OPTIONS, *CALL), owner)
    for_text = {key: value for key, value in shared.items() if key in OPTIONS} | groups["text_kwargs"]
    for_images = {key: value for key, value in shared.items() if key in CALL} | groups["images_kwargs"]
    return for_text, for_images
