"""`cjkclip bench`: how fast a model is here on each engine, how far that is from the limit, and what to use."""

from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

import cjkclip
from cjkclip.checkpoints.weights.replace import replacing
from cjkclip.cli.inputs import is_folder, read_facts
from cjkclip.cli.options import Facts, Json, Model, Tower
from cjkclip.cli.screen import Report, cell, json_text, safe
from cjkclip.errors import EngineError, InputError, WeightsError
from cjkclip.machine import processor
from cjkclip.speed import jobs
from cjkclip.speed.advice import advise
from cjkclip.speed.jobs import FULL, QUICK, Line, Measured, Pace, Setting
from cjkclip.speed.products import matrix_rate


class Measurable(StrEnum):
    """Engines that can be measured. numpy is a reference and not meant to be fast."""

    AUTO = "auto"
    OPENVINO = "openvino"
    TORCH = "torch"


Engine = Annotated[
    Measurable,
    typer.Option("--engine", help="auto: all that are installed. openvino in fp32 is measured in any case."),
]
Quick = Annotated[bool, typer.Option("--quick", help="A few rounds: a first impression.")]
Int8 = Annotated[bool, typer.Option("--int8", help="Measure int8 too; making it takes minutes the first time.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="FILE.json", help="Where to write what --json would print."),
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
    """Measure a model on this machine: every engine and precision there is, and which to use for what.

    The limit is the rate of matrix products alone, in the same engine and precision, measured in the same run.
    "off by" and "cosine" are the largest difference and the least cosine to vectors of openvino in fp32.
    Close other programs first: all cores are used.

    Example: cjkclip bench --model OFA-Sys/chinese-clip-vit-base-patch16
    """
    asked: dict[str, Any] = {"facts": read_facts(fact or []), "image_tower": image_tower}
    if out is not None and out.suffix != ".json":
        raise typer.BadParameter(f"--out {str(out)!r} must end in .json")

    def load(setting: Setting | None) -> cjkclip.Clip:
        return cjkclip.load(model, **asked, **({} if setting is None else asdict(setting)))

    with Report("bench", as_json=json) as report:
        _require_place(out)
        pace, found = (QUICK if quick else FULL), processor.describe()
        default, plain = _plain(report, load, pace)
        measured = _towers(report, load, jobs.settings(engine, int8=int8), pace)
        advice = advise(model, asked, measured, plain, default, found["cores"])
        report.answer |= {"model": model, "machine": found, "quick": quick, "default": asdict(default)}
        report.answer |= {"settings": [_record(one) for one in measured], "plain": [_row(line) for line in plain]}
        report.answer["advice"] = advice
        report.show(cell(f"{model} on {processor.sentence(found)}", "bold"), "", _table(measured, plain), "")
        report.show(*map(cell, advice))
        if out is not None:
            _write(out, json_text(report.whole(report.answer)))
            report.show(f"written to {safe(str(out))}")


def _require_place(out: Path | None) -> None:
    if out is not None and (is_folder(str(out)) or not is_folder(str(out.parent))):
        raise InputError(f"--out {str(out)!r} has to be a file in a folder that exists: make {str(out.parent)!r} first")


def _plain(report: Report, load: Load, pace: Pace) -> tuple[Setting, list[Line]]:
    """What `load` takes by itself, and what is measured once because no engine takes part in it."""
    with report.progress("looking at the model", 1) as progress:
        clip = load(None)
        used = clip.engine  # the gate may measure here
        default = Setting(engine=used.name, precision=used.precision, device=used.device)
        progress(1)
    return default, _timed(report, "without an engine", jobs.plain_jobs(clip), pace)


def _towers(report: Report, load: Load, settings: list[Setting], pace: Pace) -> list[Measured]:
    """One setting after the other; never two engines of the model at once."""
    measured, exact = list[Measured](), None
    for setting in settings:
        with report.progress(f"{setting}: matrix products", 1) as progress:
            limit = matrix_rate(**asdict(setting), rounds=pace.products)
            progress(1)
        clip = load(setting)
        try:
            vectors = jobs.vectors(clip)
        except EngineError as error:  # int8 may be refused
            report.note(f"{setting}: {error}")
            continue
        exact = exact or vectors
        lines = _timed(report, str(setting), jobs.tower_jobs(clip), pace)
        del clip
        distances = jobs.distances(vectors, exact)
        measured.append(Measured(setting=setting, limit=limit, lines=lines, distances=distances))
    return measured


def _timed(report: Report, what: str, listed: list[jobs.Job], pace: Pace) -> list[Line]:
    lines: list[Line] = []
    with report.progress(what, len(listed)) as progress:
        for job in listed:
            lines.append(jobs.timed(job, pace))
            progress(len(lines))
    return lines


def _record(one: Measured) -> dict[str, Any]:
    """One setting for machines."""
    rows = [_row(line) | {"share": one.share(line)} for line in one.lines]
    distances = {tower: asdict(distance) for tower, distance in one.distances.items()}
    return {**asdict(one.setting), "limit_gflops": one.limit, "distances": distances, "rows": rows}


def _row(line: Line) -> dict[str, Any]:
    return asdict(line) | {"rate": line.rate, "gflops": line.gflops}


def _table(measured: list[Measured], plain: list[Line]) -> Table:
    """One block per setting, headed by its limit. The best rate of each job is green."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", no_wrap=True)
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=True, justify="right")
    fastest: dict[str, float] = {}
    for line in (line for one in measured for line in one.lines):
        fastest[line.name] = max(line.rate, fastest.get(line.name, 0.0))
    for one in measured:
        limit = "" if one.limit is None else f"{one.limit:,.0f}"
        table.add_row(cell(str(one.setting), "bold"), "", "", limit, "limit" if limit else "", style="bold")
        for line in one.lines:
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


def _begin(line: Line, rate: Text) -> tuple[Text, Text, str]:
    return cell(f"  {line.name}"), rate, f"{line.seconds * 1e3:,.2f}"


def _write(out: Path, text: str) -> None:
    try:
        with replacing(out) as file:
            file.write(text.encode())
    except WeightsError as error:
        raise InputError(str(error)) from error
