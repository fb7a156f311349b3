"""`cjkclip bench`: the speed of a model on each engine, its share of the limit, and which setting to use."""

from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

import cjkclip
from cjkclip.answers import bench_answer
from cjkclip.checkpoints.weights.replace import replacing
from cjkclip.cli.inputs import read_facts
from cjkclip.cli.options import Facts, Json, Model, Tower
from cjkclip.cli.report import Report, cell, json_text
from cjkclip.cli.streams import safe
from cjkclip.errors import EngineError, InputError, WeightsError
from cjkclip.gallery.files import is_folder
from cjkclip.machine import processor
from cjkclip.speed import jobs
from cjkclip.speed.advice import advise
from cjkclip.speed.jobs import FULL, QUICK, BenchRow, Pace, Setting, Timing
from cjkclip.speed.products import matrix_rate


class Measurable(StrEnum):
    """Engines that can be measured. numpy is a reference and not meant to be fast."""

    AUTO = "auto"
    OPENVINO = "openvino"
    TORCH = "torch"


Engine = Annotated[
    Measurable,
    typer.Option("--engine", help="Engine to measure. auto: all installed ones. openvino in fp32 is always measured."),
]
Quick = Annotated[bool, typer.Option("--quick", help="Measure only a few rounds, for a first impression.")]
Int8 = Annotated[bool, typer.Option("--int8", help="Also measure int8. The first time, quantising takes minutes.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FILE.json", help="Write the output of --json to this file."),
]
Load = Callable[[Setting | None], "cjkclip.Clip"]
HEADINGS = ("per second", "ms", "GFLOP/s", "of limit", "off by", "cosine")


def bench(
    *,
    model: Model = "moji",
    image_tower: Tower = None,
    fact: Facts = None,
    engine: Engine = Measurable.AUTO,
    quick: Quick = False,
    int8: Int8 = False,
    out: Out = None,
    json: Json = False,
) -> None:
    """Measure a model on this machine, with every available engine and precision, and recommend one.

    The limit is the rate of matrix products alone, in the same engine and precision, measured in the same run.
    "off by" and "cosine" are the largest difference and the lowest cosine similarity to vectors of openvino in fp32.
    Close other programs first: all cores are used.

    Example: cjkclip bench --model OFA-Sys/chinese-clip-vit-base-patch16
    """
    options: dict[str, Any] = {"facts": read_facts(fact or []), "image_tower": image_tower}
    if out is not None and out.suffix != ".json":
        raise typer.BadParameter(f"--out {str(out)!r} must end in .json")

    def load(setting: Setting | None) -> cjkclip.Clip:
        return cjkclip.load(model, **(options if setting is None else options | asdict(setting)))

    with Report("bench", as_json=json) as report:
        _require_place(out)
        pace, machine = (QUICK if quick else FULL), processor.describe()
        default, plain = _plain(report, load, pace)
        timings = _towers(report, load, jobs.settings(engine, int8=int8), pace)
        advice = advise(model, options, timings, plain, default, machine["cores"])
        report.answer = dict(
            bench_answer(model, machine, quick=quick, default=default, timings=timings, plain=plain, advice=advice)
        )
        report.show(cell(f"{model} on {processor.sentence(machine)}", "bold"), "", _table(timings, plain), "")
        report.show(*map(cell, advice))
        if out is not None:
            _write(out, json_text(report.whole(report.answer)))
            report.show(f"written to {safe(str(out))}")


def _require_place(out: Path | None) -> None:
    if out is not None and (is_folder(str(out)) or not is_folder(str(out.parent))):
        raise InputError(
            f"--out {str(out)!r} must be a file in an existing directory: create {str(out.parent)!r} first"
        )


def _plain(report: Report, load: Load, pace: Pace) -> tuple[Setting, list[BenchRow]]:
    """Return the setting that `load` chooses, and the rows that need no engine and are measured once."""
    with report.progress("loading the model", 1) as progress:
        clip = load(None)
        best = clip.engine  # may measure whether half precision is close enough
        default = Setting(engine=best.name, precision=best.precision, device=best.device)
        progress(1)
    return default, _timed(report, "without an engine", jobs.plain_jobs(clip), pace)


def _towers(report: Report, load: Load, settings: list[Setting], pace: Pace) -> list[Timing]:
    """Measure one setting after the other; two engines of the model never exist at the same time."""
    timings, exact = list[Timing](), None
    for setting in settings:
        with report.progress(f"{setting}: matrix products", 1) as progress:
            limit = matrix_rate(**asdict(setting), rounds=pace.products)
            progress(1)
        clip = load(setting)
        try:
            vectors = jobs.vectors(clip)
        except EngineError as error:  # int8 may be rejected
            report.note(f"{setting}: {error}")
            continue
        exact = exact or vectors
        rows = _timed(report, str(setting), jobs.tower_jobs(clip), pace)
        del clip
        distances = jobs.distances(vectors, exact)
        timings.append(Timing(setting=setting, limit=limit, rows=rows, distances=distances))
    return timings


def _timed(report: Report, title: str, todo: list[jobs.Job], pace: Pace) -> list[BenchRow]:
    lines: list[BenchRow] = []
    with report.progress(title, len(todo)) as progress:
        for job in todo:
            lines.append(jobs.timed(job, pace))
            progress(len(lines))
    return lines


def _table(timings: list[Timing], plain: list[BenchRow]) -> Table:
    """Return one block per setting, headed by its limit. The best rate of each job is green."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=True, justify="right")
    fastest: dict[str, float] = {}
    for line in (line for one in timings for line in one.rows):
        fastest[line.name] = max(line.rate, fastest.get(line.name, 0.0))
    for one in timings:
        limit = "" if one.limit is None else f"{one.limit:,.0f}"
        table.add_row(cell(str(one.setting), "bold"), "", "", limit, "limit" if limit else "", style="bold")
        for line in one.rows:
            share, apart = one.share(line), one.distances[line.kind]
            rate = cell(f"{line.rate:,.1f}", "green" if line.rate == fastest[line.name] else "")
            work = (f"{line.gflops or 0:,.0f}", "" if share is None else f"{share:.0%}")
            off = () if one.setting == jobs.EXACT else (f"{apart.difference:.0e}", f"{apart.cosine:.5f}")
            table.add_row(*_begin(line, rate), *work, *off)
    if plain:
        table.add_row(cell("without an engine", "bold"))
    for line in plain:
        table.add_row(*_begin(line, cell(f"{line.rate:,.1f}")))
    return table


def _begin(line: BenchRow, rate: Text) -> tuple[Text, Text, str]:
    return cell(f"  {line.name}"), rate, f"{line.seconds * 1e3:,.2f}"


def _write(out: Path, text: str) -> None:
    try:
        with replacing(out) as file:
            file.write(text.encode())
    except WeightsError as error:
        raise InputError(str(error)) from error
