"""CLIP's byte-pair tokenizer gives the ids of the original packages. Golden ids: tests/golden/tokens/tokens.json."""

import hashlib
import html
import json
import pickle
import re
import time
from pathlib import Path

import ftfy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cjkclip.errors import CheckpointError, FactsError, TextError
from cjkclip.text import bpe_files, check_texts, pack, require_words
from cjkclip.text.bpe import HF, OPEN_CLIP, OPENAI, Bpe, BpeRules, clip_bpe
from cjkclip.text.clean import _PLAIN, clean  # pyright: ignore[reportPrivateUsage]
from support.processes import printed
from support.tokens import FOLDER, RECORD, STRINGS, rows

KINDS = {
    "clip_bpe_openai": OPENAI,
    "clip_bpe_open_clip": OPEN_CLIP,
    "clip_bpe_hf": HF,
    "clip_bpe_hf_v4_slow": OPENAI,  # it cleans with ftfy: the same ids on all of these strings
}
TOYS = {
    "hf-clip-eos2": Bpe.from_transformers,
    "hf-clip-trueeos": Bpe.from_transformers,
    "koclip": Bpe.from_transformers,
    "koclip-naive-eos1": Bpe.from_transformers,
    "openai-vit": lambda folder: Bpe.from_merges(folder / "bpe_toy.txt.gz", OPENAI),
    "open-clip": lambda folder: Bpe.from_merges(folder / "bpe_toy.txt.gz", OPEN_CLIP),
}
LONG = [84, 103, 104, 105, 106, 111]  # indices of the golden strings of more than 77 tokens


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_the_published_ones(kind: str) -> None:
    bpe = clip_bpe(KINDS[kind])
    for text, ours, theirs in zip(STRINGS, rows(bpe, STRINGS), RECORD["kinds"][kind]["rows"], strict=True):
        # where a text spells the end token, the recorded row stops there: the rest is tested below
        spelled = kind != "clip_bpe_hf_v4_slow" and KINDS[kind].cleaning == "openai" and theirs != ours
        assert (ours[: len(theirs)] if spelled and KINDS[kind].eot in text else ours) == theirs, text


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_padded_and_the_cut_ones_are_listed(kind: str) -> None:
    tokens = clip_bpe(KINDS[kind])(STRINGS)
    assert tokens.ids.dtype == tokens.mask.dtype == np.int64
    assert tokens.ids.shape == tokens.mask.shape == (len(STRINGS), 77)
    assert set(tokens.ids[tokens.mask == 0].tolist()) == {49407 if KINDS[kind] == HF else 0}
    assert (np.sort(tokens.mask)[:, ::-1] == tokens.mask).all()  # all ones, then all zeros
    assert list(tokens.truncated) == LONG
    assert (tokens.ids[LONG, -1] == 49407).all()


def test_too_long_is_an_error_on_request() -> None:
    with pytest.raises(TextError, match=r"6 of 116 texts .*77 tokens.* text 84 has \d+, text 103 has 102") as error:
        clip_bpe()(STRINGS, truncate="error")
    assert "text 105 has" in str(error.value)
    assert clip_bpe()(["word " * 75], truncate="error").truncated == ()


@pytest.mark.parametrize("case", TOYS)
def test_toy_tokenizers_give_the_ids_of_their_packages(case: str) -> None:
    golden = RECORD["cases"][case]
    tokens = TOYS[case](FOLDER / case)(golden["texts"])
    assert tokens.ids.tolist() == golden["input_ids"]
    assert tokens.mask.tolist() == golden.get("attention_mask", tokens.mask.tolist())
    assert tokens.truncated == (3,)


def test_open_clip_ids_come_from_its_transformers_files_too() -> None:
    golden = RECORD["cases"]["open-clip"]
    bpe = Bpe.from_transformers(FOLDER / "open-clip").under(OPEN_CLIP)
    assert bpe(golden["texts"]).ids.tolist() == golden["input_ids"]


@pytest.mark.parametrize(
    ("rules", "behind"),
    [(OPENAI, [0, 27, 347, 993, 6659, 4160, 91, 285]), (OPEN_CLIP, [0, 283, 1572, 318, 539, 318, 4160, 285])],
    ids=["openai", "open_clip"],
)
def test_specials_count_where_they_are_whole_words(rules: BpeRules, behind: list[int]) -> None:
    """Ids taken from the original packages. Behind "!" a "<" belongs to the same word, so no special begins."""
    bpe, sot, eot = clip_bpe(rules), 49406, 49407
    assert rows(bpe, [f"text {rules.eot.upper()} text"]) == [[sot, 4160, eot, 4160, eot]]
    assert rows(bpe, [f"a{rules.sot}{rules.eot}1{rules.sot}"]) == [[sot, 320, sot, eot, 272, sot, eot]]
    assert rows(bpe, [f"!{rules.sot}"]) == [[sot, *behind, eot]]


