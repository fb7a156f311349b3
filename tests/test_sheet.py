"""Fonts and the contact sheet: right face per language, no empty boxes, long names shortened."""

import random
import struct
import unicodedata
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFont

from cjkclip.cli.report import Report
from cjkclip.cli.sheets import _open
from cjkclip.errors import InputError
from cjkclip.gallery.sheet import CARD, CARD_HEIGHT, COLUMNS, SheetImage, SheetRow, draw_sheet
from cjkclip.gallery.sheet.fonts import Fonts, find_fonts, open_face, read_faces
from cjkclip.gallery.sheet.pen import Pen
from support.cli import IMAGES, MODEL, run
from support.tinyfont import SIDE, tiny_bitmap_font, tiny_collection, tiny_font

LATIN = "".join(map(chr, range(0x21, 0x7F)))
FACES = [
    ("Noto Sans CJK JP", LATIN + "猫ねこ骨", 300),
    ("Noto Sans CJK KR", LATIN + "고양이骨", 400),
    ("Noto Sans CJK SC", LATIN + "猫骨", 500),
    ("Noto Sans CJK TC", LATIN + "貓骨", 600),
]
LANGUAGES = {"ja": "JP", "ko": "KR", "zh": "SC", "zh-Hant": "TC"}


@pytest.fixture(autouse=True)
def no_named_font(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CJKCLIP_FONT", raising=False)


@pytest.fixture
def fonts(tmp_path: Path) -> Fonts:
    tiny_collection(tmp_path / "NotoSansCJK-Regular.ttc", FACES)
    return find_fonts([tmp_path])


def nothing() -> Fonts:
    return Fonts([])


def row(query: str = "猫", name: str = "猫", language: str = "zh", count: int = 3, plain: str = "") -> SheetRow:
    found = [SheetImage(picture=Image.new("RGB", (64, 64), "red"), name=name, score=0.5, plain=plain)] * count
    return SheetRow(query=query, language=language, found=found, plain="query 1")


def ink(image: Image.Image, box: tuple[int, int, int, int]) -> int:
    """Dark pixels in a box."""
    return int((np.asarray(image.crop(box).convert("L")) < 100).sum())


def test_a_face_has_the_characters_that_it_draws(tmp_path: Path) -> None:
    [face] = read_faces(tiny_font(tmp_path / "x.ttf", "かきけabねこ", family="Neko Sans"))
    assert (face.family, face.style, face.index) == ("Neko Sans", "Regular", 0)
    assert "".join(char for char in "aかbきcくdけのねこ猫고\U0001f431\uffff" if face.has(char)) == "aかbきけねこ"
    drawn = open_face(face, 50).getmask("き").getbbox()
    assert drawn == open_face(face, 50).getmask("ね").getbbox() != open_face(face, 50).getmask("猫").getbbox()


def test_a_glyph_without_ink_is_a_character_only_where_it_has_none(tmp_path: Path) -> None:
    """Colour-only fonts have glyphs without an outline; a Hangul filler is meant to be empty."""
    [face] = read_faces(tiny_font(tmp_path / "x.ttf", "猫", blank="\U0001f431\u3164"))
    assert [face.has(char) for char in "猫\U0001f431\u3164\u115f"] == [True, False, True, False]


def test_a_damaged_font_file_raises_no_other_error(tmp_path: Path) -> None:
    whole = tiny_collection(tmp_path / "x.ttc", FACES).read_bytes()
    rng = random.Random(0)
    counts: list[int] = []
    for i in range(300):
        changed = bytearray(whole[: rng.randrange(len(whole))] if rng.random() < 0.5 else whole)
        for _ in range(rng.randrange(8)):
            changed[rng.randrange(min(len(changed), 400) or 1) if changed else 0 :][:1] = b""
            if changed:
                changed[rng.randrange(min(len(changed), 400))] = rng.randrange(256)
        damaged = tmp_path / f"{i}.ttc"  # FreeType keeps files open: each needs a name of its own
        damaged.write_bytes(changed)
        try:
            faces = read_faces(damaged)
        except InputError:
            continue
        counts.append(sum(face.has(char) for face in faces for char in "A猫고貓"))
    assert len(set(counts)) > 2


def test_a_damaged_glyph_is_not_drawn(tmp_path: Path) -> None:
    path = tiny_font(tmp_path / "cjk.ttf", "猫")
    block = struct.pack(">5h", 1, 50, 0, 950, 900)  # one contour and its box
    assert path.read_bytes().count(block) == 1
    path.write_bytes(path.read_bytes().replace(block, struct.pack(">5h", 99, 50, 0, 950, 900)))
    assert len(read_faces(path)) == 1
    assert find_fonts([tmp_path]).runs("猫", "zh") is None


def test_bitmap_fonts_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tiny_bitmap_font(tmp_path / "cjk.ttf", "猫")
    assert bytes(ImageFont.truetype(path, SIDE).getmask("猫")) == b"\xff" * SIDE * SIDE
    with pytest.raises(InputError, match=r"cjk\.ttf' is not a usable font \(invalid pixel size\).*with outlines"):
        read_faces(path)
    assert find_fonts([tmp_path]).runs("猫", "zh") is None
    monkeypatch.setenv("CJKCLIP_FONT", str(path))
    with pytest.raises(InputError, match="with outlines"):
        find_fonts([tmp_path])


def test_a_font_that_draws_a_sign_for_every_code_point_is_left_alone(tmp_path: Path) -> None:
    assert read_faces(tiny_font(tmp_path / "LastResort.ttf", "猫\U00050000")) == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_its_own_forms(fonts: Fonts, language: str) -> None:
    [(part, face)] = fonts.runs("骨 abc", language) or []
    assert part == "骨 abc"
    assert face is not None
    assert face.family == f"Noto Sans CJK {LANGUAGES[language]}"


def test_a_text_is_cut_into_runs(fonts: Fonts) -> None:
    runs = fonts.runs("ねこ 고양이 貓", "ja") or []
    assert [(part, face and face.family[-2:]) for part, face in runs] == [
        ("ねこ ", "JP"),
        ("고양이 ", "KR"),
        ("貓", "TC"),
    ]


def test_decomposed_hangul_is_composed(fonts: Fonts) -> None:
    runs = fonts.runs(unicodedata.normalize("NFD", "고양이"), "ko") or []
    assert [part for part, _ in runs] == ["고양이"]


@pytest.mark.parametrize("text", ["犬", "猫犬", "猫\x1b[31m", "\udcff", "a\u200bb"])
def test_a_text_with_a_character_of_no_face_is_not_drawn(fonts: Fonts, text: str) -> None:
    assert fonts.runs(text, "ja") is None


def test_without_any_font_there_are_latin_letters() -> None:
    assert nothing().runs("a cat, 2 dogs!", "en") == [("a cat, 2 dogs!", None)]
    assert nothing().runs("猫", "zh") is None
    assert open_face(None, 20).getlength("cat") > 10


def test_a_font_of_another_name_is_still_found(tmp_path: Path) -> None:
    tiny_font(tmp_path / "Kyoukasho.ttf", "猫")
    tiny_font(tmp_path / "broken.ttf", "猫").write_bytes(b"no font")
    assert find_fonts([tmp_path]).runs("猫", "ja") is not None


def test_the_named_font_comes_first(fonts: Fonts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = tiny_font(tmp_path / "mine.otf", "猫", family="Mine")
    monkeypatch.setenv("CJKCLIP_FONT", str(named))
    [(_, face)] = find_fonts([tmp_path]).runs("猫", "ja") or []
    assert face is not None
    assert face.family == "Mine"
    monkeypatch.setenv("CJKCLIP_FONT", str(tmp_path / "none.otf"))
    with pytest.raises(InputError, match="CJKCLIP_FONT"):
        find_fonts([tmp_path])
    (tmp_path / "bad.otf").write_bytes(b"no font at all")
    monkeypatch.setenv("CJKCLIP_FONT", str(tmp_path / "bad.otf"))
    with pytest.raises(InputError, match=r"bad\.otf"):
        find_fonts([tmp_path])


def test_the_sheet_shows_queries_pictures_names_and_scores(fonts: Fonts) -> None:
    sheet = draw_sheet([row(), row("고양이", "고양이", "ko")], fonts)
    assert sheet.left_out == ()
    cards = [sheet.image.getpixel((48 + CARD // 2 + i * (CARD + 18), 116 + 90)) for i in range(3)]
    assert cards == [(255, 0, 0)] * 3
    name = (48, 116 + CARD - 40, 48 + CARD, 116 + CARD + 12)
    assert ink(sheet.image, name) > 50
    assert ink(sheet.image, (48, 60, 248, 100)) > 300


def test_one_picture_leaves_room_for_the_query(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(Pen, "write", lambda self, at, text, *how: told.append(text))
    draw_sheet([row("a laughing cat", language="en", count=1)], nothing())
    assert told[:2] == ["English", "a laughing cat"]
    told.clear()
    draw_sheet([row("a cat that laughs at a small dog", language="en", count=1)], nothing())
    assert told[:2] == ["", "a cat that laughs at a small dog"]


def test_a_card_keeps_no_more_of_a_picture_than_it_shows(tmp_path: Path) -> None:
    Image.new("RGB", (2000, 1000), "red").save(tmp_path / "large.jpg")
    with Report("search", as_json=True) as report:
        assert _open(report, str(tmp_path / "large.jpg")).size == (128, 64)
        report.answer["results"] = []


def test_other_fonts_give_other_pixels_for_the_same_character(fonts: Fonts) -> None:
    """The Japanese face's block is lower than the Simplified Chinese one's."""
    heading = (48, 50, 100, 100)
    inks = [ink(draw_sheet([row("骨", "cat", language)], fonts).image, heading) for language in ("ja", "ko", "zh")]
    assert inks == sorted(set(inks))


def test_without_a_font_the_english_name_stands_in() -> None:
    sheet = draw_sheet([row(plain="cat")], nothing())
    latin = draw_sheet([SheetRow(query="query 1", language="zh", found=row("x", "cat").found)], nothing())
    assert sheet.left_out == ("猫",)
    assert sheet.image.tobytes() == latin.image.tobytes()


def test_without_a_font_and_an_english_name_there_is_nothing() -> None:
    sheet = draw_sheet([SheetRow(query="猫", language="zh", found=row().found)], nothing())
    assert sheet.left_out == ("猫",)
    assert ink(sheet.image, (48, 50, 248, 100)) == 0


def test_english_quotes_are_straight() -> None:
    """Pillow's own letters, here in place of a font, have no curly ones; Chinese fonts draw them far too wide."""
    sheets = [draw_sheet([row(text, text, "en"), row("猫", "猫", plain=text)], nothing()) for text in ("a’b", "a'b")]
    assert sheets[0].left_out == sheets[1].left_out == ("猫",)
    assert sheets[0].image.tobytes() == sheets[1].image.tobytes()


def test_long_texts_stay_inside_their_card(fonts: Fonts) -> None:
    """Two lines at most, then an ellipsis; nothing is written between two cards."""
    long = "a very long name of a picture that goes on and on " * 20
    sheet = draw_sheet([row(long, long, "en"), row("猫" * 10_000, "猫" * 500)], fonts)
    height = 68 + CARD_HEIGHT + 18 + 22
    for top in (48 + 68, 48 + 68 + height):
        for i in range(2):
            x = 48 + CARD + i * (CARD + 18)
            assert ink(sheet.image, (x, top, x + 18, top + CARD_HEIGHT)) == 0
    assert ink(sheet.image, (sheet.image.width - 47, 0, sheet.image.width, sheet.image.height)) == 0


def test_many_hits_go_to_further_lines(fonts: Fonts) -> None:
    one, two = (draw_sheet([row(count=n)], fonts).image for n in (COLUMNS, COLUMNS + 1))
    assert (two.width, two.height) == (one.width, one.height + CARD_HEIGHT + 18)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (64, 64)])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK"])
def test_pictures_of_any_shape_and_mode_are_shown(size: tuple[int, int], mode: str) -> None:
    found = [SheetImage(picture=Image.new(mode, size), name="a", score=-0.25)]
    sheet = draw_sheet([SheetRow(query="a.png", language="en", found=found, picture=found[0].picture)], nothing())
    assert sheet.left_out == ()


def test_an_empty_or_endless_sheet_is_refused() -> None:
    for rows in ([], [row(count=0)]):
        with pytest.raises(InputError, match="the sheet is empty"):
            draw_sheet(rows, nothing())
    with pytest.raises(InputError, match="fewer queries"):
        draw_sheet([row()] * 1000, nothing())


def test_a_sheet_too_tall_for_its_format_is_refused(tmp_path: Path) -> None:
    """WebP ends at 16,383 pixels. The file keeps its old content."""
    out = tmp_path / "old.webp"
    out.write_bytes(b"what was there")
    asked = ["search", *(f"cat {n}" for n in range(50)), "--in", IMAGES, "-k", "1", *MODEL, "--sheet"]
    refused = run(*asked, out)
    assert (refused.exit_code, type(refused.exception)) == (4, SystemExit)
    assert "up to 16383" in refused.stderr
    assert ".png" in refused.stderr
    assert out.read_bytes() == b"what was there"
    for ending, kind in ((".PNG", "PNG"), (".jpeg", "JPEG")):
        assert run(*asked, tmp_path / f"new{ending}").exit_code == 0
        with Image.open(tmp_path / f"new{ending}") as drawn:
            assert (drawn.format, drawn.height > 16_383) == (kind, True)


def test_a_sheet_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "old.png"
    out.write_bytes(b"what was there")

    def half(image: Image.Image, file: Any, *_: Any) -> None:
        with file.open("wb") if isinstance(file, Path) else nullcontext(file) as opened:
            opened.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", half)
    refused = run("search", "cat", "--in", IMAGES, *MODEL, "--sheet", out)
    assert (refused.exit_code, type(refused.exception)) == (4, SystemExit)
    assert "No space left" in refused.stderr
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"what was there"]


def test_a_sheet_is_written_where_a_link_leads(tmp_path: Path) -> None:
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    assert run("search", "cat", "--in", IMAGES, *MODEL, "--sheet", tmp_path / "link.png").exit_code == 0
    assert (tmp_path / "link.png").is_symlink()
    with Image.open(tmp_path / "real.png") as sheet:
        assert sheet.format == "PNG"
    (tmp_path / "d.png").mkdir()
    refused = run("search", "cat", "--in", IMAGES, *MODEL, "--sheet", tmp_path / "d.png")
    assert refused.stderr.strip().endswith("cannot be written: Is a directory")
