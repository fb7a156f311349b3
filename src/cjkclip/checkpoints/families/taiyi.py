"""Taiyi-CLIP: a Chinese BERT trained against the CLIP image tower of another project, so a model has two sources.

Facts: the model cards of IDEA-CCNL.
"""

from collections.abc import Mapping

from cjkclip.checkpoints.families import NONE_KNOWN, Family, Release
from cjkclip.checkpoints.formats.taiyi import TAIYI_FORMATS

CARD = {  # zero-shot scores of the model card; retrieval is from text to image
    "ImageNet1k-CN top-1": 55.04,
    "ImageNet1k-CN top-5": 81.75,
    "Flickr30k-CNA R@1": 58.32,
    "Flickr30k-CNA R@5": 82.96,
    "Flickr30k-CNA R@10": 89.40,
    "COCO-CN R@1": 55.27,
    "COCO-CN R@5": 81.10,
    "COCO-CN R@10": 90.78,
    "wukong50k R@1": 64.95,
    "wukong50k R@5": 91.77,
    "wukong50k R@10": 96.28,
}


def _release(name: str, image_tower: str, note: str, scores: Mapping[str, float] = NONE_KNOWN) -> Release:
    return Release(
        name=f"IDEA-CCNL/{name}",
        aliases=(name,),
        layout="taiyi_logits" if "Roberta" in name else "taiyi_pooler",
        licence="see the model card",
        languages=("zh",),
        note=note,
        facts={},
        image_tower=image_tower,
        scores=scores,
    )


FAMILY = Family(
    name="taiyi",
    formats=TAIYI_FORMATS,
    languages=("zh",),
    templates={"zh": ("{}的照片",)},
    releases=(
        _release(
            "Taiyi-CLIP-RoBERTa-102M-ViT-L-Chinese",
            "openai/clip-vit-large-patch14",
            "Taiyi 102M with OpenAI's ViT-L/14",
            CARD,
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
