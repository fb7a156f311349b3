"""Preprocessing that several formats share, as config records (see config.Image)."""

from collections.abc import Sequence
from typing import Any

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


def torchvision_rules(size: int, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    """Return OpenAI's and open_clip's evaluation transform: short side, centre crop, RGB last, alpha dropped."""
    return {
        "size": size,
        "resize": "short-side",
        "filter": "bicubic",
        "crop": "half-even",
        "rgb": "last",
        "alpha": "drop",
        "mean": tuple(mean),
        "std": tuple(std),
    }


def squash_rules(size: int) -> dict[str, Any]:
    """Return cn_clip's transform: resize to a square, ignore the aspect ratio, no crop."""
    return torchvision_rules(size, OPENAI_MEAN, OPENAI_STD) | {"resize": "squash"}
