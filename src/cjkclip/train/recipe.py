"""`Recipe`: everything that decides what comes out of a training run, as data. Refuses: values that cannot work."""

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
        """Raises InputError for counts below one and rates that are not positive."""
        for name in ("steps", "batch", "views", "captions"):
            if getattr(self, name) < 1:
                raise InputError(f"recipe: {name} is {getattr(self, name)}, expected at least 1")
        if not (self.lr > 0 and 0 <= self.average < 1 and self.scale_limit >= 1 and self.warmup >= 0):
            raise InputError(
                f"recipe: lr {self.lr}, average {self.average}, scale_limit {self.scale_limit}, warmup {self.warmup}; "
                "expected lr > 0, 0 <= average < 1, scale_limit >= 1, warmup >= 0"
            )
