"""The bundled model: its size, what it knows, and that its published figures are those of the committed file."""

import json
from dataclasses import replace

import numpy as np
import pytest

import cjkclip
from cjkclip import moji
from cjkclip.errors import InputError, TruncatedTextWarning
from cjkclip.evals import moji as tests
from cjkclip.evals import report
from cjkclip.train.recipes import moji as recipe
from support.sources import ROOT, SRC

HOME = SRC / "moji"
SOME = [c for c in moji.concepts() if c.split == "train"][::12]  # 94 of those it was trained on


@pytest.fixture(scope="module")
def clip():
    return cjkclip.load("moji")


@pytest.fixture(scope="module")
def rows(clip):
    asked = [*SOME, *(concept for concept in moji.concepts() if concept.split == "test")][:120]
    with pytest.warns(TruncatedTextWarning):  # CLDR has keywords of whole phrases
        return tests.evaluate(clip, moji.pictures("noto"), asked)


def test_it_is_small_and_what_the_recipe_says(clip):
    assert (HOME / "model.safetensors").stat().st_size <= 8_000_000
    assert sum(array.size for array in clip.params.values()) <= 4_000_000
    assert clip.config == recipe.model(clip.tokenizer.vocab_size, recipe.SIZE)
    assert clip.tokenizer.rules == recipe.RULES
    assert clip.release is not None
    assert clip.release.name == "moji"


@pytest.mark.parametrize("language", tests.LANGUAGES)
def test_it_finds_what_it_was_trained_on_in_every_language(rows, language):
    (row,) = (r for r in rows if (r.test, r.language, r.direction) == ("A", language, "text to image"))
    assert row.n == row.candidates == len(SOME)
    assert row.figures["R@1"].value >= 0.9
    assert row.figures["median rank"].value == 1


def test_the_rows_are_every_test_language_and_direction(rows):
    expected = {(t, lang, d) for t in "AB" for lang in tests.LANGUAGES for d in ("text to image", "image to text")}
    expected |= {("C", lang, "text to image") for lang in tests.LANGUAGES}
    assert {(r.test, r.language, r.direction) for r in rows} == expected
    assert len(rows) == len(expected)
    for row in rows:
        assert all(f.low <= f.value <= f.high for f in row.figures.values()), row


def test_keywords_have_every_concept_that_carries_them_as_an_answer(clip, monkeypatch):
    first, second, third = SOME[:3]
    first = replace(first, names={"en": "one"}, keywords={"en": ("shared", "two")})
    second = replace(second, names={"en": "two"}, keywords={"en": ("shared",)})
    third = replace(third, names={"en": "three"}, keywords={"en": ()})
    asked = {}
    monkeypatch.setattr(
        tests.metrics,
        "average_precisions",
        lambda _, right: asked.setdefault("right", right).any(axis=1).astype(float),
    )
    tests._keywords(clip, "en", [first, second, third], np.zeros((3, clip.embed_dim), np.float32))
    assert asked["right"].tolist() == [[True, True, False], [True, True, False]]


def test_the_gap_is_between_the_best_and_the_worst_language(rows):
    shares = {r.language: r.figures["R@1"].value for r in rows if (r.test, r.direction) == ("A", "text to image")}
    between, best, worst = tests.gap(rows)
    assert between == pytest.approx(max(shares.values()) - min(shares.values()))
    assert shares[best] == max(shares.values())
    assert shares[worst] == min(shares.values())


def test_a_missing_picture_is_named(clip):
    with pytest.raises(InputError, match=f"no image of {SOME[0].cp}"):
        tests.evaluate(clip, {}, SOME)


def test_the_published_figures_are_those_of_this_file(clip):
    record = json.loads((ROOT / "docs" / "benchmarks" / "moji.json").read_text("utf-8"))
    assert record["fingerprint"] == clip.fingerprint
    found = [
        tests.EvalRow(**{**row, "figures": {k: tests.Estimate(**v) for k, v in row["figures"].items()}})
        for row in record["rows"]
    ]
    assert {r.n for r in found if r.test == "A"} == {1121}
    assert report.markdown(found) in (HOME / "MODEL_CARD.md").read_text("utf-8")
