"""`cjkclip classify`: the label that fits each image best."""

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

BATCH = 128  # images per call; the labels are encoded again at each call
BEST = 5  # labels in the table; JSON has all of them
ONE = (
    "one label alone always has the probability 1: compare its cosine with that of other images, or add labels that do "
    "not fit the image"
)
BAR = 20  # characters for a probability of 1

Pictures = Annotated[list[str], typer.Argument(metavar="IMAGE", help="Image files, or directories of them.")]
Labels = Annotated[
    list[str] | None,
    typer.Option("--labels", "-l", metavar="TEXT", help="Labels separated by commas (, or ， or 、). Repeatable."),
]
LabelFile = Annotated[
    list[Path] | None,
    typer.Option("--label-file", metavar="FILE", help="A UTF-8 file with one label per line. - is standard input."),
]
Template = Annotated[
    list[str] | None,
    typer.Option("--template", metavar="TEXT", help="A prompt template with {} for the label. Repeatable."),
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
    """Show the label that fits each image best, with its probability among the given labels.

    Example: cjkclip classify photo.jpg --labels "猫,犬,鳥" --language ja
    """
    if not labels and not label_file:
        raise typer.BadParameter("no labels: pass them, for example --labels '猫,犬' or --label-file FILE")
    with Report("classify", as_json=json) as report:
        words = gather_labels(labels or [], label_file or [])
        if not words:
            raise InputError(
                "no labels: --labels or the label file is empty. Pass labels, for example --labels '猫,犬'"
            )
        paths = picture_paths(report, pictures)
        clip = run.load()

        def ask(batch: Sequence[Path]) -> list[list[cjkclip.Prediction]]:
            return clip.classify(batch, words, language=language, templates=template, k=None if json else BEST)

        results = _classify(report, paths, ask)
        answer: records.ClassifyAnswer
        answer = {"model": run.model, "labels": words, "language": language, "results": results}
        report.answer = answer
        if len(words) == 1:
            report.note(ONE)
        report.require_results(results)
        for result in results:
            report.show_titled(result["picture"], _table(result, len(words)))


def _classify(
    report: Report, paths: list[Path], ask: Callable[[Sequence[Path]], list[list[cjkclip.Prediction]]]
) -> list[records.ClassifyResult]:
    """Classify batch by batch; an image that cannot be read is reported and has no result."""
    results: list[records.ClassifyResult] = []
    with report.progress("classifying images", len(paths)) as progress:
        for start in range(0, len(paths), BATCH):
            batch = paths[start : start + BATCH]
            rankings, errors = skipping_bad(lambda rows, batch=batch: ask([batch[i] for i in rows]), len(batch))
            for index, (path, predictions) in enumerate(zip(batch, rankings, strict=True)):
                if predictions is None:
                    report.problem(str(path), ImageError(errors[index]))
                else:
                    results.append(answers.classify_result(str(path), predictions))
            progress(start + len(batch))
    return results


class _Bar:
    """A bar for a probability. It shrinks on a narrow terminal, so that the label stays whole."""

    def __init__(self, score: float) -> None:
        self._score = score

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """Return the smallest and the largest width."""
        return Measurement(0, min(BAR, options.max_width))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the bar."""
        yield Text("█" * round(min(BAR, options.max_width) * self._score), style="cyan")


def _table(result: records.ClassifyResult, count: int) -> Table:
    """Return a table of the best labels: their probability among all `count`, or the cosine of a single one."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("label", header_style="dim", overflow="fold")
    table.add_column("cosine" if count == 1 else "probability", header_style="dim", justify="right", no_wrap=True)
    table.add_column("" if count == 1 else f"among {count}", header_style="dim")
    for rank, one in enumerate(result["predictions"][:BEST]):
        label = cell(one["label"], "bold" if rank == 0 else "")
        if count == 1:
            table.add_row(label, f"{one['cosine']:.3f}", "")
        else:
            table.add_row(label, f"{one['score']:.1%}", _Bar(one["score"]))
    return table
