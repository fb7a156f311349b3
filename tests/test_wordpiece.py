"""BERT's tokenizer gives the ids of cn_clip and of transformers. Golden ids: tests/golden/tokens/tokens.json."""

import gzip
import hashlib
import json
import pickle
import shutil
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from cjkclip.errors import CheckpointError, FactsError, TextError
from cjkclip.text import wordpiece
from cjkclip.text.wordpiece import CN_CLIP, HF, WordPiece, WordPieceRules, chinese_bert
from cjkclip.text.wordpiece_rules import words
from peers import transformers

GOLDEN = Path(__file__).parent / "golden"
TOKENS: dict[str, Any] = json.loads((GOLDEN / "tokens" / "tokens.json").read_text("utf-8"))
STRINGS: list[str] = TOKENS["strings"]
KINDS = {"wordpiece_cn_clip": CN_CLIP, "wordpiece_hf": HF, "wordpiece_hf_v4_slow": HF}
TOY = GOLDEN / "hf-chinese-clip"
CASES = {
    "cn-clip-vit": (52, lambda: chinese_bert()),
    "cn-clip-rn": (52, lambda: chinese_bert()),
    "hf-chinese-clip": (52, lambda: WordPiece.from_transformers(TOY, context=52)),
    "hf-chinese-clip-crop": (52, lambda: WordPiece.from_transformers(GOLDEN / "hf-chinese-clip-crop", context=52)),
    "taiyi-logits": (128, lambda: WordPiece.from_transformers(GOLDEN / "taiyi-logits/text", context=128)),
    "taiyi-pooler": (128, lambda: WordPiece.from_transformers(GOLDEN / "taiyi-pooler/text", context=128)),
    "taiyi-pooler-gelu": (128, lambda: WordPiece.from_transformers(GOLDEN / "taiyi-pooler-gelu/text", context=128)),
    "taiyi-clip-model": (77, lambda: WordPiece.from_transformers(GOLDEN / "taiyi-clip-model", context=77)),
}


def rows(tokenizer: WordPiece, texts: list[str]) -> list[list[int]]:
    """Ids without padding."""
    tokens = tokenizer(texts)
    return [ids[keep == 1].tolist() for ids, keep in zip(tokens.ids, tokens.mask, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_the_published_ones(kind: str) -> None:
    found = rows(chinese_bert(KINDS[kind]), STRINGS)
    for text, ours, theirs in zip(STRINGS, found, TOKENS["kinds"][kind]["rows"], strict=True):
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
    assert [len(row) for row in rows(chinese_bert(HF), ["가" * 50, "가" * 51, "x" * 100, "x" * 101])] == [52, 3, 52, 3]
    assert [len(row) for row in rows(chinese_bert(), ["가" * 51, "가" * 101, "x" * 200, "x" * 201])] == [52, 3, 52, 3]


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
        if lower:
            word = "".join(c for c in unicodedata.normalize("NFD", word.lower()) if unicodedata.category(c) != "Mn")
        pieces = "".join(f" {c} " if unicodedata.category(c)[0] == "P" or c in "$+<=>^`|~" else c for c in word)
        found += pieces.split()
    return found


ODD = "ΣσςΑ.΄' ÍİΪ\u0301\u0345\u2028\x1c\x85\u3000\ufeff\ufffd中𫠠𮯠神가각Ａ。!$|~«“\ue000\ufdd0"


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet=st.one_of(st.characters(codec="utf-8"), st.sampled_from(ODD))), st.booleans())
def test_words_equal_the_slow_way(text: str, lower: bool) -> None:
    assert words(text, lower=lower).split(" ") == (slow(text, lower) or [""])


def test_every_character_is_cut_as_the_slow_way_does() -> None:
    for block in range(0, 0x110000, 0x1000):
        text = "".join(f"a{chr(c)}B " for c in range(block, block + 0x1000) if not 0xD800 <= c < 0xE000)
        assert words(text, lower=True).split(" ") == (slow(text, True) or [""])


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


# ---- files


