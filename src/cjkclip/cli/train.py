"""`cjkclip train`: fine-tune a model on your own pairs of image and text."""

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
    Path, typer.Argument(metavar="PAIRS.tsv", help="A UTF-8 file. Each line is an image path, a tab and a text.")
]
Start = Annotated[str, typer.Option("--from", metavar="MODEL", help="The model to fine-tune.")]
Folder = Annotated[Path, typer.Option("--out", "-o", metavar="FOLDER", help="A new directory for the trained model.")]
Steps = Annotated[int, typer.Option("--steps", min=1, metavar="N", help="Number of training steps.")]
Batch = Annotated[int, typer.Option("--batch", min=2, metavar="N", help="Batch size: images per step.")]
Rate = Annotated[float, typer.Option("--lr", metavar="RATE", help="Peak learning rate.")]
Seed = Annotated[
    int, typer.Option("--seed", min=0, metavar="N", help="Random seed. The same seed gives the same model.")
]


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
    """Fine-tune a model on your own pairs of image and text; requires torch.

    Image paths are relative to the directory of PAIRS.tsv. To give an image several texts, write one line for each.

    Example: cjkclip train pairs.tsv --from moji --out my-model --steps 500
    """
    with Report("train", as_json=json) as report:
        if not pairs.is_file():
            raise InputError(f"{str(pairs)!r} is not a file: pass a UTF-8 file with one image<TAB>text pair per line")
        start_time, losses = time.perf_counter(), list[records.LossRecord]()
        finetune, recipe = _training(steps=steps, batch=batch, lr=lr, seed=seed)
        with report.progress("training", steps) as progress:

            def listen(state: Any) -> None:
                progress(state.step)
                losses.append({"step": state.step, "loss": state.loss})

            clip = finetune(start, pairs, out, recipe, listen=listen)
        answer: records.TrainAnswer = {
            "model": start,
            "out": str(out),
            "fingerprint": clip.fingerprint,
            "losses": losses,
        }
        report.answer = answer
        change = f", loss {losses[0]['loss']:.3f} to {losses[-1]['loss']:.3f}" if losses else ""
        report.show(f"{steps} steps in {time.perf_counter() - start_time:.0f} s{change}; written to {safe(str(out))}")


def _training(**recipe: Any) -> tuple[Any, Any]:
    """Return `finetune` and its recipe. Raises MissingDependencyError without torch, which only training requires."""
    try:
        from cjkclip.train import Recipe, finetune
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            f"training requires {error.name}, which is not installed: pip install 'cjkclip[train]'"
        ) from error
    return finetune, Recipe(**recipe)
