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
    encoder,
    encoder_json,
)
from cjkclip.checkpoints.layouts import Layout, Row
from cjkclip.config import Bert, Model, Vit
from cjkclip.errors import FactsError, LayoutError
from cjkclip.text import Tokenizer
from cjkclip.text.unigram import RINNA, Unigram

VIT_DEFAULTS: dict[str, Any] = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "image_size": 224,
    "patch_size": 16,
}
_BLOCK, _LAYER = "vision.blocks.{i}", "vision_model.encoder.layer.{i}"
VISION = (
    Row("vision.cls", "vision_model.embeddings.cls_token", "to-vector"),
    Row("vision.position.weight", "vision_model.embeddings.position_embeddings", "to-matrix"),
    Row("vision.patch.{p}", "vision_model.embeddings.patch_embeddings.projection.{p}"),
    *(
        Row(f"{_BLOCK}.attn.{ours}.{{p}}", f"{_LAYER}.attention.attention.{theirs}.{{p}}")
        for ours, theirs in (("q", "query"), ("k", "key"), ("v", "value"))
    ),
    Row(f"{_BLOCK}.attn.out.{{p}}", f"{_LAYER}.attention.output.dense.{{p}}"),
    Row(f"{_BLOCK}.mlp.fc1.{{p}}", f"{_LAYER}.intermediate.dense.{{p}}"),
    Row(f"{_BLOCK}.mlp.fc2.{{p}}", f"{_LAYER}.output.dense.{{p}}"),
    Row(f"{_BLOCK}.ln1.{{p}}", f"{_LAYER}.layernorm_before.{{p}}"),
    Row(f"{_BLOCK}.ln2.{{p}}", f"{_LAYER}.layernorm_after.{{p}}"),
    Row("vision.ln_post.{p}", "vision_model.layernorm.{p}"),
)


def _read(checkpoint: Checkpoint) -> dict[str, Any]:
    whole = config_json(checkpoint)
    vision = VIT_DEFAULTS | whole.get("vision_config", {})
    if vision.get("model_type", "vit") != "vit" or not vision.get("qkv_bias", True):
        raise FactsError(
            f"{checkpoint.source}: vision_config is {vision.get('model_type')!r}, expected 'vit' with qkv_bias true"
        )
    vision_fields = {"kind": "vit", "patch_bias": True, "pre_norm": False, "project": True} | encoder(vision)
    vision_fields |= {"image_size": vision["image_size"], "patch": vision["patch_size"]}
    text = read_bert(whole.get("text_config", {}), "project")
    image = torchvision_rules(vision["image_size"], OPENAI_MEAN, OPENAI_STD) | {"filter": "bilinear"}
    scale = float(whole.get("init_inv_tau", 30.0)) if whole.get("model_type") == "cloob" else None
    return {
        "vision": vision_fields,
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
    if not (isinstance(vision, Vit) and vision.patch_bias and isinstance(text, Bert) and text.head == "project"):
        raise LayoutError(
            "rinna's layout needs transformers' ViT and a BERT with a projection, which this model lacks. Use "
            "layout 'cjkclip'"
        )
    whole: dict[str, Any] = {"projection_dim": config.embed}
    if config.scale is None:
        whole |= {"model_type": "clip", "architectures": ["CLIPModel"]}
    else:
        whole |= {"model_type": "cloob", "architectures": ["CLOOBModel"], "init_inv_tau": config.scale}
    sizes = {"model_type": "vit", "image_size": vision.image_size, "patch_size": vision.patch}
    whole |= {"vision_config": sizes | encoder_json(vision), "text_config": {"model_type": "bert"} | bert_json(text)}
    dump(folder / "config.json", whole)
    if isinstance(parts.tokenizer, Unigram):
        parts.tokenizer.save(folder)


RINNA_FORMAT = Format(
    layout=Layout(
        name="rinna",
        rows=(SCALE, *VISION, VISION_PROJ, *bert_rows("text_model."), TEXT_PROJ),
        marks=("vision_model.embeddings.cls_token", "text_model.embeddings.word_embeddings.weight"),
        harmless=IDS,
    ),
    read=_read,
    tokenizer=_tokenizer,
    write=_write,
)
