"""`cjkclip verify`: whether two checkpoints are the same model, and if not, from which stage on."""

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

First = Annotated[str, typer.Argument(metavar="A", help="A name of 'cjkclip models', hub id, folder or file.")]
Second = Annotated[str, typer.Argument(metavar="B", help="What is compared with it, likewise.")]
Tolerance = Annotated[
    float,
    typer.Option("--tolerance", min=0, metavar="SHARE", help="How far a stage may be off, of its largest value."),
]
Facts = Annotated[
    list[str] | None,
    typer.Option("--fact", metavar="NAME=VALUE", help="What the files of one do not tell, as vision.act=gelu."),
]
Tower = Annotated[
    str | None,
    typer.Option("--image-tower", metavar="MODEL", help="Where the image tower is of a model that has only text."),
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

    What is asked comes with the package. Both towers get A's tokens and pixels. A --fact or an --image-tower
    serves whichever of the two does not have its own; a --fact that neither needs is refused.

    Example: cjkclip verify openai/clip-vit-base-patch32 converted/
    """
    facts = read_facts(fact or [])
    if not math.isfinite(tolerance):
        raise typer.BadParameter(f"--tolerance {tolerance} must be a finite number that is not negative, as 1e-4")
    with Report("verify", as_json=json) as report:
        clips = _open_both((first, second), facts, image_tower, engine)
        found = compare(*clips, tolerance=tolerance)
        report.answer = answers.verify_answer((first, second), found)
        show(report, found)
    if not found.same:
        raise typer.Exit(SOME_FAILED)


def _open_both(
    names: tuple[str, str], facts: dict[str, Any], image_tower: str | None, engine: str
) -> list[cjkclip.Clip]:
    """Each model as its files tell, since what they tell is what is compared; the options serve one that does not."""
    clips, served = list[cjkclip.Clip](), False
    for name in names:
        load = partial(cjkclip.load, name, engine=engine, precision="fp32")
        clip, stated = _open(load, facts, None)
        if image_tower is not None and clip.config.vision is None:
            clip, stated = _open(load, facts, image_tower)
        clips.append(clip)
        served |= stated
    if facts and not served:
        raise OptionError(f"--fact {', '.join(facts)}: both models tell their own facts, so leave it out")
    return clips


def _open(
    load: Callable[..., cjkclip.Clip], facts: dict[str, Any], image_tower: str | None
) -> tuple[cjkclip.Clip, bool]:
    """A model, and whether the stated facts had to help."""
    try:
        return load(facts={}, image_tower=image_tower), False
    except FactsError:
        if not facts:
            raise
    return load(facts=facts, image_tower=image_tower), True


def show(report: Report, found: Comparison) -> None:
    """A comparison as a table, the configs' differences, and the verdict."""
    table = Table(box=None, padding=(0, 3, 0, 0), header_style="dim")
    table.add_column("stage", no_wrap=True)
    for heading in ("largest", "difference", "relative"):
        table.add_column(heading, no_wrap=True, justify="right")
    table.add_column("", overflow="fold")
    for stage in found.stages:
        good = found.within(stage)
        verdict = cell("same" if good else f"differs; {stage.note}".rstrip("; "), "green" if good else "bold red")
        table.add_row(stage.name, *_figures(stage), verdict)
    report.show(table, *(cell(f"configs: {fact}") for fact in found.facts))
    if found.first is None:
        report.show(f"the same: {len(found.stages)} stages within {found.tolerance:g}")
    else:
        report.show(cell(f"not the same: {found.first.name} is the first stage that differs", "bold red"))


def _figures(stage: Stage) -> list[str]:
    if stage.apart is None or stage.relative is None:
        return ["", "", ""]
    if stage.name == "tokens":
        return [f"{stage.largest:.0f} texts", f"{stage.apart:.0f} texts", f"{stage.relative:.0%}"]
    return [f"{stage.largest:.3g}", f"{stage.apart:.1e}", f"{stage.relative:.1e}"]
