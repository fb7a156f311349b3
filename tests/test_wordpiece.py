"""BERT's tokenizer gives the ids of cn_clip and of transformers. Golden ids: tests/golden/tokens/tokens.json."""

import gzip
import hashlib
import json
import pickle
import time
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cjkclip.errors import FactsError, TextError
from cjkclip.text import wordpiece
from cjkclip.text.wordpiece import CN_CLIP, HF, WordPiece, WordPieceRules, chinese_bert
from cjkclip.text.wordpiece_rules import words
from families import GOLDEN
from support.processes import printed
from support.tokens import RECORD, STRINGS, rows

KINDS = {"wordpiece_cn_clip": CN_CLIP, "wordpiece_hf": HF, "wordpiece_hf_v4_slow": HF}
TOY = GOLDEN / "hf-chinese-clip"
CASES = {
    "cn-clip-vit": (52, chinese_bert),
    "cn-clip-rn": (52, chinese_bert),
    "hf-chinese-clip": (52, lambda: WordPiece.from_transformers(TOY, context=52)),
    "hf-chinese-clip-crop": (52, lambda: WordPiece.from_transformers(GOLDEN / "hf-chinese-clip-crop", context=52)),
    "taiyi-logits": (128, lambda: WordPiece.from_transformers(GOLDEN / "taiyi-logits/text", context=128)),
    "taiyi-pooler": (128, lambda: WordPiece.from_transformers(GOLDEN / "taiyi-pooler/text", context=128)),
    "taiyi-pooler-gelu": (128, lambda: WordPiece.from_transformers(GOLDEN / "taiyi-pooler-gelu/text", context=128)),
    "taiyi-clip-model": (77, lambda: WordPiece.from_transformers(GOLDEN / "taiyi-clip-model", context=77)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_the_published_ones(kind: str) -> None:
    found = rows(chinese_bert(KINDS[kind]), STRINGS)
    for text, ours, theirs in zip(STRINGS, found, RECORD["kinds"][kind]["rows"], strict=True):
        assert ours == theirs, text


@pytest.mark.parametrize("case", CASES)
def test_toy_vocabularies_give_the_ids_of_their_packages(case: str) -> None:
    length, build = CASES[case]
    texts = json.loads((GOLDEN / case / "inputs.json").read_text("utf-8"))["texts"]
    with np.load(GOLDEN / case / "expected.npz") as expected:
        tokens = build()(texts)
        assert tokens.ids.shape == (len(texts), length)
        assert tokens.ids.tolist() == expected["input_ids"].tolist()
        assert tokens.mask.tolist() == expected["attention_mask"].tolist()
        if not case.startswith("cn-clip"):
            assert not expected["token_type_ids"].any()  # every token is of the first type: not part of Tokens
    assert tokens.truncated == (3,)


@pytest.mark.parametrize("rules", [CN_CLIP, HF], ids=["cn_clip", "hf"])
def test_rows_are_padded_and_the_cut_ones_are_listed(rules: WordPieceRules) -> None:
    tokens = chinese_bert(rules)(STRINGS)
    assert tokens.ids.dtype == tokens.mask.dtype == np.int64
    assert tokens.ids.shape == tokens.mask.shape == (len(STRINGS), 52)
    assert set(tokens.ids[tokens.mask == 0].tolist()) == {0}
    assert (np.sort(tokens.mask)[:, ::-1] == tokens.mask).all()  # all ones, then all zeros
    assert (tokens.ids[:, 0] == 101).all()
    cut = list(tokens.truncated)
    assert {84, 103, 104} < set(cut)
    assert (106 in cut) == (rules == CN_CLIP)  # one word of 200 jamo: unknown to transformers
    assert (tokens.ids[cut, -1] == 102).all()
    with pytest.raises(TextError, match=rf"{len(cut)} of 116 texts .*52 tokens.* text 84 has \d+"):
        chinese_bert(rules)(STRINGS, truncate="error")


@pytest.mark.parametrize(
    ("text", "cn_clip", "hf"),
    [
        ("ΟΔΟΣ.", [222, 13383, 13392, 13395, 119], [222, 13383, 13392, 13396, 119]),  # the last sigma of a word
        ("[SEP]", [138, 9463, 140], [102]),
        ("a[MASK]b", [143, 138, 9622, 8998, 140, 144], [143, 103, 144]),
        ("[mask]", [138, 9622, 8998, 140], [138, 9622, 8998, 140]),
        ("a\U0002b820b", [143, 100, 144], [100]),  # an ideograph that transformers 5 does not set apart
        ("猫\ue000犬", [4344, 100, 4305], [4344, 4305]),  # private use: transformers 5 drops it
        ("a\u2028b", [143, 144], [143, 144]),
        ("Hello Café", [8701, 8377], [8701, 8377]),
    ],
)
def test_where_the_packages_differ(text: str, cn_clip: list[int], hf: list[int]) -> None:
    """Ids taken from cn_clip 1.6.0 and transformers 5.23.0."""
    assert rows(chinese_bert(), [text]) == [[101, *cn_clip, 102]]
    assert rows(chinese_bert(HF), [text]) == [[101, *hf, 102]]


def test_the_word_limit_counts_jamo() -> None:
    words = ["가" * 50, "가" * 51, "가" * 100, "가" * 101, "x" * 100, "x" * 101, "x" * 200, "x" * 201]
    for rules, most in ((HF, 100), (CN_CLIP, 200)):
        unknown = [row == [101, 100, 102] for row in rows(chinese_bert(rules), words)]
        assert unknown == [len(unicodedata.normalize("NFD", word)) > most for word in words]


def test_case_is_kept_where_the_rules_say_so() -> None:
    for rules in (CN_CLIP, HF):
        assert rows(chinese_bert(replace(rules, lower=False)), ["hello Café Ａｂ"]) == [[101, 8701, 100, 100, 102]]


def slow(text: str, lower: bool) -> list[str]:
    """cn_clip's words, one character at a time."""
    spaced = ""
    for c in text:
        kind = unicodedata.category(c)
        code = ord(c)
        blocks = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2A6DF), (0x2A700, 0x2CEAF))
        if c in " \t\r\n" or kind == "Zs":
            spaced += " "
        elif kind not in ("Cc", "Cf") and c != "\ufffd":
            alone = any(a <= code <= b for a, b in (*blocks, (0x2F800, 0x2FA1F)))
            spaced += f" {c} " if alone else c
    found: list[str] = []
    for word in spaced.split():
        decomposed = unicodedata.normalize("NFD", word.lower()) if lower else word
        for c in decomposed:
            if not (lower and unicodedata.category(c) == "Mn"):
                found.append(f" {c} " if unicodedata.category(c)[0] == "P" or c in "$+<=>^`|~" else c)
        found.append(" ")
    return "".join(found).split()


