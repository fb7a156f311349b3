"""Measure batch statistics of trained towers again on images without augmentation. N images, S pixels.

During training, batch norms see augmented images; in use they see plain ones. Towers without batch norms are
returned unchanged.
"""

import torch
from torch import Tensor, nn

from cjkclip.engines.torch.towers import Towers
from cjkclip.train.augment import plain
from cjkclip.train.data import Corpus
from cjkclip.train.step import copy


@torch.no_grad()
def measure_statistics(towers: Towers, corpus: Corpus, *, batch: int = 256, batches: int = 12, seed: int = 0) -> Towers:
    """Return the same weights with means and variances of `batches` batches of the corpus, each look equally often.

    Images must have the towers' size. Each batch counts the same; the result is in evaluation mode.
    """
    result = copy(towers)
    norms = [module for module in result.modules() if isinstance(module, nn.BatchNorm2d)]
    image, vision = result.config.image, result.vision
    if not norms or image is None or vision is None:
        return result
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # in torch, None means the average over all batches
    mean, std = (torch.tensor(v)[:, None, None] for v in (image.mean, image.std))
    random_batches = corpus.batches(batch, views=1, captions=1, seed=seed)
    vision.train()
    for _ in range(batches):
        pictures: Tensor = torch.from_numpy(corpus.pictures.read(next(random_batches).rows)).float() / 255
        vision(((plain(pictures) - mean) / std).to(next(result.parameters()).device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum  # with None, a later training run would never forget old batches
    return result.eval()
