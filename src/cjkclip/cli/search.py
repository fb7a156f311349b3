"""`cjkclip search`: the pictures that fit a query best, as a table, as JSON, or as a contact sheet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import cjkclip
from cjkclip import moji
from cjkclip.cli.inputs import Asked, globbed, is_file, is_folder, require_filled, skipping_bad, sort_input, worded
from cjkclip.cli.options import Json, Kind, Run, Speech
from cjkclip.cli.screen import Report, cell
from cjkclip.cli.sheets import check_sheet, write_sheet
from cjkclip.errors import ImageError
from cjkclip.gallery import Bundled, Gallery, Hit, bundled, find_pictures, guess_language

Queries = Annotated[list[str], typer.Argument(metavar="QUERY", help="Words in any language, or a picture file.")]
Inside = Annotated[
    str,
    typer.Option(
        "--in",
        metavar="PLACE",
        help="A folder of pictures, a gallery of 'cjkclip embed', or the package's pictures: noto, fluent.",
    ),
]
Best = Annotated[int, typer.Option("-k", min=1, metavar="N", help="How many pictures to show per query.")]
SheetFile = Annotated[
    Path | None, typer.Option("--sheet", metavar="FILE", help="Draw the answers as a .png, .webp or .jpg.")
]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where is searched: a gallery, and how its pictures are found again."""

    gallery: Gallery
    folder: Path | None = None
    package: Bundled | None = None


def search(
    queries: Queries,
    *,
    inside: Inside = "noto",
    k: Best = 5,
    sheet: SheetFile = None,
    language: Speech = None,
    run: Run,
    json: Json = False,
) -> None:
    """Find the pictures that fit each query best: in the package's pictures, a folder, or a gallery file.

    The names of the package's pictures are shown in --language, or in the language that the query looks like.

    Example: cjkclip search "笑う猫" --in photos/ -k 10 --sheet found.png
    """
    with Report("search", as_json=json) as report:
        asked = [sort_input(query, Kind.AUTO) for query in globbed(queries)]
        if sheet is not None:
            check_sheet(sheet)
        clip = run.load()
        report.answer |= {"model": run.model, "in": inside, "results": []}
        place = _place(report, clip, inside)
        found = _search(report, clip, place.gallery, asked, k)
        for query, hits in found:
            is_picture = isinstance(query, Path)
            spoken = language or ("en" if isinstance(query, Path) else guess_language(query))
            shown = [_hit(place, hit, rank, spoken) for rank, hit in enumerate(hits, start=1)]
            about = {"kind": "picture" if is_picture else "text", "language": spoken}
            report.answer["results"].append({"query": str(query), **about, "hits": shown})
        report.require_results()
        for result in report.answer["results"]:
            report.show_titled(result["query"], _table(result))
        if sheet is not None:
            pictures = place.package.pictures if place.package else None
            write_sheet(report, sheet, [[hit.index for hit in hits] for _, hits in found], pictures)


def _place(report: Report, clip: "cjkclip.Clip", inside: str) -> Place:
    require_filled(inside)
    path = Path(inside)
    if inside in moji.DESIGNS and not is_folder(inside) and not is_file(inside):
        with report.progress("reading the package's pictures", len(moji.concepts())) as progress:
            whole = bundled(clip, inside, progress=progress)
        return Place(gallery=whole.gallery, package=whole)
    if is_file(inside):
        return Place(gallery=Gallery.load(path))
    paths = find_pictures(path, report.problem)
    names = [each.relative_to(path).as_posix() for each in paths]

    def heard(index: int, error: ImageError) -> None:
        report.problem(str(paths[index]), error)

    with report.progress("reading pictures", len(paths)) as progress:
        gallery = Gallery.from_pictures(clip, paths, names, on_error=heard, progress=progress)
    return Place(gallery=gallery, folder=path)


def _search(
    report: Report, clip: "cjkclip.Clip", gallery: Gallery, asked: list[Asked], k: int
) -> list[tuple[Asked, list[Hit]]]:
    """Hits of the queries that could be used, in their order; the others are reported."""
    found: dict[int, list[Hit]] = {}
    texts = {i: query for i, query in enumerate(asked) if isinstance(query, str) and worded(report, query)}
    if texts:
        found |= zip(texts, gallery.search_texts(clip, list(texts.values()), k), strict=True)
    places = [i for i, query in enumerate(asked) if isinstance(query, Path)]
    paths = [query for query in asked if isinstance(query, Path)]
    done, bad = skipping_bad(lambda rows: gallery.search_pictures(clip, [paths[i] for i in rows], k), len(paths))
    for index, message in bad.items():
        report.problem(str(paths[index]), ImageError(message))
    found |= {place: hits for place, hits in zip(places, done, strict=True) if hits is not None}
    return [(query, found[i]) for i, query in enumerate(asked) if i in found]


def _hit(place: Place, hit: Hit, rank: int, language: str) -> dict[str, Any]:
    shown: dict[str, Any] = {"rank": rank, "name": hit.name, "score": hit.score}
    if place.package is not None:
        concept = place.package.concepts[hit.index]
        return shown | {"name": concept.names[language], "char": concept.char, "names": dict(concept.names)}
    return shown | {"path": str(place.folder / hit.name if place.folder else Path(hit.name))}


def _table(result: dict[str, Any]) -> Table:
    drawn = any("char" in hit for hit in result["hits"])
    translated = drawn and result["language"] != "en"
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("", justify="right", style="dim")
    table.add_column("picture", overflow="fold")
    if translated:
        table.add_column("in English", style="dim", overflow="fold")
    table.add_column("score", justify="right")
    table.add_column("", no_wrap=True)  # last, since terminals do not agree how wide an emoji is
    for hit in result["hits"]:
        name = cell(hit["name"], "bold" if hit["rank"] == 1 else "")
        english = [cell(hit["names"]["en"])] if translated else []
        table.add_row(str(hit["rank"]), name, *english, f"{hit['score']:.3f}", hit.get("char", ""))
    return table
