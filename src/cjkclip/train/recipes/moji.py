"""The recipe of the bundled model: its towers, vocabulary and training runs, first with small images, then larger.

Nothing here reads a file: `tools/moji_train.py` reads the images and the texts.
"""

from dataclasses import dataclass, replace

from cjkclip.config import Image, Model, ResNet, Text
from cjkclip.text.bpe_rules import OPENAI, BpeRules
from cjkclip.train.augment import Augment
from cjkclip.train.recipe import Recipe

LANGUAGES = ("zh", "zh-Hant", "ja", "ko", "en")
LOOKS = (
    ("noto",),
    ("fluent", "fluent-colour"),
    ("noto-v1",),
    ("emojione",),
    ("fxemoji",),
)  # designs that look alike are one entry
TRIAL_DESIGN = "emojione"  # excluded from trial runs, to compare settings on it; the final run trains on it too
NAME_SHARE = 0.6  # share of names among the drawn captions, the others are keywords; all languages are equally frequent

VOCABULARY = 3000
RULES: BpeRules = replace(OPENAI, cleaning="moji", context=32)

LIGHT = Augment(
    scale=0.2,
    stretch=0.12,
    rotate=10,
    shear=0.08,
    shift=0.08,
    perspective=0.05,
    bend=0.02,
    light=0.25,
    saturate=0.5,
    hue=25,
    mix_chance=0.1,
    grey_chance=0.05,
    ground_chance=0.1,
    blur=1.0,
    noise=0.03,
    erase_chance=0.2,
)
STRONG = Augment(
    scale=0.25,
    stretch=0.15,
    rotate=15,
    shear=0.1,
    shift=0.1,
    perspective=0.08,
    bend=0.03,
    light=0.3,
    saturate=0.6,
    hue=35,
    mix_chance=0.2,
    grey_chance=0.1,
    invert_chance=0.02,
    posterise_chance=0.05,
    ground_chance=0.15,
    blur=1.0,
    noise=0.05,
    erase_chance=0.3,
)
LAST = replace(LIGHT, bend=0.03, light=0.3, saturate=0.6, hue=35, mix_chance=0.2, grey_chance=0.1)
REDRAWN = replace(STRONG, rotate=10, redraw_chance=0.4, posterise_chance=0.15, mix_chance=0.3)
_LEVEL = Recipe(
    steps=1000,
    batch=256,
    lr=5e-3,
    warmup=100,
    decay=0.0,
    augment=LIGHT,
    blend_chance=0.15,
    anchors=1.0,
    average=0.995,
)


@dataclass(frozen=True, kw_only=True)
class Run:
    """One of the consecutive runs; each starts from the averaged weights of the one before."""

    size: int  # image width and height, pixels
    without: str | None  # a design excluded from this run
    recipe: Recipe


# The first run excludes the design that trials are measured on, because it is also their last run. The learning rate
# stays constant until the images have their final size.
RUNS = (
    Run(size=64, without=TRIAL_DESIGN, recipe=_LEVEL),
    Run(size=64, without=None, recipe=replace(_LEVEL, augment=STRONG, steps=1500, warmup=20, seed=1)),
    Run(size=64, without=None, recipe=replace(_LEVEL, augment=STRONG, steps=1200, warmup=20, seed=2)),
    Run(size=96, without=None, recipe=replace(_LEVEL, augment=STRONG, steps=2000, warmup=20, decay=1.0, seed=3)),
    Run(
        size=96,
        without=None,
        recipe=replace(_LEVEL, augment=LAST, steps=1300, lr=3e-3, warmup=20, decay=1.0, seed=4),
    ),
    Run(
        size=96,
        without=None,
        recipe=replace(_LEVEL, augment=LAST, steps=550, lr=3e-3, warmup=20, decay=1.0, average=0.99, seed=5),
    ),
    Run(
        size=96,
        without=None,
        recipe=replace(_LEVEL, augment=LAST, steps=1900, lr=4e-3, warmup=20, decay=1.0, seed=6),
    ),
    Run(
        size=96,
        without=None,
        recipe=replace(_LEVEL, augment=REDRAWN, steps=1100, lr=4e-3, warmup=20, decay=1.0, seed=7),
    ),
    Run(
        size=96,
        without=None,
        recipe=replace(
            _LEVEL,
            augment=replace(LAST, redraw_chance=0.3),
            steps=600,
            lr=4e-3,
            warmup=20,
            decay=1.0,
            average=0.99,
            seed=8,
        ),
    ),
)
AVERAGED = (4, 7, 8, 9)  # the model is the mean of the results of these runs, counted from 1
SIZE = RUNS[-1].size

# words in an English name that mean that the mirror image shows another concept
HANDED = {
    "left",
    "right",
    "leftwards",
    "rightwards",
    "arrow",
    "waxing",
    "waning",
    "quarter",
    "crescent",
    "increasing",
    "decreasing",
}
HANDED_GROUPS = {"Symbols", "Flags"}  # signs, letters and digits


def mirrors(name: str, group: str) -> bool:
    """Whether the image of an emoji may be flipped left to right, by its English name and Unicode's group.

    >>> mirrors("fox", "Animals & Nature"), mirrors("waxing crescent moon", "Travel & Places")
    (True, False)
    """
    return group not in HANDED_GROUPS and not HANDED & set(name.lower().replace("-", " ").split())


def model(vocabulary: int, size: int) -> Model:
    """Return the config for `vocabulary` token ids and images of `size` pixels a side."""
    return Model(
        vision=ResNet(image_size=size, width=16, stages=(2, 3, 6, 3), heads=8),
        text=Text(
            width=128,
            depth=2,
            heads=4,
            mlp=512,
            act="gelu",
            eps=1e-5,
            vocab=vocabulary,
            context=RULES.context,
            pool="largest-id",
            eot=vocabulary - 1,
            project=True,
        ),
        image=Image(
            size=size,
            resize="squash",  # the edges of a photograph matter more than its proportions: training stretches
            filter="bicubic",
            crop="floor",
            rgb="first",
            alpha="white",
            mean=(0.75, 0.7, 0.65),
            std=(0.32, 0.32, 0.35),
        ),
        embed=256,
        scale=None,
    )
