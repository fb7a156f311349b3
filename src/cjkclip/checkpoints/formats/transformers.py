"""transformers' CLIPModel: names, config.json, preprocessor_config.json, as transformers 4 and 5 write them.

Facts: transformers 5.23.0 (configuration_clip, modeling_clip, image_processing_clip). A key that is missing in
config.json has the default of transformers' class. Unsupported options that change the arithmetic or the pixels raise
FactsError.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, cast

from cjkclip.checkpoints.formats import CLIP_TEXT, CLIP_VIT, Checkpoint, Format, Parts
from cjkclip.checkpoints.formats.pixels import OPENAI_MEAN, OPENAI_STD
from cjkclip.checkpoints.layouts import Layout, Row
from cjkclip.config import Encoder, Image, Model, Text, Vit
from cjkclip.errors import FactsError, LayoutError
from cjkclip.text import Tokenizer
from cjkclip.text.bpe import Bpe

# Value of text_config.eos_token_id for which transformers pools at the largest id (see docs/decisions).
LEGACY_EOS = 2
_FILTERS: dict[int, Literal["bicubic", "bilinear"]] = {2: "bilinear", 3: "bicubic"}


def _block_rows(ours: str, theirs: str) -> tuple[Row, ...]:
    ours, theirs = ours + ".blocks.{i}", theirs + "encoder.layers.{i}"
    return (
        *(Row(f"{ours}.attn.{n}.{{p}}", f"{theirs}.self_attn.{n}_proj.{{p}}") for n in ("q", "k", "v", "out")),
        *(Row(f"{ours}.ln{n}.{{p}}", f"{theirs}.layer_norm{n}.{{p}}") for n in "12"),
        *(Row(f"{ours}.mlp.fc{n}.{{p}}", f"{theirs}.mlp.fc{n}.{{p}}") for n in "12"),
    )


def vision_rows(prefix: str) -> tuple[Row, ...]:
    """Return the rows of CLIPVisionModel under a prefix."""
    return (
        Row("vision.cls", f"{prefix}embeddings.class_embedding"),
        Row("vision.position.weight", f"{prefix}embeddings.position_embedding.weight"),
        Row("vision.patch.weight", f"{prefix}embeddings.patch_embedding.weight"),
        Row("vision.ln_pre.{p}", f"{prefix}pre_layrnorm.{{p}}"),  # the published spelling has no "e"
        Row("vision.ln_post.{p}", f"{prefix}post_layernorm.{{p}}"),
        *_block_rows("vision", prefix),
    )


def text_rows(prefix: str) -> tuple[Row, ...]:
    """Return the rows of CLIPTextModel under a prefix."""
    return (
        Row("text.token.weight", f"{prefix}embeddings.token_embedding.weight"),
        Row("text.position.weight", f"{prefix}embeddings.position_embedding.weight"),
        Row("text.ln_final.{p}", f"{prefix}final_layer_norm.{{p}}"),
        *_block_rows("text", prefix),
    )


SCALE = Row("logit_scale", "logit_scale")
VISION_PROJ = Row("vision.proj.weight", "visual_projection.weight")
TEXT_PROJ = Row("text.proj.weight", "text_projection.weight")
IDS = ("*position_ids",)  # buffers that transformers before 4.31 saved
_SHARED: dict[str, Any] = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "num_hidden_layers": 12}
VISION_DEFAULTS: dict[str, Any] = _SHARED | {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 32,
    "num_channels": 3,
}
TEXT_DEFAULTS: dict[str, Any] = _SHARED | {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_attention_heads": 8,
    "vocab_size": 49_408,
    "max_position_embeddings": 77,
    "eos_token_id": 49_407,
}


def encoder(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that every encoder has, from transformers' names."""
    return {
        "width": record["hidden_size"],
        "depth": record["num_hidden_layers"],
        "heads": record["num_attention_heads"],
        "mlp": record["intermediate_size"],
        "act": record["hidden_act"],
        "eps": record["layer_norm_eps"],
    }


