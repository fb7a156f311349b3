"""open_clip's CLIP and CustomTextCLIP: OpenAI's names and open_clip_config.json.

Facts: open_clip_torch 3.3.0 (model.py: CLIPVisionCfg, CLIPTextCfg; transform.py). An option that is missing in the file
has the default of open_clip's class. An option that cjkclip does not read may stand there with its default, which
changes nothing; another value raises FactsError, since it could change the arithmetic.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from cjkclip.checkpoints.formats import CLIP_TEXT, CLIP_VIT, Checkpoint, Parts
from cjkclip.checkpoints.formats.openai import published_form
from cjkclip.checkpoints.formats.pixels import OPENAI_MEAN, OPENAI_STD, torchvision_rules
from cjkclip.checkpoints.formats.transformers import dump
from cjkclip.config import Image, Text, Vit
from cjkclip.errors import FactsError, LayoutError
from cjkclip.text.bpe import Bpe

FILE = "open_clip_config.json"
EPS = 1e-5  # of torch's LayerNorm
# The options that are read, with open_clip's defaults.
VISION: dict[str, Any] = {
    "layers": 12,
    "width": 768,
    "head_width": 64,
    "mlp_ratio": 4.0,
    "patch_size": 16,
    "image_size": 224,
    "no_ln_pre": False,
    "norm_kwargs": None,
}
TEXT: dict[str, Any] = {
    "context_length": 77,
    "vocab_size": 49_408,
    "width": 512,
    "heads": 8,
    "layers": 12,
    "mlp_ratio": 4.0,
    "pool_type": "argmax",
    "eos_id": 2,
    "norm_kwargs": None,
}
MODEL: dict[str, Any] = {"vision_cfg": {}, "text_cfg": {}, "quick_gelu": False, "custom_text": False}
PIXELS: dict[str, Any] = {
    "size": None,
    "mean": OPENAI_MEAN,
    "std": OPENAI_STD,
    "interpolation": "bicubic",
    "resize_mode": "shortest",
}
# The other options: IDLE are accepted as None or at these values, which change nothing; ANY with any value, since only
# training reads them, or only together with another option.
_SWITCHES = ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc")
_BLOCK = {"block_type": ("default",)} | dict.fromkeys(_SWITCHES, (False,))
IDLE_VISION: dict[str, tuple[Any, ...]] = _BLOCK | {
    "ls_init_value": (),
    "attentional_pool": (False, ""),
    "pos_embed_type": ("learnable",),
    "final_ln_after_pool": (False,),
    "pool_type": ("tok",),
    "act_kwargs": ({},),
    "timm_model_name": ("",),
}
IDLE_TEXT: dict[str, tuple[Any, ...]] = _BLOCK | {
    "hf_tokenizer_name": ("",),
    "tokenizer_mode": ("",),
    "tokenizer_kwargs": ({},),
    "ls_init_value": (),
    "embed_cls": (False,),
    "no_causal_mask": (False,),
    "final_ln_after_pool": (False,),
    "proj_bias": (False,),
    "proj_type": ("linear",),
    "act_kwargs": ({},),
    "hf_model_name": ("",),
}
ANY_VISION = {"patch_dropout", "output_tokens", "attn_pooler_queries", "attn_pooler_heads"} | {
    f"timm_{name}" for name in ("model_pretrained", "pool", "proj", "proj_bias", "drop", "drop_path")
}
ANY_TEXT = {"output_tokens", "pad_id", "hf_model_pretrained", "hf_proj_type", "hf_pooler_type"}
ANY_MODEL = {"init_logit_scale", "nonscalar_logit_scale", "cast_dtype", "output_dict"}


def read_open_clip(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the config record of open_clip_config.json, or of a bare model config of open_clip in that file."""
    whole = cast(dict[str, Any], checkpoint.json(FILE))
    pixels = whole.pop("preprocess_cfg", {})
    return read_config(whole.get("model_cfg", whole), pixels)


