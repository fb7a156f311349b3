"""`cjkclip train`: go on training a model on your own pairs of picture and text."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from cjkclip.answers import records
from cjkclip.cli.options import Json
from cjkclip.cli.report import Report
from cjkclip.cli.streams import safe
from cjkclip.errors import InputError, MissingDependencyError

Pairs = Annotated[
    Path, typer.Argument(metavar="PAIRS.tsv", help="A UTF-8 file; on each line a picture's path, a tab, its text.")
]
Start = Annotated[str, typer.Option("--from", metavar="MODEL", help="The model to start from.")]
Folder = Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="A new folder for the trained model.")]
Steps = Annotated[int, typer.Option("--steps", min=1, metavar="N", help="How many steps to train.")]
Batch = Annotated[int, typer.Option("--batch", min=2, metavar="N", help="Pictures per step.")]
Rate = Annotated[float, typer.Option("--lr", metavar="RATE", help="The highest learning rate.")]
Seed = Annotated[int, typer.Option("--seed", min=0, metavar="N", help="The same seed gives the same model again.")]


def train(
    pairs: Pairs,
    out: Folder,
    *,
    start: Start = "moji",
    steps: Steps = 300,
    batch: Batch = 64,
    lr: Rate = 1e-4,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Go on training a model on your own pairs of picture and text; needs torch.

    Paths in the file are relative to it. A picture may stand on several lines, with one text each.

    Example: cjkclip train pairs.tsv --from moji --out my-model --steps 500
    """
    with Report("train", as_json=json) as report:
        if not pairs.is_file():
            raise InputError(f"{str(pairs)!r} is no file: name a text file of picture<TAB>text lines")
        began, losses = time.perf_counter(), list[records.LossRecord]()
        finetune, recipe = _training(steps=steps, batch=batch, lr=lr, seed=seed)
        with report.progress("training", steps) as progress:

            def listen(now: Any) -> None:
                progress(now.step)
                losses.append({"step": now.step, "loss": now.loss})

            clip = finetune(start, pairs, out, recipe, listen=listen)
        answer: records.TrainAnswer = {
            "model": start,
            "out": str(out),
            "fingerprint": clip.fingerprint,
            "losses": losses,
        }
        report.answer = answer
        fell = f", loss {losses[0]['loss']:.3f} to {losses[-1]['loss']:.3f}" if losses else ""
        report.show(f"{steps} steps in {time.perf_counter() - began:.0f} s{fell}; written to {safe(str(out))}")


def _training(**recipe: Any) -> tuple[Any, Any]:
    """`finetune` and its recipe, or MissingDependencyError: only training needs torch."""
    try:
        from cjkclip.train import Recipe, finetune
    except ModuleNotFoundError as missing:
        raise MissingDependencyError(
            f"training needs {missing.name}, which is not installed: pip install 'cjkclip[train]'"
        ) from missing
    return finetune, Recipe(**recipe)
