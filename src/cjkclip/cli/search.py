"""`cjkclip search`: show the images that fit a query best, as a table, as JSON, or as a contact sheet."""

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cjkclip import answers
from cjkclip.answers import records
from cjkclip.cli.inputs import TextOrPath, globbed, require_filled, sort_input
from cjkclip.cli.options import Json, Kind, ModelOptions, Speech
from cjkclip.cli.report import Report, cell
from cjkclip.cli.sheets import check_sheet, write_sheet
from cjkclip.gallery import Hit, guess_language
from cjkclip.gallery.ask import Place, ask, open_place

Queries = Annotated[list[str], typer.Argument(metavar="QUERY", help="A text in any language, or an image file.")]
Inside = Annotated[
    str,
    typer.Option(
        "--in",
        metavar="PLACE",
        help="A directory of images, a gallery file of 'cjkclip embed', or the bundled images: noto, fluent.",
    ),
]
Best = Annotated[int, typer.Option("-k", min=1, metavar="N", help="Number of images per query.")]
SheetFile = Annotated[
    Path | None,
    typer.Option("--sheet", metavar="FILE", help="Draw the results as a .png, .webp or .jpg contact sheet."),
]


def search(
    query: Queries,
    *,
    inside: Inside = "noto",
    k: Best = 5,
    sheet: SheetFile = None,
    language: Speech = None,
    run: ModelOptions,
    json: Json = False,
) -> None:
    """Find the images that fit each query best: among the bundled images, in a directory, or in a gallery file.

    Names of bundled images are shown in --language, by default in the language of the query.

    Example: cjkclip search "笑う猫" --in photos/ -k 10 --sheet found.png
    """
    with Report("search", as_json=json) as report:
        queries = [sort_input(word, Kind.AUTO) for word in globbed(query)]
        if sheet is not None:
            check_sheet(sheet)
        clip = run.load()
        require_filled(inside)
        with report.progress("encoding images") as progress:
            place = open_place(clip, inside, on_error=report.problem, progress=progress)
        hits = ask(clip, place.gallery, queries, k, on_error=lambda i, error: report.problem(str(queries[i]), error))
        results = [
            _result(place, query, each, language) for query, each in zip(queries, hits, strict=True) if each is not None
        ]
        answer: records.SearchAnswer = {"model": run.model, "in": inside, "results": results}
        report.answer = answer
        report.require_results(results)
        for result in results:
            report.show_titled(result["query"], _table(result))
        if sheet is not None:
            pictures = place.package.pictures if place.package else ()
            places = [[hit.index for hit in each] for each in hits if each is not None]
            write_sheet(report, sheet, results, places, pictures)
            answer["sheet"] = str(sheet)


def _result(place: Place, query: TextOrPath, hits: list[Hit], language: str | None) -> records.SearchResult:
    if isinstance(query, Path):
        return answers.search_result(place, str(query), hits, kind="picture", language=language or "en")
    return answers.search_result(place, query, hits, kind="text", language=language or guess_language(query))


def _table(result: records.SearchResult) -> Table:
    bundled = any("char" in hit for hit in result["hits"])
    translated = bundled and result["language"] != "en"
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", justify="right", style="dim")
    table.add_column("image", overflow="fold")
    if translated:
        table.add_column("in English", style="dim", overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("", no_wrap=True)  # the last column, because terminals disagree about the width of an emoji
    for hit in result["hits"]:
        name = cell(hit["name"], "bold" if hit["rank"] == 1 else "")
        english, char = ("", "") if "path" in hit else (hit["names"]["en"], hit["char"])
        row = (name, cell(english)) if translated else (name,)
        table.add_row(str(hit["rank"]), *row, f"{hit['score']:.3f}", char)
    return table
