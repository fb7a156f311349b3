"""WordPiece vocabularies in files: saved and loaded again, read by transformers, and damaged in every way."""

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from cjkclip.errors import CheckpointError, FactsError
from cjkclip.text.wordpiece import CN_CLIP, HF, WordPiece, WordPieceRules, chinese_bert
from families import GOLDEN
from support.peers import transformers
from support.tokens import STRINGS, rows, set_in

TOY = GOLDEN / "hf-chinese-clip"


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
    with pytest.raises(FactsError, match="for example context=52"):
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
        ("cls_token", "<s>", "does not contain the special token '<s>'"),
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in("model", to=None), "not a BERT tokenizer"),
        (set_in("model", "type", to="Unigram"), "not a BERT tokenizer"),
        (set_in("model", "continuing_subword_prefix", to="@@"), "not a BERT tokenizer"),
        (set_in("model", "vocab", to=[]), "contains no vocabulary"),
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
    path = tmp_path / "tokenizer_config.json"
    lists = {"additional_special_tokens": ["[SEP]"], "added_tokens_decoder": {"3": {"content": "[CLS]"}}}
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | lists))
    good = (tmp_path / name).read_text("utf-8")
    refused = tried = 0
    for index in range(len(list(places(json.loads(good))))):
        for odd in (None, 7, "x", [1], {"a": 1}):
            data = json.loads(good)
            container, key = next(itertools.islice(places(data), index, None))
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
        (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na", r"does not contain the special token '\[MASK\]'"),
        (b"\xef\xbb\xbf[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]", r"does not contain the special token '\[PAD\]'"),
    ],
)
def test_damaged_vocabularies_are_refused(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        WordPiece.from_vocab(tmp_path / "vocab.txt", HF)
    with pytest.raises(CheckpointError, match="No such file"):
        WordPiece.from_vocab(tmp_path / "absent", HF)


def test_folders_without_a_tokenizer_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="contains no tokenizer"):
        WordPiece.from_transformers(tmp_path, context=52)
    (tmp_path / "tokenizer.json").write_text("[" * 100_000)
    with pytest.raises(CheckpointError, match="not readable as JSON"):
        WordPiece.load(tmp_path, HF)


def test_what_a_vocab_txt_cannot_hold_is_not_written(tmp_path: Path) -> None:
    toy = WordPiece.from_transformers(TOY)
    for piece, i in (("x\ny", 320), (" x", 320), ("x", 400), ("", 320)):
        with pytest.raises(CheckpointError, match=r"vocab.txt cannot contain"):
            WordPiece({**toy.vocab, piece: i}, HF).save_transformers(tmp_path)
    assert not list(tmp_path.iterdir())
