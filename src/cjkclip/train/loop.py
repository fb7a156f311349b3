"""`fit`: the training loop, and `Recipe`, everything that decides what comes out of it. N pictures, M texts.

AdamW, linear warm-up then a cosine to zero, an average of the weights, bfloat16 where the processor has it. A seed
gives the same weights again on the same machine with the same number of threads.
"""

import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from cjkclip.config import Image
from cjkclip.engines.torch.towers import Towers
from cjkclip.train.augment import Augment, augment
from cjkclip.train.data import Batch, Corpus
from cjkclip.train.loss import contrastive, same_thing, soft_cross_entropy


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run as data."""

    steps: int
    batch: int  # pictures a step
    lr: float  # the highest learning rate
    warmup: int  # steps
    augment: Augment
    weight_decay: float = 0.05
    views: int = 1  # pictures of each thing drawn
    captions: int = 1  # texts of each thing drawn
    blend_chance: float = 0.0  # pictures mixed with another of the same thing
    same_thing: float = 0.0  # weight of the loss between pictures
    anchors: float = 0.0  # weight of the losses against one learnt vector per thing; they hold every thing at once
    average: float = 0.998  # of the weights, per step; the average is the result
    clip_norm: float = 5.0
    scale_limit: float = 100.0  # of exp(logit_scale)
    text_dropout: float = 0.0  # tokens replaced by zeros
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a listener hears. `loss` is the mean since the last time."""

    step: int
    steps: int
    loss: float
    lr: float
    scale: float
    pictures_per_second: float


Listener = Callable[[Progress, Towers], None]


def fit(
    towers: Towers, corpus: Corpus, ids: Tensor, recipe: Recipe, *, listen: Listener | None = None, every: int = 50
) -> Towers:
    """Train `towers` on `corpus` and return averaged weights as new towers in evaluation mode.

    `ids` (texts, L) are the token ids of `corpus.texts`, end padded with 0. `listen` is called every `every` steps
    with the progress and the averaged towers.
    """
    torch.manual_seed(recipe.seed)
    towers.train().to(memory_format=torch.channels_last)
    average = _copy(towers)
    anchors = torch.nn.Parameter(torch.randn(len(corpus.things), towers.config.embed) * 0.2)
    groups = [*_groups(towers, recipe.weight_decay), {"params": [anchors], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98), fused=True)
    batches = corpus.batches(recipe.batch, views=recipe.views, captions=recipe.captions, seed=recipe.seed)
    prepared = _prepared(corpus, batches, towers.config.image, recipe)
    losses, since, seen = list[Tensor](), time.perf_counter(), 0
    # fused attention's backward is the slower one for short texts on a CPU
    with sdpa_kernel(SDPBackend.MATH), ThreadPoolExecutor(1) as side:
        ready = side.submit(next, prepared)
        for step in range(1, recipe.steps + 1):
            pixels, batch = ready.result()
            lr = rate(step, recipe)
            for group in optimiser.param_groups:
                group["lr"] = lr
            optimiser.zero_grad()
            texts = side.submit(encode, towers.text, ids[torch.from_numpy(batch.captions)], recipe)
            ready = side.submit(next, prepared)
            image = encode(towers.vision, pixels, recipe)
            text = texts.result()
            ends = [image.detach().requires_grad_(), text.detach().requires_grad_()]
            loss = batch_loss(*ends, towers.logit_scale, batch, recipe, anchors, corpus)
            loss.backward()
            back = side.submit(text.backward, ends[1].grad)
            image.backward(ends[0].grad)
            back.result()
            torch.nn.utils.clip_grad_norm_(towers.parameters(), recipe.clip_norm)
            optimiser.step()
            _follow(average, towers, min(recipe.average, step / (step + 9)), math.log(recipe.scale_limit))
            losses.append(loss.detach())
            seen += len(batch.rows)
            if listen is not None and (step % every == 0 or step == recipe.steps):
                speed = seen / (time.perf_counter() - since)
                mean = float(torch.stack(losses).mean())
                scale = float(towers.logit_scale.detach().exp())
                listen(
                    Progress(step=step, steps=recipe.steps, loss=mean, lr=lr, scale=scale, pictures_per_second=speed),
                    average,
                )
                losses, since, seen = [], time.perf_counter(), 0
    return average.eval()


