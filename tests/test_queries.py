"""Queries to the bundled model: marks, emoji, plurals, articles and kana, for the names of the bundled images."""

import numpy as np
import pytest

import cjkclip
from cjkclip import moji
from cjkclip.text.clean import clean
from cjkclip.text.queries import normal

CONCEPTS = moji.concepts()
# captions that another caption with a mark is made of: '"금지"' is a caption, and so is 금지
AMBIGUOUS = {"금지", "켜짐", "ON", "UP"}
MARKED = (
    "{}。",
    "{}.",
    "{}!",
    "？{}",
    "「{}」",
    '"{}"',
    " （{}）",
    "\u200b{}\ufeff",
    "{}…",
    "*{}*",
    "{}、",
    "“{}”",
    "{}\u3000",
)


def test_captions_stay_as_they_are() -> None:
    for concept in CONCEPTS:
        for language in moji.LANGUAGES:
            for caption in (concept.names[language], *concept.keywords[language]):
                assert normal(caption) == clean(caption)


@pytest.mark.parametrize("language", moji.LANGUAGES)
@pytest.mark.parametrize("form", MARKED)
def test_marks_around_a_name_change_nothing(language: str, form: str) -> None:
    names = [concept.names[language] for concept in CONCEPTS[::9] if concept.names[language] not in AMBIGUOUS]
    assert [normal(form.format(name)) for name in names] == list(map(clean, names))


@pytest.mark.parametrize("language", moji.LANGUAGES)
def test_marks_inside_a_name_change_nothing(language: str) -> None:
    names = [concept.names[language] for concept in CONCEPTS[::9]]
    for mark in ("_", ",  ", " - ", "\u3000", " \u200d "):
        assert [normal(name.replace(" ", mark)) for name in names] == list(map(clean, names))


@pytest.mark.parametrize("language", moji.LANGUAGES)
def test_an_emoji_is_its_name(language: str) -> None:
    for concept in CONCEPTS[::9]:
        name = clean(concept.names[language])
        assert normal(concept.char) == clean(concept.names["en"])
        assert normal(f"{name} {concept.char}") == normal(f"{concept.char}{name}") == name
    assert normal("👍🏽") == normal("👍")  # skin tones
    assert normal("a 🐼 in the 🌳!") == "a panda in the deciduous tree"


def test_a_query_finds_the_same_picture_in_every_form() -> None:
    """The tokenizer of the bundled model uses the rules, and a copy that is saved and loaded does too."""
    clip = cjkclip.load("moji", engine="numpy")
    plain = clip.encode_text(["panda", "パンダ", "熊猫"])
    for forms in (
        ["Panda!", "「ぱんだ」", "熊猫。"],
        ["The pandas", "パンダ🐼", "《熊猫》"],
        ["🐼", "ぱんだ？", "熊 猫"],
    ):
        assert np.array_equal(clip.encode_text(forms), plain)


def test_a_saved_model_keeps_the_rules(tmp_path: object) -> None:
    folder = cjkclip.load("moji").save(str(tmp_path) + "/model")
    [saved, plain] = (cjkclip.load(name).tokenize(["「ぱんだ」", "🐼"]).ids for name in (folder, "moji"))
    assert np.array_equal(saved, plain)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("red pandas", "red panda"),
        ("Cherries", "cherries"),
        ("strawberries", "strawberry"),
        ("an apple tree", "an apple tree"),
        ("glasses", "glasses"),
        ("rock'n'roll", "rock'n'roll"),
        ("3.5 km", "3.5 km"),
        ("", ""),
        ("!?", "!?"),
        ("ネコ", "ネコ"),
    ],
)
def test_other_queries(query: str, expected: str) -> None:
    assert normal(query) == expected
