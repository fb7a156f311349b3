"""Chinese-CLIP: OpenAI's image towers and a Chinese BERT, as cn_clip's .pt files and transformers' ChineseCLIPModel."""

from collections.abc import Mapping

from cjkclip.checkpoints.families import NONE_KNOWN, Family, Release
from cjkclip.checkpoints.formats.chinese import CHINESE_FORMATS

GUIDE = {"CIFAR-100 top-1": 64.4}  # zero-shot score of the repository's guide


def _release(size: str, alias: str, note: str, scores: Mapping[str, float] = NONE_KNOWN) -> Release:
    return Release(
        name=f"OFA-Sys/chinese-clip-{size}",
        aliases=(alias,),
        layout="cn_clip" if size == "rn50" else "transformers_chinese",
        licence="see the model card",
        languages=("zh", "en"),
        note=note,
        facts={},
        scores=scores,
    )


FAMILY = Family(
    name="chinese",
    formats=CHINESE_FORMATS,
    languages=("zh", "en"),
    templates={"zh": ("{}的照片",)},
    releases=(
        _release("vit-base-patch16", "chinese-clip-B/16", "Chinese-CLIP ViT-B/16, 188 M parameters", GUIDE),
        _release("vit-large-patch14", "chinese-clip-L/14", "Chinese-CLIP ViT-L/14, 406 M parameters"),
        _release("vit-large-patch14-336px", "chinese-clip-L/14@336px", "Chinese-CLIP ViT-L/14 at 336 px, 407 M"),
        _release("vit-huge-patch14", "chinese-clip-H/14", "Chinese-CLIP ViT-H/14, 958 M parameters"),
        _release("rn50", "chinese-clip-RN50", "Chinese-CLIP RN50 with RBT3, 77 M parameters"),
    ),
)