def encode(tower: torch.nn.Module, inputs: Tensor, recipe: Recipe) -> Tensor:
    """Features of one tower, float32, with their graph."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=uses_bf16(recipe)):
        return tower(inputs).float()


def rate(step: int, recipe: Recipe) -> float:
    """The learning rate of a step, counted from 1."""
    if step <= recipe.warmup:
        return recipe.lr * step / recipe.warmup
    done = (step - recipe.warmup) / max(recipe.steps - recipe.warmup, 1)
    return recipe.lr * (0.5 + 0.5 * math.cos(math.pi * done)) + 1e-3 * recipe.lr


def batch_loss(
    image: Tensor, text: Tensor, logit_scale: Tensor, batch: Batch, recipe: Recipe, anchors: Tensor, corpus: Corpus
) -> Tensor:
    """The loss of one batch of features (N, E) and (M, E)."""
    image, text = F.normalize(image, dim=1), F.normalize(text, dim=1)
    scale = logit_scale.exp()
    loss = contrastive(image, text, scale, torch.from_numpy(batch.right))
    if recipe.anchors:
        points = F.normalize(anchors, dim=1)
        named = torch.from_numpy(corpus.right(np.arange(len(points)), batch.captions).T.copy())
        loss = loss + recipe.anchors * (
            F.cross_entropy(scale * image @ points.T, torch.from_numpy(batch.thing))
            + soft_cross_entropy(scale * text @ points.T, named)
        )
    if recipe.same_thing:
        loss = loss + recipe.same_thing * same_thing(image, scale.detach(), torch.from_numpy(batch.thing))
    return loss


def uses_bf16(recipe: Recipe) -> bool:
    """ "auto": only where the processor multiplies bfloat16 itself."""
    if recipe.precision == "auto":
        return bool(torch.backends.cpu.get_cpu_capability() == "AVX512" and torch.cpu._is_avx512_bf16_supported())
    return recipe.precision == "bf16"


def _prepared(corpus: Corpus, batches: Iterator[Batch], image: Image, recipe: Recipe) -> Iterator[tuple[Tensor, Batch]]:
    """Batches with their pixels: read, blended, augmented, normalised."""
    generator = Generator().manual_seed(recipe.seed)
    mean, std = (torch.tensor(v)[:, None, None] for v in (image.mean, image.std))
    for batch in batches:
        pictures = _float(corpus.pictures.read(batch.rows))
        if recipe.blend_chance:
            mixed = torch.rand(len(pictures), generator=generator) < recipe.blend_chance
            share = 0.5 * torch.rand(int(mixed.sum()), 1, 1, 1, generator=generator)
            other = _float(corpus.pictures.read(batch.others[mixed.numpy()]))
            pictures[mixed] = torch.lerp(pictures[mixed], other, share)
        mirror = torch.from_numpy(batch.mirror)
        pixels = augment(pictures, image.size, recipe.augment, generator, mirror)
        yield ((pixels - mean) / std).contiguous(memory_format=torch.channels_last), batch


def _float(pictures: np.ndarray) -> Tensor:
    return torch.from_numpy(pictures).float() / 255


def _copy(towers: Towers) -> Towers:
    copy = Towers(towers.config)
    copy.load_state_dict(towers.state_dict())
    return copy.eval().requires_grad_(False)


@torch.no_grad()
def _follow(average: Towers, towers: Towers, keep: float, limit: float) -> None:
    """Move the average towards the weights and the batch statistics; hold the logit scale in its range."""
    towers.logit_scale.clamp_(0, limit)
    for ours, theirs in zip(average.state_dict().values(), towers.state_dict().values(), strict=True):
        ours.lerp_(theirs, 1 - keep) if ours.is_floating_point() else ours.copy_(theirs)


def _groups(towers: Towers, decay: float) -> list[dict[str, object]]:
    """Weight decay for matrices only: not for biases, norms, positions, nor the scale."""
    named = list(towers.named_parameters())
    matrices = [p for n, p in named if p.ndim > 1 and "position" not in n]
    others = [p for n, p in named if not (p.ndim > 1 and "position" not in n)]
    return [{"params": matrices, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
