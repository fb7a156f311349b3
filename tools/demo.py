"""The first thing to run: search and classify the bundled pictures in five languages, on screen and as demo.png.

    python tools/demo.py [--model moji] [--sheet demo.png]

Needs no network and no torch. Every step is a public function of cjkclip; this file is meant to be read.
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

# Per language the name of a picture, and a word that is no picture's name but fits many: fruit, flowers, weather,
# insects, shoes.
QUERIES = {
    "zh": ("猫头鹰", "水果"),
    "zh-Hant": ("雪人", "花"),
    "ja": ("ペンギン", "天気"),
    "ko": ("나비", "곤충"),
    "en": ("fire engine", "shoe"),
}
IN_ENGLISH = {"水果": "fruit", "花": "flower", "天気": "weather", "곤충": "insect"}  # where no font has the characters
# The same six things to choose from; the picture is a panda, in a design that the search does not use.
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
    parser = argparse.ArgumentParser(description="Search and classify the bundled pictures in five languages.")
    parser.add_argument("--model", default="moji", help="any model that cjkclip loads")
    parser.add_argument("--sheet", type=Path, default=Path("demo.png"), help="where the contact sheet goes")
    chosen = parser.parse_args()
    console, began = Console(highlight=False), time.perf_counter()

    clip = cjkclip.load(chosen.model)
    place = bundled(clip, "noto")
    console.print(f"{len(place.gallery):,} bundled pictures encoded on {clip.engine.name}\n", style="dim")

    answers = search(clip, place)
    console.print(search_table(place, answers))
    with TemporaryDirectory() as folder:
        picture = Path(folder, "panda.webp")
        picture.write_bytes(next(image for concept, image in moji.gallery("fluent") if concept.char == PICTURE))
        console.print(classify_table(clip, picture))

    left_out = draw(place, answers[1::2], chosen.sheet)
    if left_out:
        console.print(f"{left_out} texts are not on the sheet: {ADVICE}", style="yellow")
    console.print(f"{chosen.sheet} shows it in pictures; all of this took {time.perf_counter() - began:.1f} s")


def search(clip: cjkclip.Clip, place: Bundled) -> Answers:
    asked = [(language, query) for language, queries in QUERIES.items() for query in queries]
    hits = place.gallery.search_texts(clip, [query for _, query in asked], k=BEST)
    return [(language, query, best) for (language, query), best in zip(asked, hits, strict=True)]


def search_table(place: Bundled, answers: Answers) -> Table:
    table = Table(title="words find pictures", title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0))
    for heading in ("query", "best picture", "in English"):
        table.add_column(heading, header_style="dim")
    table.add_column("score", header_style="dim", justify="right")
    table.add_column("the best six", header_style="dim", no_wrap=True)
    for language, query, hits in answers:
        shown = [place.concepts[hit.index] for hit in hits]
        row = (query, shown[0].names[language], shown[0].names["en"], f"{hits[0].score:.2f}")
        # emoji stand last, since terminals do not agree how wide they are
        table.add_row(*row, " ".join(concept.char for concept in shown))
        if query == QUERIES[language][-1]:
            table.add_row()
    return table


def classify_table(clip: cjkclip.Clip, picture: Path) -> Table:
    title = f"a picture finds its label: {PICTURE} as another artist drew it"
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
    """Write the contact sheet; returns how many texts no font here can draw."""
    rows = [
        SheetRow(
            query=query,
            language=language,
            plain=IN_ENGLISH.get(query, ""),
            found=[found(place, hit, language) for hit in hits],
        )
        for language, query, hits in answers
    ]
    sheet = draw_sheet(rows, find_fonts())
    sheet.image.save(out)
    return len(sheet.left_out)


def found(place: Bundled, hit: Hit, language: str) -> SheetImage:
    names = place.concepts[hit.index].names
    picture = Image.open(io.BytesIO(place.pictures[hit.index]))
    return SheetImage(picture=picture, name=names[language], score=hit.score, plain=names["en"])


if __name__ == "__main__":
    main()
