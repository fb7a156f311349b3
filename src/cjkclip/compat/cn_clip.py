"""The functions of cn_clip.clip: load_from_name, load, tokenize, available_models, image_transform.

    import cjkclip.compat.cn_clip as clip               # was: import cn_clip.clip as clip

Token ids, pixels and features equal cn_clip's on a CPU; weights are rounded to fp16 as in its loader. Two differences:
the model has no dropout that eval() must turn off, and its parameters have cjkclip's names. Needs the extra `torch`.
Masked images and separate BERT weights are rejected, since only cn_clip's training program uses them.
"""

from pathlib import Path
from typing import Any

from cjkclip import config
from cjkclip.checkpoints.formats.pixels import squash_rules
from cjkclip.compat.sources import load_clip
from cjkclip.compat.towers import Tensor, TorchClip, Transform, ids_of, unit
from cjkclip.engines import ROUNDED
from cjkclip.errors import InputError, ModelNotFoundError
from cjkclip.text.wordpiece import chinese_bert

__all__ = ["available_models", "image_transform", "load", "load_from_name", "tokenize"]

# cn_clip's name -> the repository's name without its organisation, and the file that cn_clip itself downloads
MODELS = {
    "ViT-B-16": ("chinese-clip-vit-base-patch16", "clip_cn_vit-b-16.pt"),
    "ViT-L-14": ("chinese-clip-vit-large-patch14", "clip_cn_vit-l-14.pt"),
    "ViT-L-14-336": ("chinese-clip-vit-large-patch14-336px", "clip_cn_vit-l-14-336.pt"),
    "ViT-H-14": ("chinese-clip-vit-huge-patch14", "clip_cn_vit-h-14.pt"),
    "RN50": ("chinese-clip-rn50", "clip_cn_rn50.pt"),
}
DOWNLOADS = "~/.cache/clip"  # cn_clip's own download directory


class CLIP(TorchClip):
    """Model with cn_clip's methods. Features are not normalised unless a method's docstring states it."""

    def encode_image(self, image: Tensor, mask_ratio: float = 0) -> Tensor:
        """Return features (n, E) of pixels (n, 3, S, S)."""
        if mask_ratio:
            raise InputError(
                f"mask_ratio is {mask_ratio}, expected 0: only cn_clip's training program drops patches; leave it out"
            )
        return self.image_features(image)

    def encode_text(self, text: Tensor) -> Tensor:
        """Return features (n, E) of ids (n, L); padding is masked."""
        return self.text_features(text)

    def forward(self, image: Tensor | None, text: Tensor | None, mask_ratio: float = 0) -> Any:
        """Return unit features of both inputs and the scale; if one is None, the other's features, not normalised."""
        if image is None:
            if text is None:
                raise InputError("image and text are both None: pass pixels as image=, token ids as text=, or both")
            return self.encode_text(text)
        if text is None:
            return self.encode_image(image, mask_ratio)
        return unit(self.encode_image(image, mask_ratio)), unit(self.encode_text(text)), self.logit_scale.exp()

    def get_similarity(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return scaled cosine similarities, per image (n, m) and per text (m, n)."""
        return self.logits(unit(self.encode_image(image)), unit(self.encode_text(text)))


def available_models() -> list[str]:
    """Return cn_clip's names of its released models."""
    return list(MODELS)


def load_from_name(  # parameter names and order are cn_clip's
    name: str,
    device: Any = None,
    download_root: str | None = None,
    vision_model_name: str | None = None,
    text_model_name: str | None = None,
    input_resolution: int | None = None,
    use_modelscope: bool = False,
    facts: dict[str, Any] | None = None,
) -> tuple[CLIP, Transform]:
    """Load a released model by cn_clip's name, or a file in its format; return it and its image transform.

    If cn_clip has already downloaded the file to download_root, it is used. Otherwise download_root, if given, is the
    cache of huggingface_hub. A file of an unreleased size needs facts, as in `cjkclip.load`. vision_model_name and
    text_model_name have no effect, because the file determines the towers. Raises ModelNotFoundError, and InputError if
    input_resolution is not the model's image size.
    """
    del vision_model_name, text_model_name
    file = (
        Path(download_root or DOWNLOADS).expanduser() / MODELS[name][1] if name in MODELS else Path(name).expanduser()
    )
    if file.is_file():
        source = str(file)
    elif name in MODELS:
        source = f"{'modelscope:AI-ModelScope' if use_modelscope else 'OFA-Sys'}/{MODELS[name][0]}"
    else:
        raise ModelNotFoundError(
            f"{name!r} is neither a file nor a model name of cn_clip: pass a path or one of {available_models()}"
        )
    options = {"family": "chinese", "cache_dir": download_root, "facts": facts}
    model = CLIP(load_clip(source, options, engine="torch", precision=ROUNDED, device=device))
    size = 0 if model.config.vision is None else model.config.vision.image_size
    if input_resolution not in (None, size):
        raise InputError(f"input_resolution is {input_resolution}, but {source} needs input_resolution={size}, or none")
    return model, image_transform(size)


def load(
    model: CLIP,
    device: Any = None,
    clip_path: str | None = None,
    bert_path: str | None = None,
    use_flash_attention: bool = False,
) -> CLIP:
    """Load the weights of a file into a model of the same size, in place. Raises LayoutError if they do not fit."""
    del use_flash_attention  # the tensor names in the file show whether it is that variant
    if bert_path is not None or clip_path is None:
        raise InputError(
            f"got clip_path={clip_path!r} and bert_path={bert_path!r}, expected a whole checkpoint of cn_clip: "
            "load(model, clip_path='clip_cn_vit-b-16.pt')"
        )
    heads = {f"{part}.heads": getattr(getattr(model.config, part), "heads", None) for part in ("vision", "text")}
    options = {"family": "chinese", "facts": {name: count for name, count in heads.items() if count is not None}}
    fresh = CLIP(load_clip(clip_path, options, engine="torch", precision=ROUNDED, device="cpu"))
    if fresh.config != model.config:
        raise InputError(
            f"{clip_path} contains a model of another size or kind: {fresh.config}, expected {model.config}; "
            f"load it with load_from_name({clip_path!r})"
        )
    model.load_state_dict(fresh.state_dict())
    return model if device is None else model.to(device)


def tokenize(texts: Any, context_length: int = 52) -> Tensor:
    """Return ids (n, context_length) of a text or texts: [CLS], up to context_length - 2 tokens, [SEP], zeros."""
    return ids_of(chinese_bert(), texts, context_length)[0]


def image_transform(image_size: int = 224) -> Transform:
    """Return the transform of an image to pixels (3, S, S): resized to a square, as for every model of cn_clip."""
    return Transform(config.Image(**squash_rules(image_size)))
