"""Batch statistics of trained towers, measured again on pictures as they are used: not augmented. N pictures, S pixels.

While a tower learns, its batch norms see augmented pictures; users send plain ones. Refuses nothing: towers without
batch norms come back as they were.
"""

import torch
from torch import Tensor, nn

from cjkclip.engines.torch.towers import Towers
from cjkclip.train.augment import plain
from cjkclip.train.data import Corpus
from cjkclip.train.step import copy


@torch.no_grad()
def measure_statistics(towers: Towers, corpus: Corpus, *, batch: int = 256, batches: int = 12, seed: int = 0) -> Towers:
    """The same weights with means and variances of `batches` batches of the corpus's own pictures, every look as often.

    Pictures must have the towers' size. Each batch counts the same; the result is in evaluation mode.
    """
    settled = copy(towers)
    norms = [module for module in settled.modules() if isinstance(module, nn.BatchNorm2d)]
    image, vision = settled.config.image, settled.vision
    if not norms or image is None or vision is None:
        return settled
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch's word for the mean over all batches
    mean, std = (torch.tensor(v)[:, None, None] for v in (image.mean, image.std))
    drawn = corpus.batches(batch, views=1, captions=1, seed=seed)
    vision.train()
    for _ in range(batches):
        pictures: Tensor = torch.from_numpy(corpus.pictures.read(next(drawn).rows)).float() / 255
        vision(((plain(pictures) - mean) / std).to(next(settled.parameters()).device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum  # a later run would never forget
    return settled.eval()
