"""Peers that import torchvision: its operators' schemas are defined beforehand, as it has no CPU build here.

torchvision's Python part registers fake kernels for operators that its compiled part defines. Defining the schemas
alone lets it import; nothing in these tests calls one.
"""

from functools import cache
from types import ModuleType

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
    return library  # the schemas live as long as this object


def open_clip() -> ModuleType:
    """open_clip, importable."""
    _define()
    import open_clip

    return open_clip


def transformers() -> ModuleType:
    """transformers, importable: it asks torchvision for things wherever torchvision is installed."""
    _define()
    import transformers

    return transformers


def cn_clip() -> ModuleType:
    """cn_clip.clip, importable."""
    _define()
    import cn_clip.clip

    return cn_clip.clip
