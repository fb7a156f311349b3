"""`cjkclip search`: the pictures that fit a query best, as a table, as JSON, or as a contact sheet."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import cjkclip
from cjkclip.cli.inputs import Asked, skipping_bad, sort_inputs
from cjkclip.cli.options import As, Design, Engine, Json, Model, Speech
from cjkclip.cli.screen import Report, cell
from cjkclip.cli.sheets import write_sheet
from cjkclip.errors import ImageError, TextError
from cjkclip.gallery import Bundled, Gallery, Hit, bundled, find_pictures, guess_language
from cjkclip.text import require_words

Queries = Annotated[
    list[str], typer.Argument(metavar="QUERY...", help="Words in any language, or a picture file.")
]
Inside = Annotated[
    Path | None,
    typer.Option(
        "--in", metavar="FOLDER", help="A folder of pictures, or a gallery written by 'cjkclip embed'."
    ),
]
Best = Annotated[int, typer.Option("-k", min=1, metavar="N", help="How many pictures to show per query.")]
SheetFile = Annotated[
    Path | None, typer.Option("--sheet", metavar="FILE.png", help="Draw the answers as a picture.")
]
DesignOption = Annotated[Design, typer.Option("--design", help="Which bundled pictures to search.")]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where is searched: a gallery, and how its pictures are found again."""

    gallery: Gallery
    folder: Path | None = None
    inside: Bundled | None = None


def search(
    queries: Queries,
    *,
    inside: Inside = None,
    k: Best = 5,
    sheet: SheetFile = None,
    language: Speech = None,
    kind: As = "auto",
    design: DesignOption = "noto",
    model: Model = "moji",
    engine: Engine = "auto",
    json: Json = False,
) -> None:
    """Find the pictures that fit each query best: in the pictures of the package, a folder, or a gallery file.

    The names of the package's pictures are shown in --language, or in the language that the query looks like.

    Example: cjkclip search "笑う猫" --in photos/ -k 10 --sheet found.png
    """
    with Report("search", as_json=json) as report:
        asked = sort_inputs(queries, kind, folders=False)
        clip = cjkclip.load(model, engine=engine)
        place = _place(report, clip, inside, design)
        report.answer |= {"model": model, "pictures": len(place.gallery), "results": []}
        found = _search(report, clip, place.gallery, asked, k)
        for one, hits in found:
            spoken = language or ("en" if one.picture else guess_language(one.name))
            shown = [_hit(place, hit, rank, spoken) for rank, hit in enumerate(hits, start=1)]
            about = {"kind": "picture" if one.picture else "text", "language": spoken}
            report.answer["results"].append({"query": one.name, **about, "hits": shown})
        report.require_results()
        for result in report.answer["results"]:
            report.show(_table(result), "")
        if sheet is not None:
            pictures = place.inside.pictures if place.inside else None
            write_sheet(report, sheet, [[hit.index for hit in hits] for _, hits in found], pictures)


def _place(report: Report, clip: "cjkclip.Clip", inside: Path | None, design: str) -> Place:
    if inside is None:
        with report.progress("reading the package's pictures", len(cjkclip.moji.concepts())) as progress:
            whole = bundled(clip, design, progress=progress)
        return Place(gallery=whole.gallery, inside=whole)
    if inside.is_file():
        return Place(gallery=Gallery.load(inside))
    paths = find_pictures(inside)
    names = [path.relative_to(inside).as_posix() for path in paths]

    def heard(index: int, error: ImageError) -> None:
        report.problem(str(paths[index]), error)

    with report.progress("reading pictures", len(paths)) as progress:
        gallery = Gallery.from_pictures(clip, paths, names, on_error=heard, progress=progress)
    return Place(gallery=gallery, folder=inside)


def _search(
    report: Report, clip: "cjkclip.Clip", gallery: Gallery, asked: list[Asked], k: int
) -> list[tuple[Asked, list[Hit]]]:
    """Hits of the queries that could be used; the others are reported."""
    good: list[Asked] = []
    for one in asked:
        try:
            good.append(one if one.picture else Asked(name=require_words(one.name)))
        except TextError as error:
            report.problem(one.name, error)
    texts = [one for one in good if one.picture is None]
    pictures = [one for one in good if one.picture is not None]
    found: dict[int, list[Hit]] = {}
    if texts:
        hits = gallery.search_texts(clip, [one.name for one in texts], k)
        found |= {id(one): best for one, best in zip(texts, hits, strict=True)}

    def run(rows: list[int]) -> list[list[Hit]]:
        return gallery.search_pictures(clip, [path for i in rows if (path := pictures[i].picture)], k)

    done, bad = skipping_bad(run, len(pictures))
    for index, message in bad.items():
        report.problem(pictures[index].name, ImageError(message))
    found |= {id(one): best for one, best in zip(pictures, done, strict=True) if best is not None}
    return [(one, found[id(one)]) for one in good if id(one) in found]


def _hit(place: Place, hit: Hit, rank: int, language: str) -> dict[str, Any]:
    shown: dict[str, Any] = {"rank": rank, "name": hit.name, "score": hit.score}
    if place.inside is not None:
        concept = place.inside.concepts[hit.index]
        names = {"name": concept.names[language], "char": concept.char, "names": dict(concept.names)}
        return shown | names
    path = place.folder / hit.name if place.folder else Path(hit.name)
    return shown | {"path": str(path)}


def _table(result: dict[str, Any]) -> Table:
    table = Table(title=cell(result["query"], "bold"), title_justify="left", box=None, padding=(0, 2, 0, 0))
    bundled_pictures = any("char" in hit for hit in result["hits"])
    table.add_column("", justify="right", style="dim")
    table.add_column("picture", header_style="dim", overflow="fold")
    if bundled_pictures and result["language"] != "en":
        table.add_column("in English", header_style="dim", style="dim", overflow="fold")
    table.add_column("score", header_style="dim", justify="right")
    for hit in result["hits"]:
        name = f"{hit['char']}  {hit['name']}" if bundled_pictures else hit["name"]
        english = [cell(hit["names"]["en"])] if bundled_pictures and result["language"] != "en" else []
        table.add_row(
            str(hit["rank"]), cell(name, "bold" if hit["rank"] == 1 else ""), *english, f"{hit['score']:.3f}"
        )
    return table
