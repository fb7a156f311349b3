"""transformers' VisionTextDualEncoderModel: a CLIP image tower or a ViT, with a BERT, RoBERTa or XLM-R.

Facts: transformers 5.23.0 (modeling_vision_text_dual_encoder): both sides are projected, the text from its pooler, the
image from the class token of a CLIP tower or from the pooler of a ViT. Version 4 wrote the names of a CLIP tower under
a doubled prefix, version 5 under a single one.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

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
from cjkclip.checkpoints.formats.vit import POOLER, VIT_ROWS, plain_vit_json, read_plain_vit
from cjkclip.checkpoints.layouts import Layout, Row
from cjkclip.config import Bert, Model, PooledVit, Vit
from cjkclip.errors import FactsError, LayoutError
from cjkclip.text import Tokenizer
from cjkclip.text.fast import Fast, is_fast
from cjkclip.text.wordpiece import WordPiece

MODEL_TYPE = "vision-text-dual-encoder"
TEXTS: dict[str, Literal["bert", "roberta"]] = {"bert": "bert", "roberta": "roberta", "xlm-roberta": "roberta"}
CLIP, VIT = "clip_vision_model", "vit"  # model types of the image towers


def dual_rows(vision_prefix: str) -> tuple[Row, ...]:
    """Return the rows of a CLIP image tower and a BERT, each with a projection."""
    return (SCALE, *vision_rows(vision_prefix), VISION_PROJ, *bert_rows("text_model."), TEXT_PROJ)


def read_dual(checkpoint: Checkpoint, vision: str = CLIP, text: Literal["bert", "roberta"] = "bert") -> dict[str, Any]:
    """Return the config record of an image tower of model type `vision` and a text tower."""
    whole = config_json(checkpoint)
    if vision == VIT:
        seen = read_plain_vit(_part(whole, "vision_config"), "vit-pooler", checkpoint.source)
    else:
        seen = read_vision(whole)
    record = {"vision": seen, "text": read_bert(_part(whole, "text_config"), "pooler-project", text)}
    return record | {"image": read_image(checkpoint), "embed": whole.get("projection_dim", 512), "scale": None}


def write_dual(parts: Parts, folder: Path, model_type: str, kind: str) -> None:
    """Write the side files of `save`; `kind` is the published class."""
    config = parts.config
    if not (isinstance(config.vision, Vit) and isinstance(config.text, Bert)):
        raise LayoutError(f"{kind} needs a ViT and a BERT, which this model lacks. Use layout 'cjkclip'")
    whole: dict[str, Any] = {"model_type": model_type, "architectures": [kind], "projection_dim": config.embed}
    pooled = isinstance(config.vision, PooledVit)
    whole["vision_config"] = plain_vit_json(config.vision) if pooled else vision_json(config.vision, config.embed)
    whole["text_config"] = {"model_type": config.text.kind} | bert_json(config.text)
    dump(folder / "config.json", whole)
    if config.image is not None:
        dump(folder / "preprocessor_config.json", image_json(config.image))
    if isinstance(parts.tokenizer, WordPiece | Fast):
        parts.tokenizer.save_transformers(folder)


def _read(vision: str, checkpoint: Checkpoint) -> dict[str, Any]:
    whole = config_json(checkpoint)
    types = [_part(whole, name).get("model_type") for name in ("vision_config", "text_config")]
    if types[0] != vision or types[1] not in TEXTS:
        raise FactsError(
            f"{checkpoint.source}: the dual encoder has towers {types}, expected an image tower of {[CLIP, VIT]} and a "
            f"text tower of {list(TEXTS)}"
        )
    return read_dual(checkpoint, vision, TEXTS[types[1]])


def _tokenizer(checkpoint: Checkpoint, config: Model) -> Tokenizer | None:
    """Return the tokenizer beside the weights, or None: WordPiece, or a tokenizer.json of RoBERTa or XLM-R."""
    if config.text is not None and is_fast(checkpoint.json("tokenizer.json") or {}):
        return Fast.from_transformers(checkpoint.folder, context=config.text.context)
    return wordpiece_tokenizer(checkpoint, config)


def _part(whole: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return whole.get(name) or {}


def _write(vision: str, parts: Parts, folder: Path) -> None:
    config = parts.config
    if isinstance(config.text, Bert) and config.text.head != "pooler-project":
        raise LayoutError(
            f"VisionTextDualEncoderModel projects BERT's pooler, but this text tower has head {config.text.head!r}. "
            "Use layout 'cjkclip'"
        )
    if isinstance(config.vision, PooledVit) != (vision == VIT):
        other = "transformers_dual" if vision == VIT else "transformers_dual_vit"
        raise LayoutError(f"this layout's image tower is {vision!r}, which this model lacks. Use layout {other!r}")
    write_dual(parts, folder, MODEL_TYPE, "VisionTextDualEncoderModel")


def _dual(name: str, vision: str, rows: tuple[Row, ...], mark: str) -> Format:
    return Format(
        layout=Layout(
            name=name, rows=rows, marks=(mark, "text_model.pooler.dense.weight", "logit_scale"), harmless=IDS
        ),
        model_types=(MODEL_TYPE,),
        read=partial(_read, vision),
        tokenizer=_tokenizer,
        write=partial(_write, vision),
    )


_VIT = (SCALE, *VIT_ROWS, POOLER, VISION_PROJ, *bert_rows("text_model."), TEXT_PROJ)
DUAL = (
    *(
        _dual(name, CLIP, dual_rows(prefix), f"{prefix}pre_layrnorm.weight")
        for name, prefix in (
            ("transformers_dual", "vision_model.vision_model."),
            ("transformers_dual_bare", "vision_model."),
        )
    ),
    _dual("transformers_dual_vit", VIT, _VIT, "vision_model.pooler.dense.weight"),
)
