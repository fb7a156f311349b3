"""`cjkclip classify`: which label fits a picture best."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

import cjkclip
from cjkclip.cli.inputs import Asked, gather_labels, skipping_bad, sort_inputs
from cjkclip.cli.options import Engine, Json, Model, Speech
from cjkclip.cli.screen import Report, cell
from cjkclip.errors import ImageError

BATCH = 32
BAR = 20  # characters of the bar for a probability of 1

Pictures = Annotated[
    list[str], typer.Argument(metavar="PICTURE...", help="Picture files, or folders of them.")
]
Labels = Annotated[
    list[str] | None,
    typer.Option("--labels", metavar="TEXT", help="Labels between commas; these count as commas: , ， 、"),
]
Label = Annotated[
    list[str] | None,
    typer.Option("--label", "-l", metavar="TEXT", help="One label, commas and all. May be repeated."),
]
LabelFile = Annotated[
    list[Path] | None,
    typer.Option(
        "--label-file", metavar="FILE", help="A UTF-8 file with one label per line; - is standard input."
    ),
]
Template = Annotated[
    list[str] | None,
    typer.Option("--template", metavar="TEXT", help="A sentence with {} for the label. May be repeated."),
]
Top = Annotated[
    int, typer.Option("--top", "-k", min=1, metavar="N", help="How many labels to show per picture.")
]


def classify(
    pictures: Pictures,
    *,
    labels: Labels = None,
    label: Label = None,
    label_file: LabelFile = None,
    template: Template = None,
    language: Speech = None,
    top: Top = 5,
    model: Model = "moji",
    engine: Engine = "auto",
    json: Json = False,
) -> None:
    """Say which label fits each picture best, with a probability among the labels given.

    Example: cjkclip classify photo.jpg --labels "猫,犬,鳥" --language ja
    """
    words = gather_labels(labels or [], label or [], label_file or [])
    if not words:
        raise typer.BadParameter("no labels: pass --labels '猫,犬', --label, or --label-file")
    with Report("classify", as_json=json) as report:
        asked = sort_inputs(pictures, "picture", folders=True)
        clip = cjkclip.load(model, engine=engine)
        report.answer |= {"model": model, "labels": words, "language": language, "results": []}
        with report.progress("reading pictures", len(asked)) as progress:
            for start in range(0, len(asked), BATCH):
                _batch(report, clip, asked[start : start + BATCH], words, (language, template))
                progress(min(start + BATCH, len(asked)))
        report.require_results()
        _show(report, top)


def _batch(
    report: Report,
    clip: "cjkclip.Clip",
    asked: list[Asked],
    labels: list[str],
    wording: tuple[str | None, list[str] | None],
) -> None:
    language, templates = wording

    def run(rows: list[int]) -> list[list[cjkclip.Prediction]]:
        return clip.classify([asked[i].picture for i in rows], labels, language=language, templates=templates)

    done, bad = skipping_bad(run, len(asked))
    for index, (one, found) in enumerate(zip(asked, done, strict=True)):
        if found is None:
            report.problem(one.name, ImageError(bad[index]))
        else:
            ranked = [{"label": label, "score": score} for label, score in found]
            report.answer["results"].append({"picture": one.name, "predictions": ranked})


def _show(report: Report, top: int) -> None:
    for result in report.answer["results"]:
        table = Table(
            title=cell(result["picture"], "bold"), title_justify="left", box=None, padding=(0, 2, 0, 0)
        )
        for heading, justify in (("label", "left"), ("probability", "right"), ("", "left")):
            table.add_column(heading, justify=justify, header_style="dim")
        for rank, found in enumerate(result["predictions"][:top]):
            style = "bold" if rank == 0 else ""
            bar = "█" * round(BAR * found["score"])
            table.add_row(cell(found["label"], style), f"{found['score']:.1%}", cell(bar, "cyan"))
        report.show(table, "")
