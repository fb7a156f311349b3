"""`Recipe`: every setting of a training run, as checked data."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from cjkclip import records
from cjkclip.errors import InputError
from cjkclip.records import Limit
from cjkclip.train.augment import Augment

Count = Annotated[int, Limit("at least", 1)]
Share = Annotated[float, Limit("at least", 0), Limit("at most", 1)]
Weight = Annotated[float, Limit("at least", 0), Limit("below", math.inf)]
Rate = Annotated[float, Limit("more than", 0), Limit("below", math.inf)]
Average = Annotated[float, Limit("at least", 0), Limit("below", 1)]
Norm = Annotated[float, Limit("more than", 0)]
Seed = Annotated[int, Limit("at least", 0), Limit("below", 1 << 64)]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run. The defaults are for going on with a trained model; `recipes` holds others."""

    steps: Count
    batch: int = 64  # pictures a step
    lr: Rate = 1e-4  # the highest learning rate
    warmup: Annotated[int, Limit("at least", 0)] = 0  # steps until it is reached
    decay: Share = 1.0  # share of the steps after the warm-up, at the end, in which it falls to zero in a cosine
    weight_decay: Weight = 0.05
    augment: Augment = field(default_factory=Augment)
    views: Count = 1  # pictures of each thing in a batch
    captions: Count = 1  # texts of each thing in a batch
    blend_chance: Share = 0.0  # pictures mixed with another of the same thing
    same_thing: Weight = 0.0  # weight of the loss between pictures
    anchors: Weight = 0.0  # weight of the losses against one learnt vector per thing: every thing at once
    average: Average = 0.99  # share of its old value that the average of the weights keeps each step
    clip_norm: Norm = 5.0  # largest norm of the gradient
    scale_limit: Annotated[float, Limit("at least", 1)] = 100.0  # of exp(logit_scale), as in CLIP
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # "auto": bf16 where the processor multiplies it itself
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Raise InputError for the first value that cannot work."""
        problem = records.problem(self)
        if problem is None and self.batch < (least := 2 * self.views):
            problem = f"batch is {self.batch}, expected at least {least}: one thing alone has no wrong answer"
        if problem is not None:
            raise InputError(f"recipe: {problem}")