def test_transformers_takes_specials_anywhere_and_some_in_any_case() -> None:
    assert Bpe.from_transformers(FOLDER / "open-clip").rules.folded == ("<|startoftext|>",)
    assert Bpe.from_transformers(FOLDER / "koclip").rules.folded == ()
    bpe = Bpe.from_transformers(FOLDER / "hf-clip-eos2")
    assert bpe.rules.folded == ("<|startoftext|>",)
    assert rows(bpe, ["!<|startoftext|>", "<|STARTOFTEXT|>"]) == [[752, 256, 752, 753], [752, 752, 753]]
    [upper] = rows(bpe, ["<|ENDOFTEXT|>"])
    assert upper.count(753) == 1


def test_case_is_ignored_as_upstream_does() -> None:
    bpe = clip_bpe()
    assert rows(bpe, ["it'ſ"]) == [[49406, 585, 6, 129, 379, 49407]]  # one word 'ſ, like 's
    assert rows(bpe, ["b\u0345한\u03452"]) == rows(bpe, ["b 한 2"])  # the pattern drops U+0345
    assert rows(bpe, ["<|ſtartoftext|>"]) == [[49406, 27, 91, 129, 123, 2002, 6659, 18169, 91, 285, 49407]]
    assert clean("ΟΔΟΣ ΟΔΟΣ.") == "οδος οδος."  # the last sigma of a word has its own form
    assert clean("<B> &amp;lt; &amp;amp;amp;") == "<b> < &amp;"  # HTML: ftfy steps back


def test_decode_gives_the_cleaned_words_back() -> None:
    golden = RECORD["kinds"]["clip_bpe_openai"]
    bpe = clip_bpe()
    assert [bpe.decode(row[1:-1]) for row in golden["rows"]] == golden["decoded"]
    assert bpe.decode([bpe.sot, 3306, bpe.eot]) == "<|startoftext|>hello <|endoftext|>"
    assert bpe.decode([162, 363]).startswith("\ufffd")  # half a character
    with pytest.raises(TextError, match="id 49408"):
        bpe.decode([3306, 49408])


def test_unknown_bytes_are_told() -> None:
    """A retrained vocabulary lacks bytes, and stands the end token in for them."""
    ko = Bpe.from_transformers(FOLDER / "koclip")
    tokens = ko(RECORD["cases"]["koclip"]["texts"])
    inner = ((tokens.ids == ko.eot) * tokens.mask).sum(axis=1) - 1
    assert inner.tolist() == [0, 0, 0, 0, 2]
    assert len(ko.lacking) == 197
    assert clip_bpe().lacking == ()
    with pytest.raises(CheckpointError, match="lacks 197"):
        ko.under(OPENAI)


def test_the_naive_retraining_can_be_detected() -> None:
    naive, mended = (Bpe.from_transformers(FOLDER / case) for case in ("koclip-naive-eos1", "koclip"))
    assert (naive.sot, naive.eot, naive.vocab_size) == (0, 1, 800)
    assert mended.eot == mended.vocab_size - 1


def test_the_shipped_merge_table_is_openais() -> None:
    """Digest of the first 48,895 lines of bpe_simple_vocab_16e6.txt, header included."""
    merges = bpe_files.read_merges(Path(bpe_files.__file__).with_name("clip_merges.txt.gz"))
    assert len(merges) == 48_894
    text = "\n".join(map(" ".join, merges))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == "f61f2adf497e6f53"
    assert clip_bpe().vocab_size == len(clip_bpe().vocab) == 49_408
    assert clip_bpe() is clip_bpe()


def slow(text: str) -> str:
    """OpenAI's cleaning, written as upstream does it."""
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return re.sub(r"\s+", " ", text).strip().lower()


