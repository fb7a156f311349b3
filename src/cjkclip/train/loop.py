"""`fit`: the training loop. N images, M texts, L tokens.

AdamW, a linear warm-up and a cosine, an average of the weights as the result, bfloat16 if the processor supports it.
A seed gives the same weights again on the same machine with the same number of threads.
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
    """The progress that a listener gets. `loss` is the mean since the last report."""

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
    """Train `towers` on `corpus`, on their own device; return the averaged weights as new towers.

    `tokens` are those of `corpus.texts`. `listen` is called with the progress and the averaged towers every `every`
    steps and at the end. Raises FactsError for towers that lack a part, InputError if every caption fits every image
    (nothing to learn), or if the loss or the features become NaN or infinite.
    """
    image = _preprocessing(towers, corpus)
    learner = Learner(towers, corpus, tokens, recipe)
    ids, mask = torch.from_numpy(tokens.ids), torch.from_numpy(tokens.mask)
    batches = _batches(corpus, image, recipe)
    losses, since = list[Tensor](), time.perf_counter()
    # On a CPU the backward pass of fused attention is slower for short texts.
    attention = [SDPBackend.MATH] if learner.device.type == "cpu" else ATTENTION
    with sdpa_kernel(attention), beside(learner.device) as side, ThreadPoolExecutor(1) as ahead:
        ready = ahead.submit(next, batches)
        for step in range(1, recipe.steps + 1):
            pixels, batch = result(ready)
            rows_mask = mask[torch.from_numpy(batch.captions)]
            longest = int(rows_mask.sum(dim=1).max())
            rows, rows_mask = ids[torch.from_numpy(batch.captions), :longest], rows_mask[:, :longest]
            ready = ahead.submit(next, batches)
            losses.append(learner.step(pixels, rows, rows_mask, batch, side))
            if step % every == 0 or step == recipe.steps:
                speed = len(losses) * len(batch.rows) / (time.perf_counter() - since)
                progress = _progress(learner, losses, speed)
                if step == recipe.steps:
                    learner.require_numbers(pixels, rows, rows_mask)
                if listen is not None:
                    listen(progress, learner.average)
                losses, since = [], time.perf_counter()
    return learner.average


def _preprocessing(towers: Towers, corpus: Corpus) -> Image:
    """Return the preprocessing of the towers. Raises FactsError or InputError if they cannot be trained on `corpus`."""
    image = towers.config.image
    if image is None or towers.vision is None or towers.text is None or towers.logit_scale is None:
        parts = {"image tower": towers.vision, "text tower": towers.text, "logit_scale": towers.logit_scale}
        lacking = ", no ".join(name for name, part in {**parts, "preprocessing": image}.items() if part is None)
        raise FactsError(f"training needs both towers, logit_scale and preprocessing; this model has no {lacking}")
    if not corpus.has_wrong_answers():
        raise InputError(
            "every text is right for every image; expected at least two images with different texts: add pairs"
        )
    return image


def _progress(learner: Learner, losses: list[Tensor], speed: float) -> Progress:
    loss, steps = float(torch.stack(losses).mean()), learner.recipe.steps
    if not np.isfinite(loss):
        advice = f"lower the recipe's lr, for example Recipe(..., lr={learner.recipe.lr / 10:g})"
        raise InputError(f"the loss is {loss} at step {learner.steps} of {steps}: {advice}")
    return Progress(
        step=learner.steps,
        steps=steps,
        loss=loss,
        lr=rate(learner.steps, learner.recipe),
        scale=float(learner.scale.detach().exp()),
        pictures_per_second=speed,
    )


def _batches(corpus: Corpus, image: Image, recipe: Recipe) -> Iterator[tuple[Tensor, Batch]]:
    """Yield batches with their pixels (N, 3, S, S): read, blended, augmented, normalised."""
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
