"""`cjkclip doctor`: check the installation, the choice of engine, and a model.

Each check is one line: name, status, finding. A check that fails does not stop the others.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Annotated

import typer
from rich.table import Table

import cjkclip
from cjkclip.answers.records import Check, DoctorAnswer
from cjkclip.cli import checks
from cjkclip.cli.inputs import read_facts
from cjkclip.cli.model_checks import model_checks
from cjkclip.cli.options import Engine, Facts, Json, Precision, Tower
from cjkclip.cli.report import Report, cell, exit_code
from cjkclip.errors import CjkclipError

ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="The model to check.")]
_STYLES = {"ok": "green", "note": "yellow", "fail": "bold red"}


def doctor(
    model: ModelName = "moji",
    *,
    image_tower: Tower = None,
    fact: Facts = None,
    engine: Engine = "auto",
    precision: Precision = "auto",
    json: Json = False,
) -> None:
    """Check this installation and a model: whether the model loads and encodes, and report unusual values.

    Example: cjkclip doctor openai/clip-vit-base-patch32
    """
    facts = read_facts(fact or [])

    def load(engine: str, precision: str) -> cjkclip.Clip:
        return cjkclip.load(model, facts=facts, image_tower=image_tower, engine=engine, precision=precision)

    with Report("doctor", as_json=json) as report:
        results, code = list[Check](), 0
        for name, check in chain(_checks(engine, precision), model_checks(model, load, engine, precision)):
            try:
                status, finding = check()
            except CjkclipError as error:
                status, finding, code = "fail", str(error), exit_code(error)
            results.append({"name": name, "status": status, "found": finding})
        answer: DoctorAnswer = {"model": model, "well": code == 0, "checks": results}
        report.answer = answer
        report.show(_table(results))
    if code:
        raise typer.Exit(code)


def _checks(engine: str, precision: str) -> Iterator[tuple[str, Callable[[], checks.Result]]]:
    yield "cjkclip", checks.versions
    yield "processor", checks.processor
    yield "engines", checks.installed_engines
    yield "engine chosen", lambda: checks.chosen_engine(engine, precision)
    yield "hub", checks.hub_state
    yield "fonts", checks.fonts


def _table(results: list[Check]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in results:
        table.add_row(check["name"], cell(check["status"], _STYLES[check["status"]]), cell(check["found"]))
    return table
