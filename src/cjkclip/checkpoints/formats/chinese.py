"""Chinese-CLIP: OpenAI's image towers and a Chinese BERT, as cn_clip's .pt files and transformers' ChineseCLIPModel.

Facts: github.com/OFA-Sys/Chinese-CLIP at 31863c7 (cn_clip 1.6.0), transformers 5.23.0. cn_clip's files have no config;
all its models use QuickGELU (ViT-H too), a BERT with eps 1e-12, images resized to a square, and 52 tokens. The head
counts of the published widths are known; for another width the caller must pass them as facts.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from cjkclip.checkpoints.formats import Checkpoint, Format, Parts
from cjkclip.checkpoints.formats.bert import DEFAULTS as BERT_DEFAULTS
from cjkclip.checkpoints.formats.bert import bert_json, bert_rows, read_bert, wordpiece_tokenizer
from cjkclip.checkpoints.formats.openai import (
    SCALE,
    VISUAL,
    VISUAL_RESNET,
    count,
    read_resnet,
    read_vit,
)
from cjkclip.checkpoints.formats.pixels import squash_rules
from cjkclip.checkpoints.formats.transformers import (
    IDS,
    VISION_PROJ,
    config_json,
    dump,
    image_json,
    read_image,
    read_vision,
    tower_fields,
    vision_json,
    vision_rows,
)
from cjkclip.checkpoints.formats.transformers import SCALE as HF_SCALE
from cjkclip.checkpoints.formats.transformers import TEXT_PROJ as HF_TEXT_PROJ
from cjkclip.checkpoints.layouts import Layout, Row
from cjkclip.config import Bert, Model, Vit
from cjkclip.errors import LayoutError
from cjkclip.text import Tokenizer
from cjkclip.text.wordpiece import CN_CLIP, WordPiece, chinese_bert

CONTEXT = 52  # tokens in training
VOCAB = 21_128
VISION_HEADS = {768: 12, 1024: 16, 1280: 16}  # by width; ViT-H has heads 80 wide
TEXT_HEADS = {768: 12, 1024: 16}


def _read_cn_clip(checkpoint: Checkpoint) -> dict[str, Any]:
    tensors = checkpoint.tensors
    vision = read_vit(tensors) if "visual.proj" in tensors else read_resnet(tensors)
    if vision["kind"] == "vit":
        vision |= {"act": "quick_gelu"} | _heads(VISION_HEADS, vision["width"])
    words = tensors["bert.embeddings.word_embeddings.weight"]
    width = words.shape[1]
    text: dict[str, Any] = {
        "kind": "bert",
        "vocab": words.shape[0],
        "context": tensors["bert.embeddings.position_embeddings.weight"].shape[0],
        "types": tensors["bert.embeddings.token_type_embeddings.weight"].shape[0],
        "head": "project",
        "width": width,
        "depth": count(tensors, "bert.encoder.layer"),
        "mlp": tensors["bert.encoder.layer.0.intermediate.dense.bias"].shape[0],
        "act": "gelu",
        "eps": 1e-12,
        **_heads(TEXT_HEADS, width),
    }
    image = squash_rules(vision["image_size"])
    return {"vision": vision, "text": text, "image": image, "embed": tensors["text_projection"].shape[1], "scale": None}


def _heads(known: Mapping[int, int], width: int) -> dict[str, int]:
    return {"heads": known[width]} if width in known else {}


def _tokenizer_cn_clip(checkpoint: Checkpoint, config: Model) -> Tokenizer | None:
    """Return the tokenizer of vocab.txt, else cn_clip's own vocabulary if its size fits, else None."""
    if (checkpoint.folder / "vocab.txt").is_file():
        return WordPiece.from_vocab(checkpoint.folder / "vocab.txt", CN_CLIP)
    return chinese_bert() if config.text is not None and config.text.vocab == VOCAB else None


def _write_cn_clip(parts: Parts, folder: Path) -> None:
    if type(parts.config.text) is not Bert:
        raise LayoutError("cn_clip's files need a BERT text tower, which this model lacks. Use layout 'cjkclip'")
    if isinstance(parts.tokenizer, WordPiece):
        parts.tokenizer.save_transformers(folder)


def read_both(whole: Mapping[str, Any]) -> dict[str, Any]:
    """Return ChineseCLIPModel's record from its config.json, without preprocessing."""
    text = read_bert(tower_fields(whole, "text_config", BERT_DEFAULTS), "project")
    record = {"vision": read_vision(whole), "text": text, "image": None}
    return record | {"embed": whole.get("projection_dim", 512), "scale": None}


