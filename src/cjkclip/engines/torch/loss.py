"""The contrastive loss with several right answers. N pictures, M texts, E joint width.

A caption may be right for many pictures ("face") and a picture has many captions, so targets are rows of
probabilities, not one index. Refuses: a picture or a text with no right answer in the batch.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from cjkclip.arrays import Bool, Float
from cjkclip.errors import InputError


def contrastive(
    image: Float[Tensor, "N E"], text: Float[Tensor, "M E"], scale: Float[Tensor, ""], right: Bool[Tensor, "N M"]
) -> Float[Tensor, ""]:
    """Mean of both directions' cross entropies; the right answers of a query share its probability evenly.

    `image` and `text` have unit rows; `scale` multiplies their cosines. With one right answer each this is CLIP's
    loss (Radford et al. 2021, figure 3).
    """
    if not (right.any(dim=0).all() and right.any(dim=1).all()):
        raise InputError("contrastive: every picture and every text needs a right answer in the batch")
    logits = scale * image @ text.T
    return (soft_cross_entropy(logits, right) + soft_cross_entropy(logits.T, right.T)) / 2


def soft_cross_entropy(logits: Float[Tensor, "N M"], right: Bool[Tensor, "N M"]) -> Float[Tensor, ""]:
    """Cross entropy against the even distribution over each row's right answers."""
    target = right / right.sum(dim=1, keepdim=True)
    return -(target * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def same_thing(image: Float[Tensor, "N E"], scale: Float[Tensor, ""], thing: Tensor) -> Float[Tensor, ""]:
    """Cross entropy of finding the other pictures of the same thing among the batch's pictures.

    `thing` (N,) numbers what each picture shows; pictures that are alone in the batch ask nothing.
    Source: supervised contrastive learning (Khosla et al. 2020, L_out).
    """
    own = torch.eye(len(image), dtype=torch.bool, device=image.device)
    right = (thing[:, None] == thing[None, :]) & ~own
    asked = right.any(dim=1)
    logits = (scale * image @ image.T).masked_fill(own, -1e4)
    return soft_cross_entropy(logits[asked], right[asked]) if asked.any() else logits.sum() * 0