def tower_fields(whole: Mapping[str, Any], name: str, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tower's fields of a config.json: nested, flat (a single tower), or in the older `name`_dict."""
    return {**defaults, **overridden(whole.get(name, whole), whole.get(name + "_dict"), defaults)}


def overridden(
    fields: Mapping[str, Any] | None, older: Mapping[str, Any] | None, defaults: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a tower's fields. The older form overrides them, and transformers completes it with defaults.

    >>> overridden({"hidden_act": "gelu", "hidden_size": 8}, {"hidden_size": 24}, {"hidden_act": "quick_gelu"})
    {'hidden_act': 'quick_gelu', 'hidden_size': 24}
    """
    inner = cast(Mapping[str, Any], fields)
    return {**inner} if older is None else {**(inner or {}), **defaults, **older}


def read_vision(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return the image tower's record from a config.json."""
    vision = tower_fields(whole, "vision_config", VISION_DEFAULTS)
    if vision["num_channels"] != 3:
        raise FactsError(f"config.json: num_channels is {vision['num_channels']}, expected 3")
    return CLIP_VIT | {"image_size": vision["image_size"], "patch": vision["patch_size"]} | encoder(vision)


def read_text(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return the text tower's record from a config.json."""
    text = tower_fields(whole, "text_config", TEXT_DEFAULTS)
    eos = text["eos_token_id"]
    fields = CLIP_TEXT | {"vocab": text["vocab_size"], "context": text["max_position_embeddings"], "eot": eos}
    return fields | {"pool": "largest-id" if eos == LEGACY_EOS else "first-eot"} | encoder(text)


def config_json(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return config.json, which `find_format` requires."""
    return cast(dict[str, Any], checkpoint.json("config.json"))


def read_both(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return CLIPModel's record from its config.json, without preprocessing."""
    record = {"vision": read_vision(whole), "text": read_text(whole), "image": None}
    return record | {"embed": whole.get("projection_dim", 512), "scale": None}


def _read(checkpoint: Checkpoint) -> dict[str, Any]:
    return read_both(config_json(checkpoint)) | {"image": read_image(checkpoint)}


def read_image(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Return the preprocessing of preprocessor_config.json (transformers 4) or processor_config.json (5), or None."""
    record = checkpoint.json("preprocessor_config.json")
    if record is None:
        record = (checkpoint.json("processor_config.json") or {}).get("image_processor")
    if record is None:
        return None
    _check_steps(record, checkpoint.source)
    size, resample = record.get("size", 224), record.get("resample", 3)
    size = {"shortest_edge": size} if isinstance(size, int) else size
    short = "shortest_edge" in size
    side = size["shortest_edge"] if short else size["height"]
    cropped = record.get("do_center_crop", True)
    if short and not cropped:
        raise FactsError(
            f"{checkpoint.source}: preprocessing with size {size} and no crop gives images that are not square, which "
            "is not supported. Expected a crop, or a size with height and width"
        )
    crop = record.get("crop_size", side) if cropped else side
    crop = {"height": crop, "width": crop} if isinstance(crop, int) else crop
    if resample not in _FILTERS or crop != {"height": side, "width": side} or size.get("width", side) != side:
        raise FactsError(
            f"{checkpoint.source}: preprocessing with size {size}, crop {crop}, resample {resample} is not supported. "
            f"Expected the same side for size and crop, and resample in {sorted(_FILTERS)}"
        )
    return {
        "size": side,
        "resize": "short-side" if short else "squash",
        "filter": _FILTERS[resample],
        "crop": "floor",
        "rgb": "first",
        "alpha": "white",  # transformers 5; transformers 4 dropped it
        "mean": tuple(record.get("image_mean", OPENAI_MEAN)),
        "std": tuple(record.get("image_std", OPENAI_STD)),
    }


def _check_steps(record: Mapping[str, Any], source: str) -> None:
    """Raise FactsError for preprocessing steps that are not supported."""
    steps = ("do_resize", "do_rescale", "do_normalize", "do_convert_rgb")
    wrong = [f"{step}=false" for step in steps if record.get(step) is False]
    if wrong or record.get("do_pad"):
        raise FactsError(f"{source}: preprocessing with {', '.join(wrong) or 'do_pad=true'} is not supported")
    factor = record.get("rescale_factor", 1 / 255)
    if not math.isclose(factor, 1 / 255, rel_tol=1e-6):  # a file may contain the digits of a float32
        raise FactsError(f"{source}: preprocessing with rescale_factor {factor!r:.80} is not supported, expected 1/255")


def bpe_tokenizer(checkpoint: Checkpoint, config: Model) -> Tokenizer | None:
    """Return the byte-pair tokenizer beside the weights, or None."""
    folder = checkpoint.folder
    if config.text is None or not any((folder / n).is_file() for n in ("tokenizer.json", "merges.txt")):
        return None
    return Bpe.from_transformers(folder, context=config.text.context)


def encoder_json(config: Encoder) -> dict[str, Any]:
    """Return transformers' names and values of an encoder."""
    return {
        "hidden_size": config.width,
        "num_hidden_layers": config.depth,
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp,
        "hidden_act": config.act,
        "layer_norm_eps": config.eps,
    }


def both_json(config: Model, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Return CLIPModel's config.json. Raises LayoutError if CLIPModel cannot hold the towers."""
    vision, text = config.vision, config.text
    if not (isinstance(vision, Vit) and vision.pre_norm and isinstance(text, Text)):
        raise LayoutError(
            "transformers' CLIPModel needs a ViT and a causal text tower, which this model lacks. Use layout 'cjkclip'"
        )
    whole: dict[str, Any] = {"model_type": "clip", "architectures": ["CLIPModel"], "projection_dim": config.embed}
    return whole | {
        "vision_config": vision_json(vision, config.embed),
        "text_config": text_json(text, config.embed, tokenizer),
    }


def _write(parts: Parts, folder: Path) -> None:
    config, tokenizer = parts.config, parts.tokenizer
    dump(folder / "config.json", both_json(config, tokenizer))
    if isinstance(tokenizer, Bpe):
        tokenizer.save_transformers(folder)
    if config.image is not None:
        dump(folder / "preprocessor_config.json", image_json(config.image))


def text_json(text: Text, embed: int, tokenizer: Tokenizer | None) -> dict[str, Any]:
    """Return the text tower's part of config.json."""
    sizes = {"projection_dim": embed, "vocab_size": text.vocab, "max_position_embeddings": text.context}
    ids: dict[str, int] = {"eos_token_id": LEGACY_EOS if text.pool == "largest-id" else text.eot}
    if isinstance(tokenizer, Bpe):
        ids |= {"bos_token_id": tokenizer.sot, "pad_token_id": tokenizer.pad}
    return {"model_type": "clip_text_model"} | sizes | ids | encoder_json(text)


def vision_json(vision: Vit, embed: int) -> dict[str, Any]:
    """Return the image tower's part of config.json."""
    sizes = {"image_size": vision.image_size, "patch_size": vision.patch, "projection_dim": embed}
    return {"model_type": "clip_vision_model"} | sizes | encoder_json(vision)


def image_json(image: Image) -> dict[str, Any]:
    """Return preprocessor_config.json, as transformers writes it."""
    square = {"height": image.size, "width": image.size}
    short = image.resize == "short-side"
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": image.size} if short else square,
        "resample": {name: number for number, name in _FILTERS.items()}[image.filter],
        "do_center_crop": short,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": asdict(image)["mean"],
        "image_std": asdict(image)["std"],
        "do_convert_rgb": True,
    }


def dump(path: Path, data: Mapping[str, Any]) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(data, indent=2) + "\n", "utf-8")


CLIP_MODEL = Format(
    layout=Layout(
        name="transformers",
        rows=(SCALE, *vision_rows("vision_model."), VISION_PROJ, *text_rows("text_model."), TEXT_PROJ),
        marks=("vision_model.pre_layrnorm.weight", "text_model.final_layer_norm.weight", "logit_scale"),
        harmless=IDS,
    ),
    read=_read,
    tokenizer=bpe_tokenizer,
    write=_write,
    model_types=("clip", None),
)
