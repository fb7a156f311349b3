"""Taiyi-CLIP: a Chinese BERT trained against somebody else's CLIP image tower, so that a model has two sources.

Facts: the model cards of IDEA-CCNL and github.com/IDEA-CCNL/Fengshenbang-LM at c8fb7b8. The text feature is the tanh
pooler, or the class logits over it; the scale is the image checkpoint's. fengshen's TaiyiCLIPModel holds both towers;
its two methods pool differently: `forward`, which training used and which is read here, projects the pooler, while
get_text_features projects the first token (facts={"text.head": "project"}).
"""

from pathlib import Path
from typing import Any

from cjkclip.config import Bert, Head, Model, Vit
from cjkclip.errors import LayoutError
from cjkclip.families import Family, Release
from cjkclip.formats import Checkpoint, Format, Parts, unnamed
from cjkclip.formats.bert import bert_json, bert_rows, read_bert
from cjkclip.formats.transformers import (
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
from cjkclip.layouts import Layout, Row
from cjkclip.text import Tokenizer
from cjkclip.text.wordpiece import WordPiece


def _read_text(checkpoint: Checkpoint) -> dict[str, Any]:
    """A text repository: BertModel, or BertForSequenceClassification whose class logits are the feature."""
    head: Head = "classify" if "classifier.weight" in checkpoint.tensors else "pooler"
    text = read_bert(config_json(checkpoint), head)
    embed = len(checkpoint.tensors["classifier.bias"]) if head == "classify" else text["width"]
    return {"vision": None, "text": text, "image": None, "embed": embed, "scale": None}


def _read_whole(checkpoint: Checkpoint) -> dict[str, Any]:
    whole = config_json(checkpoint)
    text = read_bert(whole.get("text_config", {}), "pooler-project")
    image = read_image(checkpoint)
    if image is not None:
        image |= {"alpha": "drop"}  # its processor is transformers 4's
    record = {"vision": read_vision(whole), "text": text, "image": image}
    return record | {"embed": whole.get("projection_dim", 512), "scale": None}


def _tokenizer(checkpoint: Checkpoint, config: Model) -> Tokenizer | None:
    if config.text is None or not any((checkpoint.folder / n).is_file() for n in ("vocab.txt", "tokenizer.json")):
        return None
    return WordPiece.from_transformers(checkpoint.folder, context=config.text.context)


def _write_text(parts: Parts, folder: Path) -> None:
    text = parts.config.text
    if not isinstance(text, Bert) or parts.config.vision is not None:
        raise LayoutError("Taiyi's text layout holds a BERT alone; save a whole model in layout 'cjkclip'")
    kind = "BertForSequenceClassification" if text.head == "classify" else "BertModel"
    whole: dict[str, Any] = {"model_type": "bert", "architectures": [kind]} | bert_json(text)
    if text.head == "classify":
        whole["id2label"] = {str(i): f"LABEL_{i}" for i in range(parts.config.embed)}
    dump(folder / "config.json", whole)
    if isinstance(parts.tokenizer, WordPiece):
        parts.tokenizer.save_transformers(folder)


def _write_whole(parts: Parts, folder: Path) -> None:
    config = parts.config
    if not (isinstance(config.vision, Vit) and isinstance(config.text, Bert)):
        raise LayoutError("fengshen's TaiyiCLIPModel holds a CLIP ViT and a BERT; this model does not")
    whole: dict[str, Any] = {"model_type": "clip", "architectures": ["TaiyiCLIPModel"], "projection_dim": config.embed}
    whole |= {"vision_config": vision_json(config.vision, config.embed)}
    whole["text_config"] = {"model_type": "bert"} | bert_json(config.text)
    dump(folder / "config.json", whole)
    if config.image is not None:
        dump(folder / "preprocessor_config.json", image_json(config.image))
    if isinstance(parts.tokenizer, WordPiece):
        parts.tokenizer.save_transformers(folder)


def _text_format(name: str, rows: tuple[Row, ...], *marks: str) -> Format:
    return Format(
        layout=Layout(name=name, rows=rows, marks=marks, harmless=IDS),
        config_file="config.json",
        read=_read_text,
        tokenizer=_tokenizer,
        weights_file="model.safetensors",
        origin=unnamed,
        write=_write_text,
    )


TAIYI_WHOLE = Format(
    layout=Layout(
        name="taiyi",
        rows=(SCALE, *vision_rows("vision_model."), VISION_PROJ, *bert_rows("text_model."), TEXT_PROJ),
        marks=("vision_model.pre_layrnorm.weight", "text_model.pooler.dense.weight", "logit_scale"),
        harmless=IDS,
    ),
    config_file="config.json",
    read=_read_whole,
    tokenizer=_tokenizer,
    weights_file="model.safetensors",
    origin=unnamed,
    write=_write_whole,
)
_LOGITS = Row("text.proj.{p}", "classifier.{p}")


def _release(name: str, image_tower: str, note: str) -> Release:
    return Release(
        name=f"IDEA-CCNL/{name}",
        aliases=(name,),
        licence="see the model card",
        languages=("zh",),
        note=note,
        facts={},
        image_tower=image_tower,
    )


FAMILY = Family(
    name="taiyi",
    formats=(
        TAIYI_WHOLE,
        _text_format("taiyi_logits", (*bert_rows("bert."), _LOGITS), "classifier.weight", "bert.pooler.dense.weight"),
        _text_format("taiyi_pooler", bert_rows(""), "embeddings.word_embeddings.weight", "pooler.dense.weight"),
    ),
    languages=("zh",),
    templates={"zh": ("{}的照片",)},
    releases=(
        _release(
            "Taiyi-CLIP-RoBERTa-102M-ViT-L-Chinese",
            "openai/clip-vit-large-patch14",
            "Taiyi 102M with OpenAI's ViT-L/14",
        ),
        _release(
            "Taiyi-CLIP-RoBERTa-326M-ViT-H-Chinese",
            "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
            "Taiyi 326M with LAION's ViT-H/14",
        ),
        _release(
            "Taiyi-CLIP-Roberta-102M-Chinese", "openai/clip-vit-base-patch32", "Taiyi 102M with OpenAI's ViT-B/32"
        ),
        _release(
            "Taiyi-CLIP-Roberta-large-326M-Chinese",
            "openai/clip-vit-large-patch14",
            "Taiyi 326M with OpenAI's ViT-L/14",
        ),
    ),
)
