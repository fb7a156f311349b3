"""Fine-tune a loaded model on a TSV file of pairs, and write a new model directory."""

import os
from collections.abc import Callable
from pathlib import Path

from cjkclip.checkpoints.weights.replace import new_folder, require_place
from cjkclip.clip import Clip
from cjkclip.engines.torch.towers import Towers
from cjkclip.errors import FactsError
from cjkclip.loading import load
from cjkclip.train.loop import Progress, fit
from cjkclip.train.recipe import Recipe
from cjkclip.train.towers import towers_of, write_model
from cjkclip.train.tsv import corpus_of, read_pairs


def finetune(
    model: str | Path,
    pairs: str | Path,
    out: str | Path,
    recipe: Recipe,
    *,
    device: str = "cpu",
    listen: Callable[[Progress], None] | None = None,
    every: int = 10,
) -> Clip:
    """Continue training `model` on the pairs of a TSV file (see `read_pairs`) and write the new directory `out`.

    Everything is checked before the first step: the output path, the file, the images, the captions. `listen` is
    called with the progress every `every` steps. The result is loaded from `out` and returned; it has the tokenizer
    and preprocessing of `model` and the layout "cjkclip". Raises InputError, ImageError, TextError, and the errors of
    `cjkclip.load`.
    """
    folder = Path(os.path.realpath(out))
    require_place(folder)
    clip = load(model)
    if clip.config.image is None:
        raise FactsError(
            f"{model}: this checkpoint has no preprocessing, so it cannot be trained: "
            "put its preprocessor_config.json beside the weights and load again"
        )
    corpus = corpus_of(read_pairs(pairs), clip.config.image)
    tokens = clip.tokenize(corpus.texts)
    assert clip.tokenizer is not None  # otherwise tokenize has raised an error
    towers = towers_of(clip).to(device)

    def report(progress: Progress, _: Towers) -> None:
        if listen is not None:
            listen(progress)

    result = fit(towers, corpus, tokens, recipe, listen=report, every=every)
    with new_folder(folder) as part:
        write_model(result, clip.tokenizer, part, owner=clip.family)
    return load(folder)
