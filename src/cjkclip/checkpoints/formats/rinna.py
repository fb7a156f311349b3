"""rinna's Japanese CLIP and CLOOB: transformers' ViTModel and a BERT- or RoBERTa-type text tower.

Facts: github.com/rinnakk/japanese-clip at 374e08d (0.2.0). Positions count from 0 in both kinds of text tower, since
the package always passes them. CLOOB has no logit_scale: its inverse temperature is a number in config.json.
"""

from pathlib import Path
from typing import Any

from cjkclip.checkpoints.formats import Checkpoint, Format, Parts
from cjkclip.checkpoints.formats.bert import bert_json, bert_rows, read_bert
from cjkclip.checkpoints.formats.pixels import OPENAI_MEAN, OPENAI_STD, torchvision_rules
from cjkclip.checkpoints.formats.transformers import (
    IDS,
    SCALE,
    TEXT_PROJ,
    VISION_PROJ,
    config_json,
    dump,
)
from cjkclip.checkpoints.formats.vit import VIT_ROWS, plain_vit_json, read_plain_vit
from cjkclip.checkpoints.layouts import Layout
from cjkclip.config import Bert, Model, Vit
from cjkclip.errors import LayoutError
from cjkclip.text import Tokenizer
from cjkclip.text.unigram import RINNA, Unigram


def _read(checkpoint: Checkpoint) -> dict[str, Any]:
    whole = config_json(checkpoint)
    vision = read_plain_vit(whole.get("vision_config", {}), "vit", checkpoint.source)
    text = read_bert(whole.get("text_config", {}), "project")
    image = torchvision_rules(vision["image_size"], OPENAI_MEAN, OPENAI_STD) | {"filter": "bilinear"}
    scale = float(whole.get("init_inv_tau", 30.0)) if whole.get("model_type") == "cloob" else None
    return {
        "vision": vision,
        "text": text,
        "image": image,
        "embed": whole.get("projection_dim", 512),
        "scale": scale,
    }


def _tokenizer(checkpoint: Checkpoint, config: Model) -> Tokenizer | None:
    model = checkpoint.folder / "spiece.model"
    return Unigram.from_file(model, RINNA) if config.text is not None and model.is_file() else None


def _write(parts: Parts, folder: Path) -> None:
    config = parts.config
    vision, text = config.vision, config.text
    if not (type(vision) is Vit and vision.patch_bias and type(text) is Bert and text.head == "project"):
        raise LayoutError(
            "rinna's layout needs transformers' ViT and a BERT with a projection, which this model lacks. Use "
            "layout 'cjkclip'"
        )
    whole: dict[str, Any] = {"projection_dim": config.embed}
    if config.scale is None:
        whole |= {"model_type": "clip", "architectures": ["CLIPModel"]}
    else:
        whole |= {"model_type": "cloob", "architectures": ["CLOOBModel"], "init_inv_tau": config.scale}
    whole |= {"vision_config": plain_vit_json(vision), "text_config": {"model_type": "bert"} | bert_json(text)}
    dump(folder / "config.json", whole)
    if isinstance(parts.tokenizer, Unigram):
        parts.tokenizer.save(folder)


RINNA_FORMAT = Format(
    layout=Layout(
        name="rinna",
        rows=(SCALE, *VIT_ROWS, VISION_PROJ, *bert_rows("text_model."), TEXT_PROJ),
        marks=("vision_model.embeddings.cls_token", "text_model.embeddings.word_embeddings.weight"),
        harmless=IDS,
    ),
    read=_read,
    tokenizer=_tokenizer,
    write=_write,
    model_types=("clip", "cloob", None),
)
