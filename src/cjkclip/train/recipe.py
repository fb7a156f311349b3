"""`Recipe`: everything that decides what comes out of a training run, as data. Refuses: values that cannot work."""

import math
from dataclasses import dataclass, field
from typing import Literal

from cjkclip.errors import InputError
from cjkclip.train.augment import Augment


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run. The defaults are for going on with a trained model; `recipes` holds others."""

    steps: int
    batch: int = 64  # pictures a step
    lr: float = 1e-4  # the highest learning rate
    warmup: int = 0  # steps until it is reached
    decay: float = 1.0  # share of the steps after the warm-up, at the end, in which it falls to zero in a cosine
    weight_decay: float = 0.05
    augment: Augment = field(default_factory=Augment)
    views: int = 1  # pictures of each thing in a batch
    captions: int = 1  # texts of each thing in a batch
    blend_chance: float = 0.0  # pictures mixed with another of the same thing
    same_thing: float = 0.0  # weight of the loss between pictures
    anchors: float = 0.0  # weight of the losses against one learnt vector per thing: every thing at once
    average: float = 0.99  # share of its old value the average of the weights keeps each step
    clip_norm: float = 5.0  # of the gradient
    scale_limit: float = 100.0  # of exp(logit_scale), as in CLIP
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # "auto": bf16 where the processor multiplies it itself
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises InputError that names the first value that cannot work."""
        for name, (works, expected) in self._sense().items():
            if not works:
                raise InputError(f"recipe: {name} is {getattr(self, name)!r}, expected {expected}")

    def _sense(self) -> dict[str, tuple[bool, str]]:
        """Does each value work, and what does? Of NaN every comparison is false."""
        some, share, above = "0 or more", "0 to 1", "more than 0"
        least = 2 * self.views
        return {
            "steps": (self.steps >= 1, "at least 1"),
            "views": (self.views >= 1, "at least 1"),
            "captions": (self.captions >= 1, "at least 1"),
            "batch": (self.batch >= least, f"at least {least}: two things, for one alone has no wrong answer"),
            "lr": (0 < self.lr < math.inf, f"{above}, and finite"),
            "warmup": (self.warmup >= 0, some),
            "decay": (0 <= self.decay <= 1, share),
            "weight_decay": (0 <= self.weight_decay < math.inf, some),
            "blend_chance": (0 <= self.blend_chance <= 1, share),
            "same_thing": (0 <= self.same_thing < math.inf, some),
            "anchors": (0 <= self.anchors < math.inf, some),
            "average": (0 <= self.average < 1, "0 to below 1"),
            "clip_norm": (self.clip_norm > 0, above),
            "scale_limit": (self.scale_limit >= 1, "at least 1"),
            "precision": (self.precision in ("auto", "bf16", "fp32"), "'auto', 'bf16' or 'fp32'"),
            "seed": (0 <= self.seed < 1 << 64, "0 to 2 ** 64 - 1"),
        }