def same(a: WordPiece, b: WordPiece) -> bool:
    return (a.vocab, a.rules) == (b.vocab, b.rules) and bool((a(STRINGS).ids == b(STRINGS).ids).all())


@pytest.mark.parametrize("rules", [CN_CLIP, HF], ids=["cn_clip", "hf"])
def test_saved_and_loaded_again_it_is_the_same(rules: WordPieceRules, tmp_path: Path) -> None:
    chinese_bert(rules).save(tmp_path / "new" / "folder")
    assert [file.name for file in (tmp_path / "new" / "folder").iterdir()] == ["tokenizer.json"]
    assert same(WordPiece.load(tmp_path / "new" / "folder", rules), chinese_bert(rules))
    (tmp_path / "vocab.txt").write_bytes((TOY / "vocab.txt").read_bytes().replace(b"\n", b" \r\n") + b"\n\n")
    assert same(WordPiece.load(tmp_path, rules), WordPiece.from_vocab(TOY / "vocab.txt", rules))


def test_the_saved_file_is_complete_for_the_tokenizers_library(tmp_path: Path) -> None:
    chinese_bert(HF).save(tmp_path)
    alone = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    alone.enable_truncation(52)
    for text, row in zip(STRINGS, rows(chinese_bert(HF), STRINGS), strict=True):
        assert alone.encode(text).ids == row
    assert same(WordPiece.from_transformers(tmp_path, context=52), chinese_bert(HF))


@pytest.mark.parametrize("rules", [HF, replace(HF, lower=False, context=20), CN_CLIP], ids=["hf", "cased", "cn_clip"])
def test_what_is_written_for_transformers_gives_the_same_ids_there(rules: WordPieceRules, tmp_path: Path) -> None:
    written = WordPiece.from_vocab(TOY / "vocab.txt", rules)
    written.save_transformers(tmp_path / "ours")
    files = {"vocab.txt", "tokenizer_config.json", "special_tokens_map.json"}
    assert {file.name for file in (tmp_path / "ours").iterdir()} == files
    ours = WordPiece.from_transformers(tmp_path / "ours")
    assert same(ours, written.under(replace(rules, style="hf", max_chars=100)))
    peer = transformers().BertTokenizer.from_pretrained(tmp_path / "ours")
    texts = [*STRINGS, *json.loads((TOY / "inputs.json").read_text("utf-8"))["texts"], "CAT 猫[MASK]É"]
    theirs = peer(texts, padding="max_length", truncation=True, max_length=rules.context)
    tokens = ours(texts)
    assert tokens.ids.tolist() == theirs["input_ids"]
    assert tokens.mask.tolist() == theirs["attention_mask"]
    peer.save_pretrained(tmp_path / "theirs")
    assert (tmp_path / "theirs" / "tokenizer.json").exists()
    assert same(WordPiece.from_transformers(tmp_path / "theirs"), ours)