def test_cleaning_skips_ftfy_only_where_it_changes_nothing() -> None:
    """Every character of the short cut, alone among letters, then all of them in long rows."""
    plain = [c for c in map(chr, range(0x11000)) if not c.isspace() and _PLAIN.fullmatch(c)]
    assert len(plain) > 32_000
    assert not set(plain) & set("&\u3099\u309a\x7f\x1b’“，！\uf900\u1100")
    assert [c for c in plain if ftfy.fix_text(f"a{c}") != f"a{c}"] == []
    for start in range(0, len(plain), 500):
        row = "".join(plain[start : start + 500])
        assert ftfy.fix_text(row + row[::-1]) == row + row[::-1]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from("&<#;x\x1c\x1d Ãâ€©’ｶﾞΣ'é\n\r가中"))))
def test_cleaning_equals_the_slow_way(text: str) -> None:
    assert clean(text) == slow(text)


def test_texts_are_checked() -> None:
    with pytest.raises(TextError, match=r"pass \[text\]"):
        clip_bpe()("고양이")
    with pytest.raises(TextError, match=r"text 1 .*lone surrogate '.ud83d' at character 3"):
        clip_bpe()(["ok", "bad\ud83d"])
    for wrong, message in (
        (b"cat", "one bytes"),
        (None, "NoneType"),
        (["a", b"b"], "text 1 is bytes"),
        ([3], "text 0"),
    ):
        with pytest.raises(TextError, match=message):
            check_texts(wrong)
    with pytest.raises(TextError, match="expected 'cut' or 'error'"):
        pack([], context=77, pad=0, truncate="chop")
    assert check_texts(np.array(["猫", "犬"])) == ["猫", "犬"]
    assert clip_bpe()([]).ids.shape == (0, 77)


@pytest.mark.parametrize("query", ["", " ", "\t\n", "\x00\x07", "\u200b\ufeff", "\u3000\xa0", "\u3164", "\x1b"])
def test_a_query_needs_words(query: str) -> None:
    with pytest.raises(TextError, match="no words"):
        require_words(query)


@pytest.mark.parametrize("query", ["猫", " a ", "\x00b", "!", "😀", "\u1100"])
def test_a_query_may_be_short(query: str) -> None:
    assert require_words(query) == query


@pytest.mark.parametrize("rules", [OPENAI, OPEN_CLIP, HF], ids=["openai", "open_clip", "hf"])
def test_long_queries_are_fast_and_reported(rules: BpeRules) -> None:
    bpe = clip_bpe(rules)
    bpe(["warm ’ up"])
    for text in ("word and " * 1112, "漢字かな交じり文。" * 1112, "고양이 “소파” " * 1112, "x" * 10_000, "é" * 10_000):
        start = time.process_time()
        tokens = bpe([text])
        assert time.process_time() - start < 0.5  # some 20 ms on a free core
        assert tokens.truncated == (0,)
        assert tokens.ids[0, -1] == 49407


def test_rules_are_plain_data() -> None:
    for rules in (OPENAI, OPEN_CLIP, HF, Bpe.from_transformers(FOLDER / "hf-clip-eos2").rules):
        assert BpeRules.from_dict(json.loads(json.dumps(rules.to_dict()))) == rules
    good = OPENAI.to_dict()
    for bad in ({**good, "context": 1}, {**good, "cleaning": "none"}, {**good, "eot": 3}, {**good, "x": 1}, {}):
        with pytest.raises(FactsError, match="tokenizer rules"):
            BpeRules.from_dict(bad)


def test_a_tokenizer_can_be_sent_to_another_process() -> None:
    bpe = TOYS["openai-vit"](FOLDER / "openai-vit")
    bpe(["used"])
    assert (pickle.loads(pickle.dumps(bpe))(STRINGS).ids == bpe(STRINGS).ids).all()


def test_importing_is_cheap() -> None:
    heavy = "{'tokenizers', 'ftfy', 'torch', 'regex'}"
    code = f"import sys, cjkclip.train.tokenizer; print(sorted({heavy} & set(sys.modules)))"
    assert printed("-c", code).strip() == "[]"


@pytest.mark.parametrize(
    ("digits", "said"),
    [("1" * 5000, "\ufffd"), ("0" * 5000 + "65", "a"), ("0" * 5000, "\ufffd"), ("9" * 4000, "\ufffd")],
)
def test_a_characters_number_may_be_of_any_length(digits: str, said: str) -> None:
    """Python refuses to read more than 4,300 digits, and with that text all of a batch."""
    assert clean(f"x &#{digits}; y") == clean(f"x &amp;#{digits}; y") == f"x {said} y"
