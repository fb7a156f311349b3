"""`cjkclip verify`: check whether two checkpoints are the same model, and show the first stage that differs."""

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer
from rich.table import Table

import cjkclip
from cjkclip import answers
from cjkclip.cli.inputs import read_facts
from cjkclip.cli.options import Engine, Json
from cjkclip.cli.report import Report, cell
from cjkclip.cli.streams import SOME_FAILED
from cjkclip.errors import FactsError, OptionError
from cjkclip.verify import TOLERANCE, Comparison, Stage, compare

First = Annotated[str, typer.Argument(metavar="A", help="A name from 'cjkclip models', hub id, directory or file.")]
Second = Annotated[str, typer.Argument(metavar="B", help="The model to compare with A, given in the same way.")]
Tolerance = Annotated[
    float,
    typer.Option(
        "--tolerance", min=0, metavar="SHARE", help="Accepted difference of a stage, relative to its largest value."
    ),
]
Facts = Annotated[
    list[str] | None,
    typer.Option(
        "--fact", metavar="NAME=VALUE", help="A config value that one checkpoint lacks, e.g. vision.act=gelu."
    ),
]
Tower = Annotated[
    str | None,
    typer.Option("--image-tower", metavar="MODEL", help="Image tower for a model that has only a text tower."),
]


def verify(
    first: First,
    second: Second,
    *,
    image_tower: Tower = None,
    fact: Facts = None,
    tolerance: Tolerance = TOLERANCE,
    engine: Engine = "auto",
    json: Json = False,
) -> None:
    """Compare two checkpoints: tokens and pixels first, then every stage of both towers.

    The inputs are part of the package. Both models get the tokens and pixels of A. --fact and --image-tower apply to
    the model that lacks them; a --fact that neither model needs is an error.

    Example: cjkclip verify openai/clip-vit-base-patch32 converted/
    """
    facts = read_facts(fact or [])
    if not math.isfinite(tolerance):
        raise typer.BadParameter(
            f"--tolerance {tolerance} must be a finite number, 0 or larger, for example --tolerance 1e-4"
        )
    with Report("verify", as_json=json) as report:
        clips = _open_both((first, second), facts, image_tower, engine)
        result = compare(*clips, tolerance=tolerance)
        report.answer = answers.verify_answer((first, second), result)
        show(report, result)
    if not result.same:
        raise typer.Exit(SOME_FAILED)


def _open_both(
    names: tuple[str, str], facts: dict[str, Any], image_tower: str | None, engine: str
) -> list[cjkclip.Clip]:
    """Load both models from their own files; the options only fill in what a model lacks."""
    clips, used = list[cjkclip.Clip](), False
    for name in names:
        load = partial(cjkclip.load, name, engine=engine, precision="fp32")
        clip, needed = _open(load, facts, None)
        if image_tower is not None and clip.config.vision is None:
            clip, needed = _open(load, facts, image_tower)
        clips.append(clip)
        used |= needed
    if facts and not used:
        raise OptionError(f"--fact {', '.join(facts)}: both models have their own config values; remove --fact")
    return clips


def _open(
    load: Callable[..., cjkclip.Clip], facts: dict[str, Any], image_tower: str | None
) -> tuple[cjkclip.Clip, bool]:
    """Return the model, and whether `facts` were needed to load it."""
    try:
        return load(facts={}, image_tower=image_tower), False
    except FactsError:
        if not facts:
            raise
    return load(facts=facts, image_tower=image_tower), True


def show(report: Report, result: Comparison) -> None:
    """Print a comparison: the table, the differences between the configs, and the result."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("stage", no_wrap=True)
    for heading in ("largest", "difference", "relative"):
        table.add_column(heading, no_wrap=True, justify="right")
    table.add_column("", overflow="fold")
    for stage in result.stages:
        good = result.within(stage)
        verdict = cell("same" if good else f"differs; {stage.note}".rstrip("; "), "green" if good else "bold red")
        table.add_row(stage.name, *_figures(stage), verdict)
    report.show(table, *(cell(f"configs: {fact}") for fact in result.facts))
    if result.first is None:
        report.show(f"the same: {len(result.stages)} stages within {result.tolerance:g}")
    else:
        report.show(cell(f"not the same: {result.first.name} is the first stage that differs", "bold red"))


def _figures(stage: Stage) -> list[str]:
    if stage.apart is None or stage.relative is None:
        return ["", "", ""]
    if stage.name == "tokens":
        return [f"{stage.largest:.0f} texts", f"{stage.apart:.0f} texts", f"{stage.relative:.0%}"]
    return [f"{stage.largest:.3g}", f"{stage.apart:.1e}", f"{stage.relative:.1e}"]