def test_the_files_of_transformers_4_are_read(tmp_path: Path) -> None:
    """Which lists the special tokens once more, each with its flags."""
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    toy = WordPiece.from_transformers(TOY)
    decoder = {str(toy.vocab[name]): {"content": name, "special": True, **flags} for name in HF.specials}
    config = {
        "added_tokens_decoder": decoder,
        "extra_special_tokens": {},
        "never_split": None,
        "do_basic_tokenize": True,
    }
    config |= {"cls_token": decoder[str(toy.cls)], "model_max_length": 10**30, "tokenizer_class": "BertTokenizerFast"}
    shutil.copy(TOY / "vocab.txt", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[MASK]": toy.vocab["[MASK]"]}))
    assert same(WordPiece.from_transformers(tmp_path, context=512), toy)


def test_the_vocabulary_alone_is_enough_if_the_context_is_told(tmp_path: Path) -> None:
    shutil.copy(TOY / "vocab.txt", tmp_path)
    assert WordPiece.from_transformers(tmp_path, context=7).rules == replace(HF, context=7)
    with pytest.raises(FactsError, match="give `context`"):
        WordPiece.from_transformers(tmp_path)


def test_other_spellings_are_read(tmp_path: Path) -> None:
    text = (TOY / "vocab.txt").read_text("utf-8").replace("[CLS]", "<s>").replace("[MASK]", "<mask>")
    (tmp_path / "vocab.txt").write_text(text, "utf-8")
    (tmp_path / "special_tokens_map.json").write_text('{"cls_token": {"content": "<s>"}, "mask_token": "<mask>"}')
    tokenizer = WordPiece.from_transformers(tmp_path, context=9)
    assert tokenizer.rules.specials == ("<s>", "[SEP]", "[PAD]", "[UNK]", "<mask>")
    assert rows(tokenizer, ["<mask>"]) == [[tokenizer.cls, tokenizer.vocab["<mask>"], tokenizer.sep]]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("tokenize_chinese_chars", False, "tokenize_chinese_chars = False"),
        ("do_basic_tokenize", False, "do_basic_tokenize"),
        ("strip_accents", False, "strip_accents = False"),
        ("never_split", ["猫"], "never_split"),
        ("split_special_tokens", True, "split_special_tokens"),
        ("padding_side", "left", "padding_side = 'left'"),
        ("truncation_side", "left", "truncation_side"),
        ("tokenizer_class", "BertJapaneseTokenizer", "BertJapaneseTokenizer"),
        ("do_lower_case", "yes", "do_lower_case is 'yes'"),
        ("additional_special_tokens", ["<猫>"], "'<猫>'"),
        ("extra_special_tokens", {"cat": "<猫>"}, "'<猫>'"),
        ("additional_special_tokens", "<猫>", "'<猫>'"),
        ("bos_token", "<s>", "'<s>'"),
        ("cls_token", {"content": "[CLS]", "normalized": True}, "normalized"),
        ("sep_token", {"content": "[SEP]", "rstrip": True}, "rstrip"),
        ("cls_token", "<s>", "does not hold the special '<s>'"),
        ("mask_token", 3, "expected its spelling"),
        ("added_tokens_decoder", {"9": {"content": "[MASK]"}}, "added with id 9"),
        ("added_tokens_decoder", {"x": {"content": "[MASK]"}}, "added with id x"),
        ("added_tokens_decoder", {"1": {"content": "[unused1]"}}, r"'\[unused1\]'"),
        ("added_tokens_decoder", [3], "expected its spelling"),
    ],
)
def test_options_that_would_change_ids_are_refused(option: str, value: Any, message: str, tmp_path: Path) -> None:
    shutil.copy(TOY / "vocab.txt", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({option: value}))
    with pytest.raises(CheckpointError, match=message):
        WordPiece.from_transformers(tmp_path, context=52)


def test_added_tokens_are_refused(tmp_path: Path) -> None:
    shutil.copy(TOY / "vocab.txt", tmp_path)
    for added in ({"<猫>": 320}, {"[unused1]": 1}):
        (tmp_path / "added_tokens.json").write_text(json.dumps(added))
        with pytest.raises(CheckpointError, match=r"unused1|<猫>"):
            WordPiece.from_transformers(tmp_path, context=52)


