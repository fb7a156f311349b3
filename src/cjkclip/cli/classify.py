"""`cjkclip classify`: which label fits a picture best."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

import cjkclip
from cjkclip import answers
from cjkclip.answers import records
from cjkclip.cli.inputs import gather_labels, picture_paths
from cjkclip.cli.options import Json, ModelOptions, Speech
from cjkclip.cli.report import Report, cell
from cjkclip.errors import ImageError, InputError
from cjkclip.gallery.ask import skipping_bad

BATCH = 128  # the labels are encoded again for each batch
BEST = 5  # labels of the table; JSON has them all
BAR = 20  # characters for a probability of 1

Pictures = Annotated[list[str], typer.Argument(metavar="PICTURE", help="Picture files, or folders of them.")]
Labels = Annotated[
    list[str] | None,
    typer.Option("--labels", "-l", metavar="TEXT", help="Labels between commas: , or ， or 、. May be repeated."),
]
LabelFile = Annotated[
    list[Path] | None,
    typer.Option("--label-file", metavar="FILE", help="A UTF-8 file, one label per line; - is standard input."),
]
Template = Annotated[
    list[str] | None,
    typer.Option("--template", metavar="TEXT", help="A sentence with {} for the label. May be repeated."),
]


def classify(
    pictures: Pictures,
    *,
    labels: Labels = None,
    label_file: LabelFile = None,
    template: Template = None,
    language: Speech = None,
    run: ModelOptions,
    json: Json = False,
) -> None:
    """Say which label fits each picture best, with its probability among the labels given.

    Example: cjkclip classify photo.jpg --labels "猫,犬,鳥" --language ja
    """
    if not labels and not label_file:
        raise typer.BadParameter("no labels: pass --labels '猫,犬' or --label-file FILE")
    with Report("classify", as_json=json) as report:
        words = gather_labels(labels or [], label_file or [])
        if not words:
            raise InputError("no labels: there is nothing between the commas, or no line in the file")
        paths = picture_paths(report, pictures)
        clip = run.load()

        def ask(batch: Sequence[Path]) -> list[list[cjkclip.Prediction]]:
            return clip.classify(batch, words, language=language, templates=template)

        results = _classify(report, paths, ask)
        answer: records.ClassifyAnswer = {
            "model": run.model,
            "labels": words,
            "language": language,
            "results": results,
        }
        report.answer = answer
        report.require_results(results)
        for result in results:
            report.show_titled(result["picture"], _table(result))


def _classify(
    report: Report, paths: list[Path], ask: Callable[[Sequence[Path]], list[list[cjkclip.Prediction]]]
) -> list[records.ClassifyResult]:
    """Classify batch by batch; an image that cannot be read is reported and has no result."""
    results: list[records.ClassifyResult] = []
    with report.progress("reading pictures", len(paths)) as progress:
        for start in range(0, len(paths), BATCH):
            batch = paths[start : start + BATCH]
            done, bad = skipping_bad(lambda rows, batch=batch: ask([batch[i] for i in rows]), len(batch))
            for index, (path, found) in enumerate(zip(batch, done, strict=True)):
                if found is None:
                    report.problem(str(path), ImageError(bad[index]))
                else:
                    results.append(answers.classify_result(str(path), found))
            progress(start + len(batch))
    return results


class _Bar:
    """A bar for a probability: shorter where there is less room, never in the way of the label."""

    def __init__(self, score: float) -> None:
        self._score = score

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """How wide it may become."""
        return Measurement(0, min(BAR, options.max_width))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """What rich prints."""
        yield Text("█" * round(min(BAR, options.max_width) * self._score), style="cyan")


def _table(result: records.ClassifyResult) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("label", header_style="dim", overflow="fold")
    table.add_column("probability", header_style="dim", justify="right", no_wrap=True)
    table.add_column("")
    for rank, found in enumerate(result["predictions"][:BEST]):
        label = cell(found["label"], "bold" if rank == 0 else "")
        table.add_row(label, f"{found['score']:.1%}", _Bar(found["score"]))
    return table
