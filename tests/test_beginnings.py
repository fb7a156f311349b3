"""Texts that are far longer than a row: bounded time, and the ids of a text that fits are its own."""

import html
import random
import time
import warnings
from typing import Any

import ftfy
import numpy as np
import pytest

import cjkclip
from cjkclip.errors import TextError
from cjkclip.text import beginnings
from cjkclip.text.bpe import clip_bpe
from cjkclip.text.clean import clean
from cjkclip.text.fast import Fast, FastRules
from cjkclip.text.wordpiece import chinese_bert
from families import GOLDEN
from support.fast import KINDS

N = 1_000_000
HOSTILE = {
    "nested entities": "&" + "amp;" * (N // 4),
    "other nested entities": "&#38;a" + "#38;a&#109;p;" * (N // 14),
    "numbers": "&#1" * (N // 3),
    "one letter": "a" * N,
    "digits": "7" * N,
    "ideographs": "猫" * N,
    "marks of direction": "\u202e" * N,
    "combining marks": "\u0301" * N,
    "white space": " " * N,
    "lines": "\n" * N,
    "controls": "\0" * N,
    "wide letters": "Ａ" * N,
    "emoji": "\U0001f600" * N,
    "wrong decoding": "Ã©" * (N // 2),
}
PIECES = [
    "cat",
    " ",
    "  ",
    "猫",
    "\u200b",
    "&amp;",
    "&amp;amp;",
    "é",
    "Ａ",
    "\u0301",
    "ﬁ",
    "\U0001f600",
    "&lt;",
    "\0",
    "ⅲ",
]
LOADED = {"moji": "moji", "transformers BPE": GOLDEN / "koclip", "transformers BERT": GOLDEN / "hf-chinese-clip"}
TOKENIZERS = ("OpenAI", "cn_clip", *LOADED, "rinna", "tokenizer.json")


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    match request.param:
        case "OpenAI":
            return clip_bpe()
        case "cn_clip":
            return chinese_bert()
        case "rinna":
            return cjkclip.load(GOLDEN / "rinna-clip").tokenizer
        case "tokenizer.json":
            return Fast(KINDS["xlmr"]().to_str().encode(), FastRules(context=16, pad="<pad>"))
        case name:
            return cjkclip.load(LOADED[name]).tokenizer


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_million_characters_take_seconds(text: str, tokenizer: Any) -> None:
    start = time.monotonic()
    tokenizer([text])
    assert time.monotonic() - start < 20  # 0.0 to 1.5 s on a quiet core; the square of the length takes hours


def test_a_text_that_fits_gets_its_own_ids_however_long_it_is(tokenizer: Any) -> None:
    [plain] = tokenizer(["cat 猫"]).ids
    for space in () if isinstance(tokenizer, Fast) else (" ", "\n", "\t "):  # each space is a piece of that one
        tokens = tokenizer([space * 100_000 + "cat" + space * 100_000 + "猫" + space * 10_000])
        assert tokens.truncated == ()
        assert tokens.ids[0].tolist() == plain.tolist()


def test_the_beginning_of_a_random_text_gives_the_ids_of_the_whole(
    tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = random.Random(0)
    texts = ["".join(draw.choices(PIECES, k=draw.randrange(1, 400))) for _ in range(200)]
    monkeypatch.setattr(beginnings, "LEAST", 1 << 30)
    whole = tokenizer(texts)
    monkeypatch.setattr(beginnings, "LEAST", 16)
    kind: Any = type(tokenizer)
    monkeypatch.setattr(kind, "_longest", 1)
    part = tokenizer(texts)
    assert part.truncated == whole.truncated
    assert np.array_equal(part.ids, whole.ids)


def test_an_error_about_a_long_text_names_it(tokenizer: Any) -> None:
    with pytest.raises(TextError, match="text 1"):
        tokenizer(["cat", "cat dog " * 100_000], truncate="error")


@pytest.mark.parametrize("levels", [1, 2, 7, 8, 9, 10, 11, 30])
@pytest.mark.parametrize("entity", ["amp;", "#38;", "#x26;", "AMP;", "#038;"])
@pytest.mark.parametrize(("before", "after"), [("", "lt;"), ("x < y\n", "gt;"), ("a\n", "\nx < y"), ("<", "")])
def test_nested_entities_are_cleaned_as_the_original_does(levels: int, entity: str, before: str, after: str) -> None:
    text = f"{before}&{entity * levels}{after}"
    original = html.unescape(html.unescape(ftfy.fix_text(text)))
    assert clean(text) == " ".join(original.split()).lower()


def test_random_entities_are_cleaned_as_the_original_does() -> None:
    draw, pieces = random.Random(1), ["&", "amp;", "#38;", "lt;", "<", "\n", "a", ";", "&amp;", "#x26;"]
    for _ in range(2000):
        text = "".join(draw.choices(pieces, k=draw.randrange(1, 30)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            original = html.unescape(html.unescape(ftfy.fix_text(text)))
        assert clean(text) == " ".join(original.split()).lower(), text


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(100))
def test_random_long_texts_take_seconds(seed: int, tokenizer: Any) -> None:
    """Blocks of a few random characters, entities and marks, each repeated up to a million characters."""
    draw = random.Random(seed)
    letters = [
        *PIECES,
        "amp;",
        "#38;",
        "&#",
        ";",
        "<",
        "\x85",
        "\u0300",
        "\ufdfa",
        "\u1100",
        chr(draw.randrange(32, 0xD800)),
    ]
    text = ""
    while len(text) < N:
        block = "".join(draw.choices(letters, k=draw.randrange(1, 6)))
        text += block * (draw.choice((10, 1000, N)) // len(block))
    start = time.monotonic()
    tokenizer([text[:N]])
    assert time.monotonic() - start < 20
