"""A loaded model as a torch module: the base class of the models of cn_clip, japanese_clip and open_clip.

n items, L tokens, S pixels, E joint width. The module computes gradients, is in evaluation mode,
and has no dropout. Its parameters have cjkclip's own names. Needs the extra `torch`.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cjkclip import config
from cjkclip.arrays import Float
from cjkclip.clip import Clip
from cjkclip.errors import FactsError, InputError
from cjkclip.image import Picture, load_pixels
from cjkclip.need import need
from cjkclip.text import Tokenizer, check_texts

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
else:
    torch = need("torch", extra="torch")
    Tensor, nn = torch.Tensor, torch.nn


class TorchClip(nn.Module):
    """Both towers and the logit_scale of a Clip loaded with engine="torch"."""

    def __init__(self, clip: Clip) -> None:
        """Share the towers of the Clip's engine, with their parameters."""
        super().__init__()
        self.towers = cast(Any, clip.engine).towers.requires_grad_(True)
        self.config: config.Model = clip.config
        self.pad = 0 if clip.tokenizer is None else clip.tokenizer.pad

    @property
    def logit_scale(self) -> Tensor:
        """Logarithm of the factor on cosine similarities; a constant if the model has no such parameter (CLOOB)."""
        parameter: Any = self.towers.logit_scale
        if parameter is not None:
            return cast(Tensor, parameter)
        return torch.tensor(math.log(self.config.scale or 1.0), device=self.device)

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the weights; pixels are converted to it."""
        return next(p.dtype for p in self.parameters() if p.is_floating_point())

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    def image_features(self, pixels: Tensor) -> Tensor:
        """Return features (n, E), not normalised, of pixels (n, 3, S, S). Raises InputError."""
        vision = self.config.vision
        if vision is None:
            raise InputError("this model has no image tower: load a checkpoint that contains one to encode images")
        side = vision.image_size
        if pixels.ndim != 4 or pixels.shape[1:] != (3, side, side):
            raise InputError(
                f"got pixels of shape {tuple(pixels.shape)}, expected (n, 3, {side}, {side}): "
                "prepare each image with this model's transform: preprocess(image).unsqueeze(0)"
            )
        return self.towers.vision(pixels.to(self.dtype))

    def text_features(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return features (n, E), not normalised, of ids (n, L). Without a mask, padding is recognised by its id."""
        text = self.config.text
        if text is None:
            raise InputError("this model has no text tower: load a checkpoint that contains one to encode texts")
        if ids.ndim != 2 or not 0 < ids.shape[1] <= text.context or ids.is_floating_point():
            raise InputError(
                f"got ids of shape {tuple(ids.shape)} and type {ids.dtype}; expected whole numbers (n, L), L at most "
                f"{text.context}: make them with this model's tokenizer"
            )
        return self.towers.text(ids, ids.ne(self.pad).long() if mask is None else mask)

    def logits(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosine similarities of unit features times the scale, (n, m) and (m, n)."""
        per_image = self.logit_scale.exp() * image @ text.t()
        return per_image, per_image.t()


def unit(features: Tensor) -> Tensor:
    """Return features scaled to length 1."""
    return nn.functional.normalize(features, dim=-1)


class Transform:
    """Convert one image to pixels (3, S, S) exactly as the original code does."""

    def __init__(self, rules: config.Image) -> None:
        """`rules` is the preprocessing in `Clip.config.image`."""
        self.rules = rules

    def __call__(self, picture: Picture) -> Float[Tensor, "3 S S"]:
        """Return the pixels of an image. Raises ImageError."""
        return torch.from_numpy(load_pixels([picture], self.rules, published=True)[0])


def rules_of(clip: Clip) -> config.Image:
    """Return the preprocessing of a model. Raises FactsError if the checkpoint has none."""
    if clip.config.image is None:
        raise FactsError(
            "this checkpoint has no preprocessing, so it cannot encode images: "
            "put its preprocessor_config.json beside the weights and load again"
        )
    return clip.config.image


def tokenizer_of(clip: Clip) -> Tokenizer:
    """Return the tokenizer of a model. Raises FactsError if the checkpoint has none."""
    if clip.tokenizer is None:
        raise FactsError(
            "this checkpoint has no tokenizer files, so it cannot encode texts: "
            "put them beside the weights and load again"
        )
    return clip.tokenizer


def ids_of(tokenizer: Callable[..., Any], texts: Any, context: int | None) -> tuple[Tensor, Tensor]:
    """Return ids and mask, (n, context), of a text or a list of texts; long texts are cut."""
    if context is not None and (type(context) is not int or context < 2):
        raise InputError(
            f"context length is {context!r}, expected a whole number of at least 2; leave it out for the default"
        )
    tokens = tokenizer(check_texts([texts] if isinstance(texts, str) else texts), context=context)
    ids, mask = (torch.from_numpy(np.ascontiguousarray(array)) for array in (tokens.ids, tokens.mask))
    return ids, mask
