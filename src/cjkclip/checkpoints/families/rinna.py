"""rinna's Japanese CLIP and CLOOB: transformers' ViTModel and a BERT- or RoBERTa-type text tower."""

from cjkclip.checkpoints.families import Family, Release
from cjkclip.checkpoints.formats.rinna import RINNA_FORMAT


def _release(kind: str, note: str, top1: float, top5: float) -> Release:
    return Release(
        name=f"rinna/japanese-{kind}-vit-b-16",
        aliases=(f"japanese-{kind}-vit-b-16",),
        layout="rinna",
        licence="see the model card",
        languages=("ja",),
        note=note,
        facts={},
        vocabulary=("rinna/japanese-roberta-base", "spiece.model"),  # the original package downloads it from there too
        scores={"ImageNet top-1": top1, "ImageNet top-5": top5},  # zero-shot with 37 Japanese templates per class
    )


FAMILY = Family(
    name="rinna",
    formats=(RINNA_FORMAT,),
    languages=("ja",),
    templates={"ja": ("{}の写真",)},
    releases=(
        _release("clip", "Japanese CLIP ViT-B/16", 50.69, 72.35),
        _release("cloob", "Japanese CLOOB ViT-B/16", 54.64, 72.86),
    ),
)