def _read_hf(checkpoint: Checkpoint) -> dict[str, Any]:
    return read_both(config_json(checkpoint)) | {"image": read_image(checkpoint)}


def both_json(config: Model) -> dict[str, Any]:
    """Return ChineseCLIPModel's config.json. Raises LayoutError if ChineseCLIPModel cannot hold the towers."""
    if not (isinstance(config.vision, Vit) and type(config.text) is Bert and config.text.head == "project"):
        raise LayoutError(
            "transformers' ChineseCLIPModel needs a ViT and a BERT with a projection, which this model lacks. Use "
            "layout 'cjkclip'"
        )
    whole: dict[str, Any] = {"model_type": "chinese_clip", "architectures": ["ChineseCLIPModel"]}
    whole |= {"projection_dim": config.embed, "vision_config": vision_json(config.vision, config.embed)}
    whole["vision_config"]["model_type"] = "chinese_clip_vision_model"
    whole["text_config"] = {"model_type": "chinese_clip_text_model"} | bert_json(config.text)
    return whole


def _write_hf(parts: Parts, folder: Path) -> None:
    config = parts.config
    dump(folder / "config.json", both_json(config))
    if config.image is not None:
        dump(
            folder / "preprocessor_config.json",
            image_json(config.image) | {"image_processor_type": "ChineseCLIPImageProcessor"},
        )
    if isinstance(parts.tokenizer, WordPiece):
        parts.tokenizer.save_transformers(folder)


def _fused(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    """Return the rows of cn_clip's flash-attention variant: q, k, v in one tensor named Wqkv."""
    renamed: list[Row] = []
    for row in rows:
        name = row.published.replace("attn.in_proj_{p}", "attn.Wqkv.{p}")
        name = name.replace("attention.output.dense", "attention.self.out_proj")
        op = row.op
        for part, letter in (("query", "q"), ("key", "k"), ("value", "v")):
            if f"attention.self.{part}." in name:
                name, op = name.replace(f"self.{part}", "self.Wqkv"), letter
        renamed.append(Row(row.canonical, name, op))  # pyright: ignore[reportArgumentType]
    return tuple(renamed)


def _without_pooler(prefix: str) -> tuple[Row, ...]:
    """Return BERT's rows without the pooler, which neither format has; a file with one belongs to another family."""
    return tuple(row for row in bert_rows(prefix) if "pooler" not in row.published)


TEXT = (
    *_without_pooler("bert."),
    Row("text.proj.weight", "text_projection", "transpose"),
)
_FLASH_MARK = "bert.encoder.layer.0.attention.self.Wqkv.weight"
_PLAIN_MARK = "bert.encoder.layer.0.attention.self.query.weight"


def _cn_clip(name: str, visual: tuple[Row, ...], tower: str, text: str) -> Format:
    return Format(
        layout=Layout(
            name=name,
            rows=(SCALE, *visual, *(TEXT if text == _PLAIN_MARK else _fused(TEXT))),
            marks=(tower, text),
            harmless=("bert.pooler.*", *IDS),
        ),
        config_file=None,
        read=_read_cn_clip,
        tokenizer=_tokenizer_cn_clip,
        weights_file="clip_cn.pt",
        write=_write_cn_clip,
        wrapped=True,
        positions="align-corners",
    )


HF_CHINESE = Format(
    layout=Layout(
        name="transformers_chinese",
        rows=(HF_SCALE, *vision_rows("vision_model."), VISION_PROJ, *_without_pooler("text_model."), HF_TEXT_PROJ),
        marks=("vision_model.pre_layrnorm.weight", "text_model.encoder.layer.0.output.dense.weight", "logit_scale"),
        harmless=IDS,
    ),
    read=_read_hf,
    tokenizer=partial(wordpiece_tokenizer, most=CONTEXT),
    write=_write_hf,
    model_types=("chinese_clip", None),
)

CHINESE_FORMATS = (
    HF_CHINESE,
    _cn_clip("cn_clip", VISUAL, "visual.proj", _PLAIN_MARK),
    _cn_clip("cn_clip", VISUAL_RESNET, "visual.attnpool.q_proj.weight", _PLAIN_MARK),
    _cn_clip("cn_clip_flash", _fused(VISUAL), "visual.proj", _FLASH_MARK),
    _cn_clip("cn_clip_flash", VISUAL_RESNET, "visual.attnpool.q_proj.weight", _FLASH_MARK),
)
