"""cn_clip.clip's names: load_from_name, load, tokenize, available_models, image_transform.

    import cjkclip.compat.cn_clip as clip               # was: import cn_clip.clip as clip

Ids, pixels and features are cn_clip's own on a CPU, weights rounded to fp16 as its loader rounds them. Two things
differ: the model has no dropout to switch off by eval(), and its parameters have cjkclip's names. Needs the extra
`torch`. Refuses: names that cn_clip does not know; masked pictures and separate BERT weights, which only its training
program uses.
"""

from pathlib import Path
from typing import Any

from cjkclip import config
from cjkclip.checkpoints.formats.pixels import squash_rules
from cjkclip.compat.sources import loaded
from cjkclip.compat.towers import Tensor, TorchClip, Transform, ids_of, unit
from cjkclip.engines import ROUNDED
from cjkclip.errors import InputError, ModelNotFoundError
from cjkclip.text.wordpiece import chinese_bert

__all__ = ["available_models", "image_transform", "load", "load_from_name", "tokenize"]

# cn_clip's name -> the repository's name after the organisation, and the file that cn_clip itself downloads
MODELS = {
    "ViT-B-16": ("chinese-clip-vit-base-patch16", "clip_cn_vit-b-16.pt"),
    "ViT-L-14": ("chinese-clip-vit-large-patch14", "clip_cn_vit-l-14.pt"),
    "ViT-L-14-336": ("chinese-clip-vit-large-patch14-336px", "clip_cn_vit-l-14-336.pt"),
    "ViT-H-14": ("chinese-clip-vit-huge-patch14", "clip_cn_vit-h-14.pt"),
    "RN50": ("chinese-clip-rn50", "clip_cn_rn50.pt"),
}
DOWNLOADS = "~/.cache/clip"  # where cn_clip puts its files


class CLIP(TorchClip):
    """cn_clip's model. Features are not normalised unless said."""

    def encode_image(self, image: Tensor, mask_ratio: float = 0) -> Tensor:
        """Features (n, E) of pixels (n, 3, S, S)."""
        if mask_ratio:
            raise InputError(f"mask_ratio is {mask_ratio}: patches are left out only in cn_clip's training program")
        return self.image_features(image)

    def encode_text(self, text: Tensor) -> Tensor:
        """Features (n, E) of ids (n, L); padding is masked."""
        return self.text_features(text)

    def forward(self, image: Tensor | None, text: Tensor | None, mask_ratio: float = 0) -> Any:
        """Unit features of both and the scale; or, if one is None, the features of the other, not normalised."""
        if image is None:
            if text is None:
                raise InputError("image and text are both None: pass at least one")
            return self.encode_text(text)
        if text is None:
            return self.encode_image(image, mask_ratio)
        return unit(self.encode_image(image, mask_ratio)), unit(self.encode_text(text)), self.logit_scale.exp()

    def get_similarity(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Scaled cosines, per image (n, m) and per text (m, n)."""
        return self.logits(unit(self.encode_image(image)), unit(self.encode_text(text)))


def available_models() -> list[str]:
    """cn_clip's names of its released models."""
    return list(MODELS)


def load_from_name(  # the names and their order are cn_clip's
    name: str,
    device: Any = None,
    download_root: str | None = None,
    vision_model_name: str | None = None,
    text_model_name: str | None = None,
    input_resolution: int | None = None,
    use_modelscope: bool = False,
    facts: dict[str, Any] | None = None,
) -> tuple[CLIP, Transform]:
    """A released model by cn_clip's name, or a file of its form; and what makes pixels of a picture.

    A file that cn_clip has downloaded to download_root is used; else huggingface_hub's cache lies there if it is given.
    A file of a size that was not released needs facts, as in `cjkclip.load`; vision_model_name and text_model_name are
    taken, since cn_clip asks for them, but the file tells. Raises ModelNotFoundError, and InputError if the file's
    pictures have another size than input_resolution.
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
        raise ModelNotFoundError(f"{name!r} is no file and none of cn_clip's names: {available_models()}")
    options = {"family": "chinese", "cache_dir": download_root, "facts": facts}
    model = CLIP(loaded(source, options, engine="torch", precision=ROUNDED, device=device))
    size = 0 if model.config.vision is None else model.config.vision.image_size
    if input_resolution not in (None, size):
        raise InputError(f"input_resolution is {input_resolution}, but {source} was made for pictures of {size} pixels")
    return model, image_transform(size)


def load(
    model: CLIP,
    device: Any = None,
    clip_path: str | None = None,
    bert_path: str | None = None,
    use_flash_attention: bool = False,
) -> CLIP:
    """Put the weights of a file into a model of the same size, in place. Raises LayoutError if they do not fit."""
    del use_flash_attention  # the file's names tell whether it is that variant
    if bert_path is not None or clip_path is None:
        raise InputError("load needs clip_path, a file of cn_clip's form; separate BERT weights are for its training")
    stated = {f"{part}.heads": getattr(getattr(model.config, part), "heads", None) for part in ("vision", "text")}
    options = {"family": "chinese", "facts": {name: heads for name, heads in stated.items() if heads is not None}}
    fresh = CLIP(loaded(clip_path, options, engine="torch", precision=ROUNDED, device="cpu"))
    if fresh.config != model.config:
        raise InputError(f"{clip_path} holds a model of another size or kind: {fresh.config} for {model.config}")
    model.load_state_dict(fresh.state_dict())
    return model if device is None else model.to(device)


def tokenize(texts: Any, context_length: int = 52) -> Tensor:
    """Ids (n, context_length) of a text or texts: [CLS], up to context_length - 2 pieces, [SEP], zeros."""
    return ids_of(chinese_bert(), texts, context_length)[0]


def image_transform(image_size: int = 224) -> Transform:
    """Pixels (3, S, S) of a picture: squashed to a square, as every model of cn_clip takes it."""
    return Transform(config.Image(**squash_rules(image_size)))