def read_config(model_cfg: Mapping[str, Any], preprocess_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config record of open_clip's `model_cfg` and `preprocess_cfg`."""
    model = _options(
        model_cfg, MODEL | {"embed_dim": model_cfg["embed_dim"]}, {"init_logit_bias": ()}, ANY_MODEL, "model_cfg"
    )
    vision = _options(model["vision_cfg"], VISION, IDLE_VISION, ANY_VISION, "vision_cfg")
    text = _options(model["text_cfg"], TEXT, IDLE_TEXT, ANY_TEXT, "text_cfg")
    act = "quick_gelu" if model["quick_gelu"] else "gelu"
    vision_fields = _vision(vision, act)
    record = {"vision": vision_fields, "text": _text(text, act), "embed": model["embed_dim"], "scale": None}
    return record | {"image": _image(preprocess_cfg, vision_fields["image_size"])}


def _options(
    record: Mapping[str, Any],
    read: Mapping[str, Any],
    idle: Mapping[str, tuple[Any, ...]],
    any_value: set[str],
    where: str,
) -> dict[str, Any]:
    """Return the options that are read, completed with defaults. Raises FactsError for one that is not supported."""
    wrong = {name: value for name, value in record.items() if name not in read and name not in any_value}
    wrong = {n: v for n, v in wrong.items() if not (n in idle and (v is None or v in idle[n]))}
    if wrong:
        raise FactsError(
            f"{FILE}: {where} has unsupported options {wrong}. Supported: {sorted(read)}, and any other option of "
            "open_clip at its default value"
        )
    return {**read, **{name: value for name, value in record.items() if name in read}}


def _side(size: Any) -> int:
    """Return one side of a square; open_clip takes one number or two."""
    sides: list[int] = list(cast(Any, size)) if isinstance(size, list | tuple) else [size]
    if len(set(sides)) != 1:
        raise FactsError(f"{FILE}: size {sides} is not supported, expected a square: one number, or one number twice")
    return sides[0]


def _eps(tower: Mapping[str, Any], where: str) -> float:
    norm = dict(tower["norm_kwargs"] or {})
    eps = norm.pop("eps", EPS)
    if norm:
        raise FactsError(f"{FILE}: {where} has unsupported norm_kwargs {norm}. Supported: 'eps'")
    return eps


def _vision(vision: Mapping[str, Any], act: str) -> dict[str, Any]:
    width, layers, head = vision["width"], vision["layers"], vision["head_width"]
    fields = {"image_size": _side(vision["image_size"]), "width": width}
    if isinstance(layers, list | tuple):
        stages = tuple(cast(list[int], layers))
        return fields | {"kind": "resnet", "stages": stages, "heads": width * 32 // head}
    mlp = int(width * vision["mlp_ratio"])
    fields |= CLIP_VIT | {"patch": _side(vision["patch_size"]), "depth": layers, "heads": width // head, "mlp": mlp}
    return fields | {"act": act, "eps": _eps(vision, "vision_cfg"), "pre_norm": not vision["no_ln_pre"]}


def _text(text: Mapping[str, Any], act: str) -> dict[str, Any]:
    width, vocab, pool = text["width"], text["vocab_size"], text["pool_type"]
    ends = {"argmax": ("largest-id", vocab - 1), "eos": ("first-eot", text["eos_id"])}
    if pool not in ends:
        raise FactsError(f"{FILE}: text_cfg has pool_type {pool!r}, expected one of {list(ends)}")
    fields = {"width": width, "depth": text["layers"], "heads": text["heads"], "mlp": int(width * text["mlp_ratio"])}
    fields |= {"act": act, "eps": _eps(text, "text_cfg"), "vocab": vocab, "context": text["context_length"]}
    return CLIP_TEXT | fields | {"pool": ends[pool][0], "eot": ends[pool][1]}


def _image(record: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Return the preprocessing. Its size is the image tower's, as in open_clip, whatever `size` says."""
    rules = _options(record, PIXELS, {"mode": ("RGB",)}, {"fill_color"}, "preprocess_cfg")
    filters = {"bicubic": "bicubic", "random": "bicubic", "bilinear": "bilinear"}  # random: of training only
    ways = {"shortest": "short-side", "squash": "squash"}
    how, way = rules["interpolation"] or "bicubic", rules["resize_mode"] or "shortest"
    if how not in filters or way not in ways:
        raise FactsError(
            f"{FILE}: preprocess_cfg has interpolation {how!r} and resize_mode {way!r}, expected one of "
            f"{list(filters)} and one of {list(ways)}"
        )
    mean, std = rules["mean"] or OPENAI_MEAN, rules["std"] or OPENAI_STD
    return torchvision_rules(size, mean, std) | {"resize": ways[way], "filter": filters[how]}


def _norm_json(eps: float) -> dict[str, Any]:
    return {} if eps == EPS else {"norm_kwargs": {"eps": eps}}


def _write_open_clip(parts: Parts, folder: Path, *, custom: bool = False) -> None:
    config = parts.config
    vision, text = config.vision, config.text
    if vision is None or not isinstance(text, Text):
        raise LayoutError(
            "open_clip's CLIP needs an image tower and a causal text tower, which this model lacks. Use "
            "layout 'cjkclip'"
        )
    shared: dict[str, Any] = {"image_size": vision.image_size, "width": vision.width}
    if isinstance(vision, Vit):
        vision_fields = shared | {"layers": vision.depth, "head_width": vision.width // vision.heads}
        vision_fields |= {"patch_size": vision.patch, "mlp_ratio": vision.mlp / vision.width} | _norm_json(vision.eps)
        vision_fields |= {} if vision.pre_norm else {"no_ln_pre": True}
    else:
        vision_fields = shared | {"layers": list(vision.stages), "head_width": vision.width * 32 // vision.heads}
    if not text.project or (isinstance(vision, Vit) and (vision.act != text.act or not vision.project)):
        raise LayoutError(
            "open_clip's CLIP has one activation and two projections, which this model lacks. Use layout 'cjkclip'"
        )
    text_fields = {"context_length": text.context, "vocab_size": text.vocab, "width": text.width, "heads": text.heads}
    text_fields |= {"layers": text.depth, "mlp_ratio": text.mlp / text.width} | _norm_json(text.eps)
    text_fields |= {"pool_type": "eos", "eos_id": text.eot} if text.pool == "first-eot" else {}
    model = {"embed_dim": config.embed, "vision_cfg": vision_fields, "text_cfg": text_fields}
    model["quick_gelu"] = text.act == "quick_gelu"
    whole: dict[str, Any] = {"model_cfg": model | ({"custom_text": True} if custom else {})}
    if config.image is not None:
        whole["preprocess_cfg"] = _pixels_json(config.image)
    dump(folder / FILE, whole)
    if isinstance(parts.tokenizer, Bpe):
        parts.tokenizer.save_transformers(folder)


def _pixels_json(image: Image) -> dict[str, Any]:
    way = "squash" if image.resize == "squash" else "shortest"
    return {"mean": image.mean, "std": image.std, "interpolation": image.filter, "resize_mode": way}


OPEN_CLIP_FORMATS = (
    *published_form("open_clip", "", FILE, read_open_clip, _write_open_clip),
    *published_form("open_clip_custom", "text.", FILE, read_open_clip, partial(_write_open_clip, custom=True)),
)
