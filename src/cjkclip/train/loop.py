"""`fit`: the training loop. N pictures, M texts, L tokens.

AdamW, a linear warm-up and a cosine, an average of the weights as the result, bfloat16 where the processor has it.
A seed gives the same weights again on the same machine with the same number of threads. Refuses: a corpus in which
nothing is wrong, losses and features that are no numbers.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from cjkclip.config import Image
from cjkclip.engines.torch.towers import Towers
from cjkclip.errors import FactsError, InputError
from cjkclip.machine.threads import result
from cjkclip.text import Tokens
from cjkclip.train.augment import augment
from cjkclip.train.data import Batch, Corpus
from cjkclip.train.recipe import Recipe
from cjkclip.train.step import Learner, beside, rate


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a listener hears. `loss` is the mean since the last time."""

    step: int
    steps: int
    loss: float
    lr: float
    scale: float  # exp(logit_scale)
    pictures_per_second: float


ATTENTION = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
Listener = Callable[[Progress, Towers], None]


def fit(
    towers: Towers,
    corpus: Corpus,
    tokens: Tokens,
    recipe: Recipe,
    *,
    listen: Listener | None = None,
    every: int = 50,
) -> Towers:
    """Train `towers` on `corpus`, on the device they are on; the averaged weights come back as new towers.

    `tokens` are those of `corpus.texts`. `listen` hears of the progress every `every` steps and at the end, and gets
    the averaged towers as they are then. Raises FactsError for towers that lack a part, InputError for a corpus that
    asks nothing, and when the loss or the features stop being numbers.
    """
    image = _rules(towers, corpus)
    learner = Learner(towers, corpus, tokens, recipe)
    ids, mask = torch.from_numpy(tokens.ids), torch.from_numpy(tokens.mask)
    prepared = _prepared(corpus, image, recipe)
    losses, since = list[Tensor](), time.perf_counter()
    # on a CPU the backward of fused attention is the slower one for short texts
    attention = [SDPBackend.MATH] if learner.device.type == "cpu" else ATTENTION
    with sdpa_kernel(attention), beside(learner.device) as side, ThreadPoolExecutor(1) as ahead:
        ready = ahead.submit(next, prepared)
        for step in range(1, recipe.steps + 1):
            pixels, batch = result(ready)
            kept = mask[torch.from_numpy(batch.captions)]
            longest = int(kept.sum(dim=1).max())
            rows, kept = ids[torch.from_numpy(batch.captions), :longest], kept[:, :longest]
            ready = ahead.submit(next, prepared)
            losses.append(learner.step(pixels, rows, kept, batch, side))
            if step % every == 0 or step == recipe.steps:
                speed = len(losses) * len(batch.rows) / (time.perf_counter() - since)
                progress = _progress(learner, losses, speed)
                if step == recipe.steps:
                    learner.require_numbers(pixels, rows, kept)
                if listen is not None:
                    listen(progress, learner.average)
                losses, since = [], time.perf_counter()
    return learner.average


def _rules(towers: Towers, corpus: Corpus) -> Image:
    """Of the pictures that these towers learn from. Raises FactsError, InputError if they could learn nothing."""
    image = towers.config.image
    if image is None or towers.vision is None or towers.text is None or towers.logit_scale is None:
        raise FactsError("training needs both towers, a logit scale and the rules for pictures; this model lacks one")
    if not corpus.has_wrong_answers():
        raise InputError("every text is right for every picture; expected at least two pictures with different texts")
    return image


def _progress(learner: Learner, losses: list[Tensor], speed: float) -> Progress:
    loss, steps = float(torch.stack(losses).mean()), learner.recipe.steps
    if not np.isfinite(loss):
        raise InputError(f"the loss is {loss} at step {learner.steps} of {steps}: lower the recipe's lr")
    return Progress(
        step=learner.steps,
        steps=steps,
        loss=loss,
        lr=rate(learner.steps, learner.recipe),
        scale=float(learner.scale.detach().exp()),
        pictures_per_second=speed,
    )


def _prepared(corpus: Corpus, image: Image, recipe: Recipe) -> Iterator[tuple[Tensor, Batch]]:
    """Batches with their pixels (N, 3, S, S): read, blended, augmented, normalised."""
    generator = Generator().manual_seed(recipe.seed)
    mean, std = (torch.tensor(v)[:, None, None] for v in (image.mean, image.std))
    for batch in corpus.batches(recipe.batch, views=recipe.views, captions=recipe.captions, seed=recipe.seed):
        pictures = _float(corpus.pictures.read(batch.rows))
        if recipe.blend_chance:
            mixed = torch.rand(len(pictures), generator=generator) < recipe.blend_chance
            share = 0.5 * torch.rand(int(mixed.sum()), 1, 1, 1, generator=generator)
            other = _float(corpus.pictures.read(batch.others[mixed.numpy()]))
            pictures[mixed] = torch.lerp(pictures[mixed], other, share)
        pixels = augment(pictures, image.size, recipe.augment, generator, torch.from_numpy(batch.mirror))
        yield ((pixels - mean) / std).contiguous(memory_format=torch.channels_last), batch


def _float(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures).float() / 255
