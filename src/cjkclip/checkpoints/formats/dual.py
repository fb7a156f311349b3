"""transformers' VisionTextDualEncoderModel with a CLIP image tower and a BERT, a common form of distilled models.

Facts: transformers 5.23.0 (modeling_vision_text_dual_encoder): both sides are projected, the text from BERT's pooler.
Version 4 wrote the image tower's names under a doubled prefix, version 5 under a single one.
"""

from pathlib import Path
from typing import Any

from cjkclip.checkpoints.formats import Checkpoint, Format, Parts
from cjkclip.checkpoints.formats.bert import bert_json, bert_rows, read_bert, wordpiece_tokenizer
from cjkclip.checkpoints.formats.transformers import (
    IDS,
    SCALE,
    TEXT_PROJ,
    VISION_PROJ,
    config_json,
    dump,
    image_json,
    read_image,
    read_vision,
    vision_json,
    vision_rows,
)
from cjkclip.checkpoints.layouts import Layout, Row
from cjkclip.config import Bert, Vit
from cjkclip.errors import FactsError, LayoutError
from cjkclip.text.wordpiece import WordPiece

MODEL_TYPE = "vision-text-dual-encoder"
TOWERS = {"vision_config": "clip_vision_model", "text_config": "bert"}


def dual_rows(vision_prefix: str) -> tuple[Row, ...]:
    """Return the rows of a CLIP image tower and a BERT, each with a projection."""
    return (SCALE, *vision_rows(vision_prefix), VISION_PROJ, *bert_rows("text_model."), TEXT_PROJ)


def read_dual(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the config record of both towers."""
    whole = config_json(checkpoint)
    text = read_bert(whole.get("text_config", {}), "pooler-project")
    record = {"vision": read_vision(whole), "text": text, "image": read_image(checkpoint)}
    return record | {"embed": whole.get("projection_dim", 512), "scale": None}


def write_dual(parts: Parts, folder: Path, model_type: str, kind: str) -> None:
    """Write the side files of `save`; `kind` is the published class."""
    config = parts.config
    if not (isinstance(config.vision, Vit) and isinstance(config.text, Bert)):
        raise LayoutError(f"{kind} needs a CLIP ViT and a BERT, which this model lacks. Use layout 'cjkclip'")
    whole: dict[str, Any] = {"model_type": model_type, "architectures": [kind], "projection_dim": config.embed}
    whole |= {"vision_config": vision_json(config.vision, config.embed)}
    whole["text_config"] = {"model_type": "bert"} | bert_json(config.text)
    dump(folder / "config.json", whole)
    if config.image is not None:
        dump(folder / "preprocessor_config.json", image_json(config.image))
    if isinstance(parts.tokenizer, WordPiece):
        parts.tokenizer.save_transformers(folder)


def _read(checkpoint: Checkpoint) -> dict[str, Any]:
    whole = config_json(checkpoint)
    kinds = {name: whole.get(name, {}).get("model_type") for name in TOWERS}
    if kinds != TOWERS:
        raise FactsError(f"{checkpoint.source}: the model types of the dual encoder are {kinds}, expected {TOWERS}")
    return read_dual(checkpoint)


def _write(parts: Parts, folder: Path) -> None:
    text = parts.config.text
    if isinstance(text, Bert) and text.head != "pooler-project":
        raise LayoutError(
            f"VisionTextDualEncoderModel projects BERT's pooler, but this text tower has head {text.head!r}. Use "
            "layout 'cjkclip'"
        )
    write_dual(parts, folder, MODEL_TYPE, "VisionTextDualEncoderModel")


def _dual(name: str, prefix: str) -> Format:
    marks = (f"{prefix}pre_layrnorm.weight", "text_model.pooler.dense.weight", "logit_scale")
    return Format(
        layout=Layout(name=name, rows=dual_rows(prefix), marks=marks, harmless=IDS),
        model_type=MODEL_TYPE,
        read=_read,
        tokenizer=wordpiece_tokenizer,
        write=_write,
    )


DUAL = (
    _dual("transformers_dual", "vision_model.vision_model."),
    _dual("transformers_dual_bare", "vision_model."),
)
