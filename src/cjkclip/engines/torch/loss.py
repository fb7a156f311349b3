"""The contrastive loss with several right answers. N images, M texts, E joint width.

A caption may be right for many images ("face") and an image has many captions, so targets are rows of
probabilities, not one index.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from cjkclip.arrays import Bool, Float
from cjkclip.engines.torch.compiling import traced
from cjkclip.errors import InputError


def contrastive(
    image: Float[Tensor, "N E"], text: Float[Tensor, "M E"], scale: Float[Tensor, ""], right: Bool[Tensor, "N M"]
) -> Float[Tensor, ""]:
    """Return the mean of both directions' cross entropies; the right answers of a query share its probability evenly.

    `image` and `text` have unit rows; `scale` multiplies their cosine similarities. With one right answer each this
    is CLIP's loss (Radford et al. 2021, figure 3). Raises InputError for a row or column without a right answer.
    """
    if not traced() and not (right.any(dim=0).all() and right.any(dim=1).all()):
        raise InputError(
            "contrastive: every image and every text needs a right answer in the batch: leave out the others"
        )
    logits = scale * image @ text.T
    return (soft_cross_entropy(logits, right) + soft_cross_entropy(logits.T, right.T)) / 2


def soft_cross_entropy(logits: Float[Tensor, "N M"], right: Bool[Tensor, "N M"]) -> Float[Tensor, ""]:
    """Return the cross entropy against the even distribution over each row's right answers."""
    target = right / right.sum(dim=1, keepdim=True)
    return -(target * F.log_softmax(logits, dim=1)).sum(dim=1).mean()


def same_thing(image: Float[Tensor, "N E"], scale: Float[Tensor, ""], thing: Tensor) -> Float[Tensor, ""]:
    """Return the cross entropy of retrieving the other images of the same thing from the batch.

    `thing` (N,) is the number of the thing in each image; images without another of their thing are not queries.
    Source: supervised contrastive learning (Khosla et al. 2020, L_out).
    """
    own = torch.eye(len(image), dtype=torch.bool, device=image.device)
    right = (thing[:, None] == thing[None, :]) & ~own
    queries = right.any(dim=1)
    logits = (scale * image @ image.T).masked_fill(own, -1e4)
    return soft_cross_entropy(logits[queries], right[queries]) if queries.any() else logits.sum() * 0