def set_in(*keys: str, to: Any) -> Callable[[dict[str, Any]], None]:
    """A change to one place of a JSON object."""

    def change(data: dict[str, Any]) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in("model", to=None), "not BERT's kind of model"),
        (set_in("model", "type", to="Unigram"), "not BERT's kind of model"),
        (set_in("model", "continuing_subword_prefix", to="@@"), "not BERT's kind of model"),
        (set_in("model", "vocab", to=[]), "holds no vocabulary"),
        (set_in("model", "vocab", "。", to="0"), "not an entry"),
        (set_in("model", "vocab", "。", to=True), "not an entry"),
        (set_in("model", "vocab", "。", to=1 << 40), "not an entry"),
        (set_in("model", "vocab", "\ud800", to=1200), "not an entry"),
        (set_in("model", "vocab", "。", to=1), "same id"),
        (set_in("model", "unk_token", to="。"), "unk_token"),
        (set_in("model", "max_input_chars_per_word", to=50), "max_input_chars_per_word"),
        (set_in("normalizer", to=None), "normalizer"),
        (set_in("normalizer", "lowercase", to=False), "normalizer"),
        (set_in("normalizer", "strip_accents", to=False), "normalizer"),
        (set_in("normalizer", "handle_chinese_chars", to=False), "normalizer"),
        (set_in("normalizer", "clean_text", to=False), "normalizer"),
        (set_in("pre_tokenizer", to={"type": "Whitespace"}), "pre_tokenizer"),
        (set_in("post_processor", to=None), "post_processor"),
        (set_in("post_processor", "cls", to=["[CLS]", 7]), "post_processor"),
        (set_in("truncation", to={"direction": "Left"}), "truncation"),
        (set_in("padding", to={"direction": "Left"}), "padding"),
        (set_in("added_tokens", to=[{"id": 3}]), "added_tokens"),
        (set_in("added_tokens", to=[{"id": 1, "content": "[unused1]"}]), "unused1"),
        (set_in("added_tokens", to=[{"id": 3, "content": "[CLS]", "normalized": True}]), "normalized"),
    ],
)
def test_other_tokenizers_and_damaged_files_are_refused(
    change: Callable[[Any], None], message: str, tmp_path: Path
) -> None:
    WordPiece.from_transformers(TOY).save(tmp_path)
    shutil.copy(TOY / "tokenizer_config.json", tmp_path)
    data = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    assert same(WordPiece.from_transformers(tmp_path), WordPiece.from_transformers(TOY))
    change(data)
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), "utf-8")
    with pytest.raises(CheckpointError, match=message):
        WordPiece.from_transformers(tmp_path)


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every place of a JSON value: the container and the key in it. Of a vocabulary, one entry only."""
    keys = list(data) if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else []
    for key in keys[:1] if len(keys) > 100 else keys:
        yield data, key
        yield from places(data[key])


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_odd_values_are_never_another_error(name: str, tmp_path: Path) -> None:
    """A value of another type anywhere is refused as damaged, or is one that transformers would ignore."""
    transformers().BertTokenizer.from_pretrained(TOY).save_pretrained(tmp_path)
    good = (tmp_path / name).read_text("utf-8")
    refused = tried = 0
    for index in range(len(list(places(json.loads(good))))):
        for odd in (None, 0, "x", [], {}, [1], {"a": 1}, True, -1.5):
            data = json.loads(good)
            container, key = list(places(data))[index]
            container[key] = odd
            (tmp_path / name).write_text(json.dumps(data), "utf-8")
            tried += 1
            try:
                WordPiece.from_transformers(tmp_path, context=9)
            except CheckpointError:
                refused += 1
    assert 0.2 * tried < refused < tried


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\na\n", "line 6 is 'a'"),
        (b"[PAD]\n\n[CLS]\n", "line 2 is ''"),
        (b"", "line 1 is ''"),
        (b"\n\n", "line 1 is ''"),
        (b"[PAD]\n\xff\n", "not a readable vocabulary"),
        (b"\x1f\x8bnothing", "not a readable vocabulary"),
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na", r"does not hold the special '\[MASK\]'"),
        (b"\xef\xbb\xbf[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]", r"does not hold the special '\[PAD\]'"),
    ],
)
def test_damaged_vocabularies_are_refused(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        WordPiece.from_vocab(tmp_path / "vocab.txt", HF)
    with pytest.raises(CheckpointError, match="No such file"):
        WordPiece.from_vocab(tmp_path / "absent", HF)


def test_folders_without_a_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no tokenizer here"):
        WordPiece.from_transformers(tmp_path, context=52)
    (tmp_path / "tokenizer.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="not readable as JSON"):
        WordPiece.load(tmp_path, HF)


def test_what_a_vocab_txt_cannot_hold_is_not_written(tmp_path: Path) -> None:
    toy = WordPiece.from_transformers(TOY)
    for piece, i in (("x\ny", 320), (" x", 320), ("x", 400), ("", 320)):
        with pytest.raises(CheckpointError, match=r"vocab.txt cannot hold"):
            WordPiece({**toy.vocab, piece: i}, HF).save_transformers(tmp_path)
    assert not list(tmp_path.iterdir())


# ---- the rest of the contract


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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
