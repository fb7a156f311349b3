"""Import peers that need torchvision, which has no CPU build here: its operators' schemas are defined first.

torchvision's Python part registers fake kernels for operators that its compiled part defines. It can be imported once
the schemas are defined; no test calls the operators.
"""

import json
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
    "roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width) "
    "-> (Tensor, Tensor)",
    "ps_roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio) -> (Tensor, Tensor)",
    "ps_roi_pool(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width) "
    "-> (Tensor, Tensor)",
    "deform_conv2d(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, "
    "SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, "
    "SymInt offset_groups, bool use_mask) -> Tensor",
    *(
        f"_{name}_backward(Tensor grad, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
        "SymInt batch_size, SymInt channels, SymInt height, SymInt width) -> Tensor"
        for name in ("roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool")
    ),
    "_deform_conv2d_backward(Tensor grad, Tensor input) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)


@cache
def _define() -> object:
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for schema in SCHEMAS:
        library.define(schema)
    return library  # the schemas exist as long as this object


def open_clip() -> ModuleType:
    """Import open_clip."""
    _define()
    import open_clip

    return open_clip


def transformers() -> ModuleType:
    """Import transformers, which uses torchvision if it is installed."""
    _define()
    import transformers

    return transformers


def cn_clip() -> ModuleType:
    """Import cn_clip.clip."""
    _define()
    import cn_clip.clip

    return cn_clip.clip


def sentence_transformers() -> ModuleType:
    """Import sentence_transformers."""
    _define()
    import sentence_transformers

    return sentence_transformers


CN_SHARED = {"embed_dim": 32, "vocab_size": 21_128, "text_hidden_act": "gelu", "text_initializer_range": 0.02}
CN_SHARED |= {"text_hidden_dropout_prob": 0.1, "text_attention_probs_dropout_prob": 0.1, "text_type_vocab_size": 2}
CN_SHARED |= {"text_hidden_size": 4, "text_num_attention_heads": 2, "text_max_position_embeddings": 64}
CN_SIZES = {
    "cn-clip-vit": {"image_resolution": 32, "vision_layers": 2, "vision_width": 32, "vision_patch_size": 8,
                    "vision_head_width": 8, "text_num_hidden_layers": 2, "text_intermediate_size": 24},
    "cn-clip-rn": {"image_resolution": 64, "vision_layers": [1, 2, 1, 1], "vision_width": 2, "vision_patch_size": None,
                   "text_num_hidden_layers": 1, "text_intermediate_size": 18},
}  # fmt: skip


def load_cn_clip(case: str, file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Call cn_clip's own load_from_name on a golden case, with that case's sizes added to its configurations."""
    peer, size = cn_clip(), CN_SIZES[case]
    monkeypatch.setattr(peer.utils, "__file__", str(folder / "utils.py"))
    (folder / "model_configs").mkdir()
    (folder / "model_configs" / "seen.json").write_text(json.dumps(size))
    (folder / "model_configs" / "read.json").write_text(json.dumps(CN_SHARED))
    named = {"vision_model_name": "seen", "text_model_name": "read", "input_resolution": size["image_resolution"]}
    model, preprocess = peer.load_from_name(str(file), device="cpu", **named)
    return model.eval(), preprocess
