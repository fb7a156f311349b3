"""open_clip's names over every family: create_model_and_transforms, create_model_from_pretrained, get_tokenizer.

    import cjkclip.compat.open_clip as open_clip         # was: import open_clip

Ids, pixels and features of open_clip's own files are open_clip's. Two things differ: the model comes in evaluation
mode, and OpenAI's weights always get the activation they were trained with, whatever the name says. Needs the extra
`torch`. Refuses: models with random weights, tags of weights other than "openai" (pass the hub name instead).
"""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import PIL.Image

from cjkclip import config
from cjkclip.compat.sources import LOAD, known, loaded
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

SCALE = (0.9, 1.0)  # how much of a picture a training crop covers
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
    """open_clip's model."""

    def encode_image(self, image: Tensor, normalize: bool = False) -> Tensor:
        """Features (n, E) of pixels (n, 3, S, S)."""
        features = self.image_features(image)
        return unit(features) if normalize else features

    def encode_text(self, text: Tensor, normalize: bool = False) -> Tensor:
        """Features (n, E) of ids (n, L)."""
        features = self.text_features(text)
        return unit(features) if normalize else features

    def get_logits(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled cosines, per image (n, m) and per text (m, n)."""
        return self.logits(self.encode_image(image, normalize=True), self.encode_text(text, normalize=True))

    def forward(
        self, image: Tensor | None = None, text: Tensor | None = None
    ) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Unit features of both and the scale; None for what is not given."""
        seen = None if image is None else self.encode_image(image, normalize=True)
        read = None if text is None else self.encode_text(text, normalize=True)
        return seen, read, self.logit_scale.exp()


class TrainTransform(Transform):
    """A random part of a picture, squashed to pixels (3, S, S): torch's random numbers, in open_clip's order."""

    def __init__(self, rules: config.Image) -> None:
        """`rules` of the model; only the size, the colours and the order of the steps are read."""
        super().__init__(replace(rules, resize="squash"))

    def __call__(self, picture: Picture) -> Tensor:
        """Raises ImageError."""
        image: PIL.Image.Image = open_picture(picture, published=True)
        box = random_box(*image.size, SCALE, _uniform, lambda n: int(torch.randint(0, n, (1,)).item()))
        return super().__call__(image.crop(box))


class TextTokenizer:
    """Texts to ids, as open_clip's tokenizers are called."""

    def __init__(self, core: Tokenizer, context_length: int | None) -> None:
        """`context_length` of a row; None: the model's."""
        self.core, self.context_length = core, context_length or core.context

    def __call__(self, texts: Any, context_length: int | None = None) -> Tensor:
        """Ids (n, context_length) of a text or texts; long ones are cut."""
        return ids_of(self.core, texts, context_length or self.context_length)[0]

    def decode(self, ids: Any) -> str:
        """The text of a row of ids."""
        return self.core.decode([int(i) for i in ids])


def create_model(model_name: str, pretrained: str | None = None, device: Any = None, **options: Any) -> CLIP:
    """The model alone: see `create_model_and_transforms`."""
    return _load(model_name, pretrained, device, options)[0]


def create_model_and_transforms(
    model_name: str, pretrained: str | None = None, device: Any = None, **options: Any
) -> tuple[CLIP, TrainTransform, Transform]:
    """A model, and what makes pixels of pictures for training and otherwise.

    model_name: an architecture of open_clip with pretrained="openai" or the path of a weight file; or, without
    pretrained, "hf-hub:org/name", "local-dir:path", and whatever `cjkclip.load` takes. Options: `sources.LOAD`, and
    precision, of which there is "fp32".
    """
    model, rules = _load(model_name, pretrained, device, options)
    return model, TrainTransform(rules), Transform(rules)


def create_model_from_pretrained(
    model_name: str, pretrained: str | None = None, device: Any = None, **options: Any
) -> tuple[CLIP, Transform]:
    """A model, and what makes pixels of a picture: see `create_model_and_transforms`."""
    model, rules = _load(model_name, pretrained, device, options)
    return model, Transform(rules)


def get_tokenizer(model_name: str, context_length: int | None = None, **options: Any) -> TextTokenizer:
    """The tokenizer of a name as above; an architecture alone has OpenAI's. Options: `sources.LOAD`."""
    known(options, LOAD, "open_clip.get_tokenizer")
    name = _plain(model_name)
    core = clip_bpe(OPEN_CLIP) if name in ARCHITECTURES else tokenizer_of(loaded(name, options))
    return TextTokenizer(core, context_length)


def _load(model_name: str, pretrained: str | None, device: Any, options: dict[str, Any]) -> tuple[CLIP, config.Image]:
    known(options, (*LOAD, "precision"), "open_clip.create_model")
    if options.pop("precision", "fp32") != "fp32":
        raise InputError("precision: only 'fp32' is built; call .half() or .bfloat16() on the model")
    clip = loaded(_source(model_name, pretrained), options, engine="torch", device=device)
    return CLIP(clip), rules_of(clip)


def _source(model_name: str, pretrained: str | None) -> str:
    """What `cjkclip.load` finds the weights by."""
    name = _plain(model_name)
    if pretrained and Path(pretrained).expanduser().exists():
        return pretrained
    if pretrained not in (None, "", "openai") or (pretrained == "openai" and name not in ARCHITECTURES):
        raise InputError(
            f"pretrained={pretrained!r} for {model_name!r} is neither a file nor OpenAI's; name the weights "
            "themselves: create_model_and_transforms('hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K')"
        )
    if not pretrained and name in ARCHITECTURES:
        raise InputError(f"{model_name!r} alone means random weights, which are not built here: pretrained='openai'")
    return name


def _plain(model_name: str) -> str:
    """A name without open_clip's marks. The activation of OpenAI's weights is known, so "-quickgelu" adds nothing."""
    return model_name.removeprefix("local-dir:").removeprefix("hf-hub:").removesuffix("-quickgelu")


def _uniform(low: float, high: float) -> float:
    return float(torch.empty(1).uniform_(low, high).item())
