"""Train any model that `cjkclip.load` reads on your own images and captions.

    from cjkclip.train import Recipe, finetune

    finetune("moji", "pairs.tsv", "my-model", Recipe(steps=300))    # one picture<TAB>caption per line
    clip = cjkclip.load("my-model")

`fit` is the underlying loop, for any `Corpus`. Requires torch: pip install 'cjkclip[train]'.
"""

from cjkclip.train.augment import Augment
from cjkclip.train.data import Corpus, InMemory, Thing
from cjkclip.train.finetune import finetune, grown, mean, towers_of, write_model
from cjkclip.train.loop import Progress, fit
from cjkclip.train.recipe import Recipe
from cjkclip.train.statistics import measure_statistics
from cjkclip.train.tsv import corpus_of, read_pairs

__all__ = [
    "Augment",
    "Corpus",
    "InMemory",
    "Progress",
    "Recipe",
    "Thing",
    "corpus_of",
    "finetune",
    "fit",
    "grown",
    "mean",
    "measure_statistics",
    "read_pairs",
    "towers_of",
    "write_model",
]
