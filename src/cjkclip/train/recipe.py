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
    """The settings of a training run. The defaults suit fine-tuning a trained model; `recipes` contains others."""

    steps: Count
    batch: int = 64  # images per step
    lr: Rate = 1e-4  # the highest learning rate
    warmup: Annotated[int, Limit("at least", 0)] = 0  # steps until the highest rate is reached
    decay: Share = 1.0  # share of the steps after the warm-up in which the rate falls to zero by a cosine, at the end
    weight_decay: Weight = 0.05
    augment: Augment = field(default_factory=Augment)
    views: Count = 1  # images of each thing in a batch
    captions: Count = 1  # texts of each thing in a batch
    blend_chance: Share = 0.0  # share of images mixed with another of the same thing
    same_thing: Weight = 0.0  # weight of the loss between images
    anchors: Weight = 0.0  # weight of the losses against one learnt vector per thing, over all things
    average: Average = 0.99  # share of its old value that the averaged weights keep per step
    clip_norm: Norm = 5.0  # largest norm of the gradient
    scale_limit: Annotated[float, Limit("at least", 1)] = 100.0  # of exp(logit_scale), as in CLIP
    precision: Literal["auto", "bf16", "fp32"] = "auto"  # "auto": bf16 if the processor has instructions for it
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Raise InputError for the first value that cannot work."""
        problem = records.problem(self)
        if problem is None and self.batch < (least := 2 * self.views):
            problem = f"batch is {self.batch}, expected at least {least}: one thing alone has no wrong answer"
        if problem is not None:
            raise InputError(f"recipe: {problem}")
