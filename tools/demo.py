"""A first demonstration: search and classify the bundled images in five languages, on screen and as demo.png.

    python tools/demo.py [--model moji] [--sheet demo.png]

It needs no network and no torch. Every step calls a public function of cjkclip, so this file is also an example.
"""

import argparse
import io
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from rich.console import Console
from rich.table import Table

import cjkclip
from cjkclip import moji
from cjkclip.gallery import Bundled, Hit, SheetImage, SheetRow, bundled, draw_sheet, find_fonts
from cjkclip.gallery.sheet import LANGUAGES
from cjkclip.gallery.sheet.fonts import ADVICE

# For each language the name of an image, and a word that is not a name but fits many images: fruit, flowers, weather,
# insects, shoes.
QUERIES = {
    "zh": ("猫头鹰", "水果"),
    "zh-Hant": ("雪人", "花"),
    "ja": ("ペンギン", "天気"),
    "ko": ("나비", "곤충"),
    "en": ("fire engine", "shoe"),
}
IN_ENGLISH = {
    "水果": "fruit",
    "花": "flower",
    "天気": "weather",
    "곤충": "insect",
}  # shown if no font has the characters
# The same six labels in each language. The image is a panda, in a design that the search does not use.
PICTURE = "🐼"
LABELS = {
    "zh": ("熊猫", "猫", "足球", "消防车", "雪人", "苹果"),
    "zh-Hant": ("貓熊", "貓", "足球", "消防車", "雪人", "蘋果"),
    "ja": ("パンダ", "ネコ", "サッカー", "消防車", "雪だるま", "りんご"),
    "ko": ("판다", "고양이", "축구", "소방차", "눈사람", "사과"),
    "en": ("panda", "cat", "football", "fire engine", "snowman", "apple"),
}
BEST = 6
BAR = 24  # characters for a probability of 1

Answers = list[tuple[str, str, list[Hit]]]  # language, query, hits


def main() -> None:
    """Search, classify, and draw the contact sheet."""
    parser = argparse.ArgumentParser(description="Search and classify the bundled images in five languages.")
    parser.add_argument("--model", default="moji", help="model to use: any name that cjkclip.load accepts")
    parser.add_argument("--sheet", type=Path, default=Path("demo.png"), help="file for the contact sheet")
    args = parser.parse_args()
    console, start = Console(highlight=False), time.perf_counter()

    clip = cjkclip.load(args.model)
    place = bundled(clip, "noto")
    console.print(f"{len(place.gallery):,} bundled images encoded with {clip.engine.name}\n", style="dim")

    answers = search(clip, place)
    console.print(search_table(place, answers))
    with TemporaryDirectory() as folder:
        picture = Path(folder, "panda.webp")
        picture.write_bytes(next(image for concept, image in moji.gallery("fluent") if concept.char == PICTURE))
        console.print(classify_table(clip, picture))

    left_out = draw(place, answers[1::2], args.sheet)
    if left_out:
        console.print(f"{left_out} texts are missing on the sheet: {ADVICE}", style="yellow")
    console.print(f"contact sheet written to {args.sheet}; total time {time.perf_counter() - start:.1f} s")


def search(clip: cjkclip.Clip, place: Bundled) -> Answers:
    """Return the best images for every query."""
    queries = [(language, query) for language, pair in QUERIES.items() for query in pair]
    hits = place.gallery.search_texts(clip, [query for _, query in queries], k=BEST)
    return [(language, query, best) for (language, query), best in zip(queries, hits, strict=True)]


def search_table(place: Bundled, answers: Answers) -> Table:
    """Return one row per query."""
    table = Table(
        title="search: images for words", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0)
    )
    for heading in ("query", "best image", "in English"):
        table.add_column(heading, header_style="dim")
    table.add_column("score", header_style="dim", justify="right")
    table.add_column("the best six", header_style="dim", no_wrap=True)
    for language, query, hits in answers:
        concepts = [place.concepts[hit.index] for hit in hits]
        row = (query, concepts[0].names[language], concepts[0].names["en"], f"{hits[0].score:.2f}")
        # emoji are the last column, because terminals disagree about their width
        table.add_row(*row, " ".join(concept.char for concept in concepts))
        if query == QUERIES[language][-1]:
            table.add_row()
    return table


def classify_table(clip: cjkclip.Clip, picture: Path) -> Table:
    """Return the two best labels in each language."""
    title = f"classify: labels for {PICTURE} in another design"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for heading in ("language", "label", "probability", ""):
        table.add_column(heading, header_style="dim", justify="right" if heading == "probability" else "left")
    for language, labels in LABELS.items():
        ranked = clip.classify(picture, labels)[0][:2]
        for rank, (label, score) in enumerate(ranked):
            bar = "█" * round(BAR * score)
            table.add_row(
                "" if rank else LANGUAGES[language], label, f"{score:.0%}", bar, style="dim" if rank else "bold"
            )
        table.add_row()
    return table


def draw(place: Bundled, answers: Answers, out: Path) -> int:
    """Write the contact sheet; return the number of texts that no installed font can draw."""
    rows = [
        SheetRow(
            query=query,
            language=language,
            plain=IN_ENGLISH.get(query, ""),
            found=[sheet_image(place, hit, language) for hit in hits],
        )
        for language, query, hits in answers
    ]
    sheet = draw_sheet(rows, find_fonts())
    sheet.image.save(out)
    return len(sheet.left_out)


def sheet_image(place: Bundled, hit: Hit, language: str) -> SheetImage:
    """Return the image of a hit, with its name and score."""
    names = place.concepts[hit.index].names
    picture = Image.open(io.BytesIO(place.pictures[hit.index]))
    return SheetImage(picture=picture, name=names[language], score=hit.score, plain=names["en"])


if __name__ == "__main__":
    main()