ODD = "ΣσςΑ.΄' ÍİΪ\u0301\u0345\u2028\x1c\x85\u3000\ufeff\ufffd中𫠠𮯠神가각Ａ。!$|~«“\ue000\ufdd0"


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from(ODD))), st.booleans())
def test_words_equal_the_slow_way(text: str, lower: bool) -> None:
    assert words(text, lower=lower).split(" ") == (slow(text, lower) or [""])


def test_every_kind_of_character_is_cut_as_the_slow_way_does() -> None:
    """All of the first blocks and of the compatibility forms, and both sides of every border between ideographs."""
    borders = (0x3400, 0x4DC0, 0x4E00, 0xA000, 0xF900, 0xFB00, 0x20000, 0x2A6E0, 0x2A700, 0x2B740, 0x2B820, 0x2CEB0)
    codes = [*range(0x3100), *range(0xFE00, 0x10000), *(b + d for b in (*borders, 0x2F800, 0x2FA20) for d in (-1, 0))]
    for code in codes:
        text = f"a{chr(code)}B"
        assert words(text, lower=True).split(" ") == slow(text, True), hex(code)


def test_decode_gives_the_words_back() -> None:
    bert = chinese_bert()
    assert bert.decode(rows(bert, ["Unaffable 김치, 猫!"])[0]) == "[CLS] unaffable 김치 , 猫 ! [SEP]"
    assert bert.decode([]) == ""
    with pytest.raises(TextError, match="id 21128"):
        bert.decode([101, 21128])


def test_the_shipped_vocabulary_is_berts() -> None:
    """Digest of the vocab.txt of bert-base-chinese."""
    data = gzip.decompress(Path(wordpiece.__file__).with_name("bert_vocab_zh.txt.gz").read_bytes())
    assert hashlib.sha256(data).hexdigest()[:16] == "45bbac6b341c319a"
    bert = chinese_bert()
    assert bert.vocab_size == len(bert.vocab) == 21_128
    assert (bert.pad, bert.unk, bert.cls, bert.sep, bert.vocab["[MASK]"]) == (0, 100, 101, 102, 103)
    assert bert is chinese_bert()
    assert chinese_bert(HF) is chinese_bert(HF)


def test_rules_are_plain_data() -> None:
    for rules in (CN_CLIP, HF, replace(HF, mask=None)):
        assert WordPieceRules.from_dict(json.loads(json.dumps(rules.to_dict()))) == rules
    good = HF.to_dict()
    odd = ({"context": 1}, {"style": "bert"}, {"cls": 3}, {"lower": 1}, {"max_chars": 0}, {"mask": 1}, {"x": 1})
    for bad in (*({**good, **change} for change in odd), {}):
        with pytest.raises(FactsError, match="tokenizer rules"):
            WordPieceRules.from_dict(bad)


def test_a_text_may_not_spell_a_mask_that_is_none() -> None:
    assert rows(chinese_bert(replace(HF, mask=None)), ["[MASK]"]) == [[101, 138, 9622, 8998, 140, 102]]


def test_texts_are_checked() -> None:
    with pytest.raises(TextError, match=r"pass \[text\]"):
        chinese_bert()("杰尼龟")
    with pytest.raises(TextError, match=r"text 1 .*lone surrogate"):
        chinese_bert()(["ok", "bad\ud83d"])
    assert chinese_bert()([]).ids.shape == (0, 52)


@pytest.mark.parametrize("rules", [CN_CLIP, HF], ids=["cn_clip", "hf"])
def test_long_queries_are_fast_and_reported(rules: WordPieceRules) -> None:
    bert = chinese_bert(rules)
    bert(["warm up"])
    for text in ("漢字かな交じり文。" * 1112, "고양이 “소파” " * 1112, "長" * 10_000, "é!" * 5_000, "[MASK]" * 1700):
        start = time.thread_time()
        tokens = bert([text])
        assert time.thread_time() - start < 0.5  # some 10 ms on a free core
        assert tokens.truncated == (0,)
        assert tokens.ids[0, -1] == 102


def test_a_tokenizer_can_be_sent_to_another_process() -> None:
    toy = WordPiece.from_transformers(TOY, context=52)
    toy(["used"])
    assert (pickle.loads(pickle.dumps(toy))(STRINGS).ids == toy(STRINGS).ids).all()


def test_importing_is_cheap() -> None:
    code = (
        "import sys, cjkclip.text.wordpiece; print(sorted({'tokenizers', 'transformers', 'torch'} & set(sys.modules)))"
    )
    assert printed("-c", code).strip() == "[]"
