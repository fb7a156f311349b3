"""open_clip's functions for every family: create_model_and_transforms, create_model_from_pretrained, get_tokenizer.

    import cjkclip.compat.open_clip as open_clip         # was: import open_clip

Token ids, pixels and features of open_clip's own files equal open_clip's. Two differences: the model is in evaluation
mode, and OpenAI's weights get the activation of their training for every model name. Needs the extra `torch`.
Random weights, and weight tags other than "openai", are rejected: pass the hub name of the weights instead.
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL.Image

from cjkclip import config
from cjkclip.compat.sources import LOAD, load_clip, require_known
from cjkclip.compat.towers import Tensor, TorchClip, Transform, ids_of, rules_of, tokenizer_of, unit
from cjkclip.errors import InputError
from cjkclip.image import Picture, open_picture
from cjkclip.image.crop import random_box
from cjkclip.need import need
from cjkclip.text import Tokenizer
from cjkclip.text.bpe import OPEN_CLIP, clip_bpe

if TYPE_CHECKING:
    import torch
else:
    torch = need("torch", extra="torch")

__all__ = ["create_model", "create_model_and_transforms", "create_model_from_pretrained", "get_tokenizer"]

SCALE = (0.9, 1.0)  # share of an image's area that a training crop covers
ARCHITECTURES = (
    "ViT-B-32",
    "ViT-B-16",
    "ViT-L-14",
    "ViT-L-14-336",
    "RN50",
    "RN101",
    "RN50x4",
    "RN50x16",
    "RN50x64",
)


class CLIP(TorchClip):
    """Model with open_clip's methods."""

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Return features (n, E) of pixels (n, 3, S, S)."""
        features = self.image_features(image)
        return unit(features) if normalize else features

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """Return features (n, E) of ids (n, L)."""
        features = self.text_features(text)
        return unit(features) if normalize else features

    def get_logits(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return scaled cosine similarities, per image (n, m) and per text (m, n)."""
        return self.logits(self.encode_image(image, normalize=True), self.encode_text(text, normalize=True))

    def forward(
        self, image: Tensor | None = None, text: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Return unit features of both inputs (None for a missing one), and the scale."""
        image_features = None if image is None else self.encode_image(image, normalize=True)
        text_features = None if text is None else self.encode_text(text, normalize=True)
        return image_features, text_features, self.logit_scale.exp()


class TrainTransform(Transform):
    """Resize a random part of an image to pixels (3, S, S), drawing torch's random numbers in open_clip's order."""

    def __init__(self, rules: config.Image) -> None:
        """`rules` is the model's preprocessing; only its size, colours and order of steps are used."""
        super().__init__(replace(rules, resize="squash"))

    def __call__(self, picture: Picture) -> Tensor:
        """Return the pixels of a random crop. Raises ImageError."""
        image: PIL.Image.Image = open_picture(picture, published=True)
        box = random_box(*image.size, SCALE, _uniform, lambda n: int(torch.randint(0, n, (1,)).item()))
        return super().__call__(image.crop(box))


class TextTokenizer:
    """Convert texts to ids, with the interface of open_clip's tokenizers."""

    def __init__(self, core: Tokenizer, context_length: int | None) -> None:
        """`context_length` is the number of ids per text; None means the model's."""
        self.core, self.context_length = core, context_length or core.context

    def __call__(self, texts: Any, context_length: int | None = None) -> Tensor:
        """Return ids (n, context_length) of a text or texts; long ones are cut."""
        return ids_of(self.core, texts, context_length or self.context_length)[0]

    def decode(self, ids: Any) -> str:
        """Return the text of one row of ids."""
        return self.core.decode([int(i) for i in ids])


def create_model(model_name: str, pretrained: str | None = None, device: Any = None, **options: Any) -> CLIP:
    """Load the model without transforms: see `create_model_and_transforms`."""
    return _load(model_name, pretrained, device, options)[0]


def create_model_and_transforms(
    model_name: str, pretrained: str | None = None, device: Any = None, **options: Any
) -> tuple[CLIP, TrainTransform, Transform]:
    """Load a model; return it with its image transforms for training and for inference.

    model_name: an architecture of open_clip with pretrained="openai" or the path of a weight file. Without pretrained:
    "hf-hub:org/name", "local-dir:path", or any name that `cjkclip.load` accepts. Options: `sources.LOAD`, and
    precision, which can only be "fp32".
    """
    model, rules = _load(model_name, pretrained, device, options)
    return model, TrainTransform(rules), Transform(rules)


def create_model_from_pretrained(
    model_name: str, pretrained: str | None = None, device: Any = None, **options: Any
) -> tuple[CLIP, Transform]:
    """Load a model; return it with its image transform for inference: see `create_model_and_transforms`."""
    model, rules = _load(model_name, pretrained, device, options)
    return model, Transform(rules)


def get_tokenizer(model_name: str, context_length: int | None = None, **options: Any) -> TextTokenizer:
    """Return the tokenizer of a model name; that of an architecture is OpenAI's. Options: `sources.LOAD`."""
    require_known(options, LOAD, "open_clip.get_tokenizer")
    name = _plain(model_name)
    core = clip_bpe(OPEN_CLIP) if name in ARCHITECTURES else tokenizer_of(load_clip(name, options))
    return TextTokenizer(core, context_length)


def _load(model_name: str, pretrained: str | None, device: Any, options: dict[str, Any]) -> tuple[CLIP, config.Image]:
    require_known(options, (*LOAD, "precision"), "open_clip.create_model")
    if (precision := options.pop("precision", "fp32")) != "fp32":
        raise InputError(
            f"precision is {precision!r}, expected 'fp32': leave it out, then call model.half() or model.bfloat16()"
        )
    clip = load_clip(_source(model_name, pretrained), options, engine="torch", device=device)
    return CLIP(clip), rules_of(clip)


def _source(model_name: str, pretrained: str | None) -> str:
    """Return the name of the weights for `cjkclip.load`. Raises InputError for unsupported weights."""
    name = _plain(model_name)
    if pretrained and Path(pretrained).expanduser().exists():
        return pretrained
    if pretrained not in (None, "", "openai") or (pretrained == "openai" and name not in ARCHITECTURES):
        raise InputError(
            f"pretrained={pretrained!r} for {model_name!r} is neither a file nor OpenAI's; pass the hub name of the "
            "weights: create_model_and_transforms('hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K')"
        )
    if not pretrained and name in ARCHITECTURES:
        raise InputError(
            f"{model_name!r} without pretrained means random weights, which are unsupported: "
            f"create_model_and_transforms({model_name!r}, pretrained='openai')"
        )
    return name


def _plain(model_name: str) -> str:
    """Return a name without open_clip's prefixes and suffix. OpenAI's activation is known without "-quickgelu"."""
    return model_name.removeprefix("local-dir:").removeprefix("hf-hub:").removesuffix("-quickgelu")


def _uniform(low: float, high: float) -> float:
    return float(torch.empty(1).uniform_(low, high).item())
