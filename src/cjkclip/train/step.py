"""One step of training: features, loss, gradients, new weights. N images, M texts, L tokens, E joint width, T things.

On a CPU the text tower and each half of the images have their own threads, forwards and backwards. Each operation then
needs only one core, and no core waits for another inside an operation. Batch statistics are those of one half.
"""

import math
from concurrent.futures import Executor, ThreadPoolExecutor
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cjkclip.arrays import Float, Int
from cjkclip.engines.torch.loss import contrastive, same_thing, soft_cross_entropy
from cjkclip.engines.torch.towers import Towers
from cjkclip.errors import InputError
from cjkclip.machine.threads import Here
from cjkclip.text import Tokens
from cjkclip.train.data import Batch, Corpus
from cjkclip.train.recipe import Recipe

SPLIT = 128  # batch size from which two threads share the images


def beside(device: torch.device) -> Executor:
    """Return the executor for the text tower and the second half of the images.

    A second thread does not speed up a GPU, and with Apple's it ends the process.
    """
    return ThreadPoolExecutor(2) if device.type == "cpu" else Here()


class Learner:
    """Towers in training: the weights, their average, the optimiser and the anchors (T, E)."""

    def __init__(self, towers: Towers, corpus: Corpus, tokens: Tokens, recipe: Recipe) -> None:
        self.towers = towers
        towers.train().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue, reportUnknownMemberType]
        self.corpus, self.recipe = corpus, recipe
        assert towers.logit_scale is not None
        self.scale = towers.logit_scale
        self.device = self.scale.device
        self.average = copy(towers)
        self.twin = twin(towers.vision) if self.device.type == "cpu" and recipe.batch >= SPLIT else None
        self.anchors = torch.nn.Parameter(self._anchors(tokens))
        groups = [*_groups(towers, recipe.weight_decay), {"params": [self.anchors], "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=recipe.lr, betas=(0.9, 0.98), fused=True)
        self.steps = 0

    def step(
        self,
        pixels: Float[Tensor, "N 3 S S"],
        ids: Int[Tensor, "M L"],
        mask: Int[Tensor, "M L"],
        batch: Batch,
        side: Executor,
    ) -> Tensor:
        """Train on one batch and return its loss. `side` is the executor of `beside`."""
        self.steps += 1
        for group in self.optimiser.param_groups:
            group["lr"] = rate(self.steps, self.recipe)
        self.optimiser.zero_grad()
        half = len(pixels) // 2 if self.twin is not None else len(pixels)
        others = [side.submit(self.encode, self.towers.text, ids, mask)]
        if self.twin is not None:
            others.append(side.submit(self.encode, self.twin, pixels[half:]))
        first = self.encode(self.towers.vision, pixels[:half])
        text, *rest = [other.result() for other in others]
        image = torch.cat([first, *rest]).detach().requires_grad_()
        words = text.detach().requires_grad_()
        loss = self.loss(image, words, batch)
        backward(loss, None)
        assert image.grad is not None
        assert words.grad is not None
        back = [side.submit(backward, text, words.grad)]
        back += [side.submit(backward, second, image.grad[half:]) for second in rest]
        backward(first, image.grad[:half])
        for done in back:
            done.result()
        torch.nn.utils.clip_grad_norm_(self.towers.parameters(), self.recipe.clip_norm)
        self.optimiser.step()
        self._follow()
        return loss.detach()

    def encode(self, tower: torch.nn.Module | None, *inputs: Tensor) -> Tensor:
        """Return float32 features of one tower, with their autograd graph."""
        assert tower is not None
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=uses_bf16(self.recipe, self.device)):
            return tower(*(tensor.to(self.device) for tensor in inputs)).float()

    @torch.no_grad()
    def require_numbers(
        self, pixels: Float[Tensor, "N 3 S S"], ids: Int[Tensor, "M L"], mask: Int[Tensor, "M L"]
    ) -> None:
        """Raise InputError unless the average is finite and its features of this batch have finite lengths above 0.

        The loss was computed before the last update, and finite weights can be so large that features overflow.
        """
        sound = all(bool(part.isfinite().all()) for part in self.average.state_dict().values())
        features = self.encode(self.average.vision, pixels), self.encode(self.average.text, ids, mask)
        lengths = torch.cat(features).square().sum(dim=1).sqrt()
        sound = sound and bool(((lengths > 0) & lengths.isfinite()).all())
        if not sound:
            raise InputError(
                f"the features are NaN, infinite or zero after step {self.steps} of {self.recipe.steps}: "
                f"lower the recipe's lr, for example Recipe(..., lr={self.recipe.lr / 10:g})"
            )

    def loss(self, image: Float[Tensor, "N E"], text: Float[Tensor, "M E"], batch: Batch) -> Float[Tensor, ""]:
        """Return the weighted sum of the recipe's losses; features need not have unit length."""
        image, text = F.normalize(image, dim=1), F.normalize(text, dim=1)
        scale = self.scale.exp()
        thing = torch.from_numpy(batch.thing).to(self.device)
        loss = contrastive(image, text, scale, torch.from_numpy(batch.right).to(self.device))
        if self.recipe.anchors:
            points = F.normalize(self.anchors, dim=1)
            right = self.corpus.right(np.arange(len(points), dtype=np.int64), batch.captions).T
            right = torch.from_numpy(right.copy()).to(self.device)
            loss = loss + self.recipe.anchors * (
                F.cross_entropy(scale * image @ points.T, thing) + soft_cross_entropy(scale * text @ points.T, right)
            )
        if self.recipe.same_thing:
            loss = loss + self.recipe.same_thing * same_thing(image, scale.detach(), thing)
        return loss

    @torch.no_grad()
    def _anchors(self, tokens: Tokens) -> Float[Tensor, "T E"]:
        """Return each thing's mean caption minus the overall mean, as short vectors: a step changes their direction."""
        if not self.recipe.anchors:
            return torch.zeros(0, self.towers.config.embed, device=self.device)
        longest = int(tokens.mask.sum(axis=1).max())
        ids, mask = (torch.from_numpy(array[:, :longest]) for array in (tokens.ids, tokens.mask))
        parts = [slice(row, row + 1024) for row in range(0, len(ids), 1024)]
        texts = F.normalize(torch.cat([self.encode(self.towers.text, ids[p], mask[p]) for p in parts]), dim=1)
        means = [texts[list(t.captions)].T @ torch.tensor(t.weights, device=self.device) for t in self.corpus.things]
        centres = torch.stack(means) / torch.tensor([[sum(t.weights)] for t in self.corpus.things], device=self.device)
        centred = centres - centres.mean(dim=0)
        return 0.2 * centred / centred.std().clamp(min=1e-6)

    @torch.no_grad()
    def _follow(self) -> None:
        """Clamp the logit scale; move the average towards the weights and the batch statistics."""
        self.scale.clamp_(0, math.log(self.recipe.scale_limit))
        keep = min(self.recipe.average, self.steps / (self.steps + 9))
        for ours, theirs in zip(self.average.state_dict().values(), self.towers.state_dict().values(), strict=True):
            if ours.is_floating_point():
                ours.lerp_(theirs, 1 - keep)
            else:
                ours.copy_(theirs)


def backward(end: Tensor, gradient: Tensor | None) -> None:
    """Backpropagate from `end` and accumulate the gradients."""
    end.backward(gradient)  # pyright: ignore[reportUnknownMemberType]


def rate(step: int, recipe: Recipe) -> float:
    """Return the learning rate of a step, counted from 1: linear warm-up, constant, cosine decay to almost zero.

    >>> recipe = Recipe(steps=110, lr=1.0, warmup=10, decay=0.5)
    >>> [round(rate(step, recipe), 3) for step in (1, 10, 60, 85, 110)]
    [0.1, 1.0, 1.0, 0.5, 0.001]
    """
    if step <= recipe.warmup:
        return recipe.lr * step / recipe.warmup
    falling = recipe.decay * (recipe.steps - recipe.warmup)
    left = min((recipe.steps - step) / falling, 1.0) if falling else 1.0
    return recipe.lr * max(0.5 - 0.5 * math.cos(math.pi * left), 1e-3)


def uses_bf16(recipe: Recipe, device: torch.device) -> bool:
    """Whether this recipe computes in bfloat16 on this device."""
    if recipe.precision == "auto":
        has = torch.cpu._is_avx512_bf16_supported  # pyright: ignore[reportPrivateUsage]  # no public name before 2.13
        return device.type == "cuda" or (device.type == "cpu" and has())
    return recipe.precision == "bf16"


def copy(towers: Towers) -> Towers:
    """Return a copy of the towers in evaluation mode, without gradients and without shared tensors."""
    twin = Towers(towers.config)
    twin.load_state_dict(towers.state_dict())
    return twin.to(next(towers.parameters()).device).eval().requires_grad_(False)


def twin(tower: torch.nn.Module | None) -> torch.nn.Module:
    """Return a tower that shares the parameters but has its own batch statistics."""
    assert tower is not None
    shared = {id(parameter): parameter for parameter in tower.parameters()}
    return deepcopy(tower, shared)  # deepcopy does not copy objects in its memo


def _groups(towers: Towers, decay: float) -> list[dict[str, object]]:
    """Return parameter groups with weight decay for matrices only, not for biases, norms, positions and scale."""
    decayed = {n: p.ndim > 1 and "position" not in n for n, p in towers.named_parameters()}
    parameters = dict(towers.named_parameters())
    return [
        {"params": [parameters[n] for n, d in decayed.items() if d is which], "weight_decay": decay if which else 0.0}
        for which in (True, False)
    ]
