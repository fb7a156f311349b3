"""Train any model that `cjkclip.load` reads, on your own images and captions.

    from cjkclip.train import Recipe, finetune

    finetune("moji", "pairs.tsv", "my-model", Recipe(steps=300))    # image<TAB>caption per line
    clip = cjkclip.load("my-model")

`fit` is the training loop, over any `Corpus`. Needs torch: pip install 'cjkclip[train]'. Each name is imported at its
first use.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cjkclip.train.augment import Augment
    from cjkclip.train.data import Corpus, InMemory, Thing
    from cjkclip.train.finetuning import finetune
    from cjkclip.train.loop import Progress, fit
    from cjkclip.train.recipe import Recipe
    from cjkclip.train.statistics import measure_statistics
    from cjkclip.train.tokenizer import train_bpe
    from cjkclip.train.towers import grown, mean, towers_of, write_model
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
    "train_bpe",
    "write_model",
]

_MODULES = {
    "Augment": "augment",
    "Corpus": "data",
    "InMemory": "data",
    "Progress": "loop",
    "Recipe": "recipe",
    "Thing": "data",
    "corpus_of": "tsv",
    "finetune": "finetuning",
    "fit": "loop",
    "grown": "towers",
    "mean": "towers",
    "measure_statistics": "statistics",
    "read_pairs": "tsv",
    "towers_of": "towers",
    "train_bpe": "tokenizer",
    "write_model": "towers",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module 'cjkclip.train' has no attribute {name!r}")
    return getattr(importlib.import_module(f"cjkclip.train.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
