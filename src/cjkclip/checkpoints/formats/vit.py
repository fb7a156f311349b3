"""transformers' ViTModel as an image tower: rinna's models use its class token, dual encoders its pooler.

Facts: transformers 5.23.0 (modeling_vit, configuration_vit).
"""

from collections.abc import Mapping
from typing import Any, Literal

from cjkclip.checkpoints.formats.transformers import encoder, encoder_json
from cjkclip.checkpoints.layouts import Row
from cjkclip.config import Vit
from cjkclip.errors import FactsError

DEFAULTS: dict[str, Any] = {
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
VIT_ROWS = (
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
POOLER = Row("vision.pooler.{p}", "vision_model.pooler.dense.{p}")
# Options that change the arithmetic, with their supported values.
_ONLY: dict[str, Any] = {"model_type": "vit", "qkv_bias": True, "num_channels": 3, "pooler_act": "tanh"}


def read_plain_vit(record: Mapping[str, Any], kind: Literal["vit", "vit-pooler"], source: str) -> dict[str, Any]:
    """Return a ViTConfig as our record. Raises FactsError for an option that is not supported."""
    whole = DEFAULTS | {"pooler_output_size": None} | dict(record)
    only = _ONLY | {"pooler_output_size": whole["hidden_size"]}
    wrong = {name: whole[name] for name, value in only.items() if whole.get(name) not in (value, None)}
    if wrong:
        raise FactsError(f"{source}: the image tower has {wrong}, expected { ({name: only[name] for name in wrong}) }")
    fields = {"kind": kind, "patch_bias": True, "pre_norm": False, "project": True} | encoder(whole)
    return fields | {"image_size": whole["image_size"], "patch": whole["patch_size"]}


def plain_vit_json(config: Vit) -> dict[str, Any]:
    """Return the ViTConfig of our record."""
    return {"model_type": "vit", "image_size": config.image_size, "patch_size": config.patch} | encoder_json(config)
