"""The functions of japanese_clip: load, load_tokenizer, tokenize, available_models.

    import cjkclip.compat.japanese_clip as ja_clip       # was: import japanese_clip as ja_clip

Token ids, pixels and features equal those of version 0.2.0, which cannot be imported with current libraries. Needs the
extra `torch`. Positions that do not count from 0 are rejected, because no model of rinna was trained with them.
"""

from pathlib import Path
from typing import Any, NamedTuple

from cjkclip.checkpoints.families import family
from cjkclip.compat.sources import LOAD, load_clip, require_known, resolve_source
from cjkclip.compat.towers import Tensor, TorchClip, Transform, ids_of, rules_of, tokenizer_of, unit
from cjkclip.engines.torch.compiling import traced
from cjkclip.errors import InputError
from cjkclip.text import Tokenizer
from cjkclip.text.unigram import RINNA, Unigram

__all__ = ["available_models", "load", "load_tokenizer", "tokenize"]

VOCABULARY = "rinna/japanese-roberta-base"  # both models use its spiece.model


class Output(NamedTuple):
    """Output of the model: scaled cosine similarities, and features of unit length."""

    logits_per_image: Tensor  # (n, m)
    logits_per_text: Tensor  # (m, n)
    text_embeds: Tensor  # (m, E)
    image_embeds: Tensor  # (n, E)


class JapaneseCLIP(TorchClip):
    """rinna's CLIP or CLOOB. Features of the get_ methods are not normalised."""

    def get_image_features(self, pixel_values: Tensor) -> Tensor:
        """Return features (n, E) of pixels (n, 3, S, S)."""
        return self.image_features(pixel_values)

    def get_text_features(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
    ) -> Tensor:
        """Return features (n, E) of ids (n, L) from `tokenize`."""
        if position_ids is not None and not traced() and not bool((position_ids == _positions(input_ids)).all()):
            raise InputError("position_ids must be 0, 1, 2 and so on in each row, as from tokenize(): leave them out")
        return self.text_features(input_ids, attention_mask)

    encode_image, encode_text = get_image_features, get_text_features

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Output:
        """Return scaled cosine similarities of texts and images. CLOOB's scale is its inverse temperature."""
        text = unit(self.get_text_features(input_ids, attention_mask, position_ids))
        image = unit(self.get_image_features(pixel_values))
        per_image, per_text = self.logits(image, text)
        return Output(per_image, per_text, text, image)


def available_models() -> list[str]:
    """Return the names of rinna's released models."""
    return [release.name for release in family("rinna").releases]


def load(model_name: str | Path, device: Any = None, **options: Any) -> tuple[JapaneseCLIP, Transform]:
    """Load a model, with gradients off as in the package; return it with its image transform to (3, S, S).

    model_name: a model of rinna, or any other name for `cjkclip.load`. Options: cache_dir, revision and `sources.LOAD`.
    """
    require_known(options, LOAD, "japanese_clip.load")
    clip = load_clip(model_name, options, engine="torch", device=device)
    return JapaneseCLIP(clip).requires_grad_(False), Transform(rules_of(clip))


def load_tokenizer(name: str | Path = VOCABULARY, **options: Any) -> Tokenizer:
    """Load rinna's tokenizer from its repository or a directory with spiece.model, or the one of any other model."""
    require_known(options, LOAD, "japanese_clip.load_tokenizer")
    source = resolve_source(name, options, small=True)
    file = source.path / "spiece.model"
    return Unigram.from_file(file, RINNA) if file.is_file() else tokenizer_of(load_clip(source, options))


def tokenize(
    texts: Any, max_seq_len: int = 77, device: Any = None, tokenizer: Tokenizer | None = None
) -> dict[str, Tensor]:
    """Return input_ids, attention_mask and position_ids, each (n, max_seq_len), of a text or texts; cut long texts."""
    ids, mask = ids_of(tokenizer or load_tokenizer(), texts, max_seq_len)
    tensors = {"input_ids": ids, "attention_mask": mask, "position_ids": _positions(ids)}
    return tensors if device is None else {name: tensor.to(device) for name, tensor in tensors.items()}


def _positions(ids: Tensor) -> Tensor:
    return ids.new_ones(ids.shape).cumsum(dim=1) - 1
