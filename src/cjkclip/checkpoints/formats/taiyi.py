"""Taiyi-CLIP: a Chinese BERT trained against the CLIP image tower of another project, so a model has two sources.

Facts: the model cards of IDEA-CCNL and github.com/IDEA-CCNL/Fengshenbang-LM at c8fb7b8. The text feature is the tanh
pooler, or the class logits computed from it; logit_scale comes from the image checkpoint. fengshen's TaiyiCLIPModel
contains both towers. Its two methods pool differently: `forward`, which training used and which is reproduced here,
projects the pooler; get_text_features projects the first token (facts={"text.head": "project"}).
"""

from pathlib import Path
from typing import Any

from cjkclip.checkpoints.formats import Checkpoint, Format, Parts
from cjkclip.checkpoints.formats.bert import bert_json, bert_rows, read_bert, wordpiece_tokenizer
from cjkclip.checkpoints.formats.dual import dual_rows, read_dual, write_dual
from cjkclip.checkpoints.formats.transformers import IDS, config_json, dump
from cjkclip.checkpoints.layouts import Layout, Row
from cjkclip.config import Bert, Head
from cjkclip.errors import LayoutError
from cjkclip.text.wordpiece import WordPiece


def _read_text(checkpoint: Checkpoint) -> dict[str, Any]:
    """Read a text repository: BertModel, or BertForSequenceClassification, whose class logits are the feature."""
    head: Head = "classify" if "classifier.weight" in checkpoint.tensors else "pooler"
    text = read_bert(config_json(checkpoint), head)
    embed = len(checkpoint.tensors["classifier.bias"]) if head == "classify" else text["width"]
    return {"vision": None, "text": text, "image": None, "embed": embed, "scale": None}


def _read_whole(checkpoint: Checkpoint) -> dict[str, Any]:
    record = read_dual(checkpoint)
    if record["image"] is not None:
        record["image"] |= {"alpha": "drop"}  # its processor is that of transformers 4
    return record


def _write_text(parts: Parts, folder: Path) -> None:
    text = parts.config.text
    if type(text) is not Bert or parts.config.vision is not None:
        raise LayoutError(
            "Taiyi's text layout contains only a BERT. Use layout 'cjkclip' for a model with an image tower"
        )
    kind = "BertForSequenceClassification" if text.head == "classify" else "BertModel"
    whole: dict[str, Any] = {"model_type": "bert", "architectures": [kind]} | bert_json(text)
    if text.head == "classify":
        whole["id2label"] = {str(i): f"LABEL_{i}" for i in range(parts.config.embed)}
    dump(folder / "config.json", whole)
    if isinstance(parts.tokenizer, WordPiece):
        parts.tokenizer.save_transformers(folder)


def _write_whole(parts: Parts, folder: Path) -> None:
    write_dual(parts, folder, "clip", "TaiyiCLIPModel")


def _text_format(name: str, rows: tuple[Row, ...], *marks: str) -> Format:
    return Format(
        layout=Layout(name=name, rows=rows, marks=marks, harmless=IDS),
        read=_read_text,
        tokenizer=wordpiece_tokenizer,
        write=_write_text,
    )


TAIYI_WHOLE = Format(
    layout=Layout(
        name="taiyi",
        rows=dual_rows("vision_model."),
        marks=("vision_model.pre_layrnorm.weight", "text_model.pooler.dense.weight", "logit_scale"),
        harmless=IDS,
    ),
    read=_read_whole,
    tokenizer=wordpiece_tokenizer,
    write=_write_whole,
)
_LOGITS = Row("text.proj.{p}", "classifier.{p}")

TAIYI_FORMATS = (
    TAIYI_WHOLE,
    _text_format("taiyi_logits", (*bert_rows("bert."), _LOGITS), "classifier.weight", "bert.pooler.dense.weight"),
    _text_format("taiyi_pooler", bert_rows(""), "embeddings.word_embeddings.weight", "pooler.dense.weight"),
)
