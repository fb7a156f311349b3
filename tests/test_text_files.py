"""Byte-pair vocabularies: saved and loaded again, damaged files, and training."""

import gzip
import json
import random
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from cjkclip.errors import CheckpointError, FactsError, InputError
from cjkclip.text import bpe_files
from cjkclip.text.bpe import HF, OPEN_CLIP, OPENAI, Bpe, BpeRules, clip_bpe
from cjkclip.text.files import read_json
from cjkclip.train.tokenizer import train_bpe
from support.processes import printed
from support.tokens import FOLDER, STRINGS, set_in

CAPTIONS = [
    *("a photo of a grinning cat", "cat with tears of joy", "red heart", "hot beverage", "a cat and a dog"),
    *("咧嘴笑的猫", "笑出眼泪的猫", "红心", "热饮", "咧嘴笑的猫和狗", "咧嘴笑的貓", "笑出眼淚的貓", "紅心", "熱飲"),
    *("にっこり笑う猫", "うれし泣きする猫", "赤いハート", "ホットドリンク", "笑う猫と犬"),
    *("활짝 웃는 고양이", "기쁨의 눈물을 흘리는 고양이", "빨간 하트", "뜨거운 음료", "웃는 고양이와 개"),
] * 2
MOJI = replace(OPENAI, context=32)


def same(a: Bpe, b: Bpe) -> bool:
    ids = all((a([text]).ids == b([text]).ids).all() for text in STRINGS[:40])
    return (a.vocab, a.merges, a.rules) == (b.vocab, b.merges, b.rules) and ids


@pytest.mark.parametrize("rules", [OPENAI, OPEN_CLIP, HF], ids=["openai", "open_clip", "hf"])
def test_saved_and_loaded_again_it_is_the_same(rules: BpeRules, tmp_path: Path) -> None:
    clip_bpe(rules).save(tmp_path / "new" / "folder")
    assert [file.name for file in (tmp_path / "new" / "folder").iterdir()] == ["tokenizer.json"]
    assert same(Bpe.load(tmp_path / "new" / "folder", rules), clip_bpe(rules))


def test_the_saved_file_is_complete_for_the_tokenizers_library(tmp_path: Path) -> None:
    """It gives transformers' ids, start and end included, and an exclamation mark is no special token in it."""
    clip_bpe(OPENAI).save(tmp_path)
    alone = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    hf = clip_bpe(HF)
    for text in ["Wow! 소파", *STRINGS]:
        [row], [keep] = hf([text]).ids, hf([text]).mask
        ids = alone.encode(text).ids
        assert [*ids[:76], 49407][: len(ids)] == row[keep == 1].tolist()


@pytest.mark.parametrize("case", ["hf-clip-eos2", "koclip", "koclip-naive-eos1", "open-clip"])
def test_transformers_folders_are_written_as_they_were_read(case: str, tmp_path: Path) -> None:
    bpe = Bpe.from_transformers(FOLDER / case)
    bpe.save_transformers(tmp_path)
    assert same(Bpe.from_transformers(tmp_path), bpe)
    (tmp_path / "tokenizer.json").unlink()
    assert same(Bpe.from_transformers(tmp_path), bpe)


def test_open_clips_rules_are_written_with_transformers_spelling(tmp_path: Path) -> None:
    clip_bpe(OPEN_CLIP).save_transformers(tmp_path)
    assert same(Bpe.from_transformers(tmp_path), clip_bpe(HF))
    config = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))
    assert config["pad_token"] == config["eos_token"] == "<|endoftext|>"
    assert (tmp_path / "merges.txt").read_text("utf-8").startswith("#version: 0.2\ni n\nt h\n")


def test_the_context_length_must_be_known(tmp_path: Path) -> None:
    bpe = Bpe.from_transformers(FOLDER / "koclip", context=5)
    assert bpe(["소파 위의 고양이"]).ids.shape == (1, 5)
    clip_bpe(HF).save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 1000000000000000019884624838656}')
    with pytest.raises(FactsError, match="for example context=77"):
        Bpe.from_transformers(tmp_path)


def test_specials_may_stand_among_the_added_tokens_only(tmp_path: Path) -> None:
    data = json.loads((FOLDER / "koclip" / "tokenizer.json").read_text("utf-8"))
    whole = Bpe.load(FOLDER / "koclip", HF)
    for token in data["added_tokens"]:
        assert data["model"]["vocab"].pop(token["content"]) == token["id"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), "utf-8")
    assert same(Bpe.load(tmp_path, HF), whole)


def test_what_would_change_ids_is_refused(tmp_path: Path) -> None:
    """Tokens that were added to the vocabulary, as by fine-tuning, and options that move ids."""
    toy, clip = "<cat-toy>", clip_bpe(HF)
    record = {"content": toy, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    for name, more in {
        "tokenizer_config.json": [
            {"additional_special_tokens": [toy]},
            {"extra_special_tokens": {"toy": toy}},
            {"added_tokens_decoder": {"49408": record}},
            {"mask_token": "!"},
            {"split_special_tokens": True},
            {"padding_side": "left"},
            {"added_tokens_decoder": {"7": record | {"content": "<|endoftext|>"}}},
        ],
        "added_tokens.json": [{toy: 49408}],
        "tokenizer.json": [{"added_tokens": [record | {"id": 49408}]}],
    }.items():
        for change in more:
            folder = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}"
            clip.save_transformers(folder)
            path = folder / name
            if name == "tokenizer.json":
                clip.save(folder)
            old = json.loads(path.read_text("utf-8")) if path.exists() else {}
            assert Bpe.from_transformers(folder).vocab == clip.vocab
            both = {"added_tokens": old["added_tokens"] + change["added_tokens"]} if "added_tokens" in old else change
            path.write_text(json.dumps(old | both), "utf-8")
            with pytest.raises(CheckpointError, match=r"would change ids|is added with id 7"):
                Bpe.from_transformers(folder)


def test_gzipped_or_not_a_table_reads_the_same(tmp_path: Path) -> None:
    packed = FOLDER / "openai-vit" / "bpe_toy.txt.gz"
    (tmp_path / "merges.txt").write_bytes(gzip.decompress(packed.read_bytes()) + b"\n")
    assert bpe_files.read_merges(tmp_path / "merges.txt") == bpe_files.read_merges(packed)
    assert len(bpe_files.read_merges(packed)) == 100
    assert len(bpe_files.read_merges(packed, at_most=7)) == 7


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(bytes(range(256)), mtime=0)[:40], "not a readable merge table"),
        (b"\x1f\x8bnothing", "not a readable merge table"),
        (gzip.compress(b"head", mtime=0)[:10] + b"\xff" * 9, "not a readable merge table"),
        (b"head\n\xff\xfe b\n", "not a readable merge table"),
        (b"head\na b\nabc\nd e\n", "line 3 is 'abc'"),
        (b"head\na b\n\nd e\n", "line 3 is ''"),
        (b"head\n", "line 2 is ''"),
        (b"", "line 2 is ''"),
        (b"head\na b\na b\n", "gives 'ab' two ids"),
    ],
    ids=["torn", "header", "stream", "bytes", "field", "gap", "no-merge", "empty", "twice"],
)
def test_damaged_merge_tables_are_refused(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        Bpe.from_merges(tmp_path / "table", OPENAI)
    with pytest.raises(CheckpointError, match="No such file"):
        Bpe.from_merges(tmp_path / "absent", OPENAI)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_in("model", to=None), "not a CLIP tokenizer"),
        (set_in("model", "end_of_word_suffix", to=None), "not a CLIP tokenizer"),
        (set_in("model", "dropout", to=0.1), "not a CLIP tokenizer"),
        (set_in("model", "byte_fallback", to=True), "not a CLIP tokenizer"),
        (set_in("normalizer", to={"type": "BertNormalizer"}), "not CLIP's"),
        (set_in("pre_tokenizer", to=None), "not CLIP's"),
        (set_in("model", "vocab", to=[]), "contains no vocabulary"),
        (set_in("model", "merges", to=[["a", "b", "c"]]), "not a merge of two symbols"),
        (set_in("model", "merges", to=[3]), "not a merge of two symbols"),
        (set_in("model", "merges", to=["고 양"]), "needs a symbol"),
        (set_in("model", "vocab", "!", to="0"), "not an entry"),
        (set_in("model", "vocab", "!", to=True), "not an entry"),
        (set_in("model", "vocab", "!", to=1 << 40), "not an entry"),
        (set_in("model", "vocab", "\ud800", to=1200), "not an entry"),
        (set_in("model", "vocab", "!", to=1), "same id"),
        (set_in("added_tokens", to=[{"id": 3}]), "added_tokens"),
    ],
)
def test_damaged_tokenizer_files_are_refused(change: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    data = json.loads((FOLDER / "koclip" / "tokenizer.json").read_text("utf-8"))
    change(data)
    (tmp_path / "tokenizer.json").write_text(json.dumps(data), "utf-8")
    with pytest.raises(CheckpointError, match=message):
        Bpe.load(tmp_path, HF)


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000, '"x"'])
def test_files_that_hold_no_object_are_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        Bpe.load(tmp_path, HF)


def test_folders_without_what_is_needed_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="contains no tokenizer"):
        Bpe.from_transformers(tmp_path)
    clip_bpe(HF).save(tmp_path)
    with pytest.raises(CheckpointError, match="does not contain the special token '<start_of_text>'"):
        Bpe.load(tmp_path, OPEN_CLIP)
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 77, "eos_token": {"id": 3}}')
    with pytest.raises(CheckpointError, match="expected its spelling"):
        Bpe.from_transformers(tmp_path)
    with pytest.raises(CheckpointError, match="another symbol"):
        clip_bpe(OPENAI).under(replace(OPENAI, eot="cat"))


def test_training_gives_openais_layout() -> None:
    bpe = train_bpe(CAPTIONS, 600, MOJI)
    assert bpe.vocab_size == len(bpe.vocab) == 600
    assert [bpe.vocab[symbol] for symbol in bpe_files.base_symbols()] == list(range(512))
    assert [bpe.vocab[a + b] for a, b in bpe.merges] == list(range(512, 598))
    assert (bpe.sot, bpe.eot, bpe.pad, bpe.lacking) == (598, 599, 0, ())
    assert bpe.vocab == bpe_files.openai_vocab(bpe.merges, OPENAI.sot, OPENAI.eot)
    assert bpe(["cat"]).ids[0, :3].tolist() == [598, bpe.vocab["cat</w>"], 599]
    shouted = [f"{caption.upper()}　&#32;" for caption in CAPTIONS]
    assert same(train_bpe(shouted, 600, MOJI), bpe)


@pytest.mark.parametrize("rules", [MOJI, HF], ids=["openai", "hf"])
def test_trained_texts_come_back_and_get_shorter(rules: BpeRules, tmp_path: Path) -> None:
    bpe = train_bpe(CAPTIONS, 700, rules)
    tokens = bpe(CAPTIONS)
    bytes_only = Bpe({s: i for s, i in bpe.vocab.items() if i < 512 or i >= 698}, [], rules)
    assert tokens.mask.sum() < 0.6 * bytes_only(CAPTIONS).mask.sum()
    for text, ids, keep in zip(CAPTIONS, tokens.ids, tokens.mask, strict=True):
        assert bpe.decode(ids[keep == 1].tolist()[1:-1]).strip() == text
    unseen = "Ωmega 🦑 ლომი"
    ids = bpe([unseen]).ids[0].tolist()
    assert bpe.decode(ids[1 : ids.index(bpe.eot)]).split() == unseen.lower().split()
    bpe.save(tmp_path)
    assert same(Bpe.load(tmp_path, rules), bpe)


def test_training_is_the_same_every_time(tmp_path: Path) -> None:
    """In other processes, whose hash tables have other orders, and from shuffled captions."""
    code = (
        "import sys, json; from pathlib import Path; from dataclasses import replace\n"
        "from cjkclip.text.bpe import OPENAI; from cjkclip.train.tokenizer import train_bpe\n"
        "texts = json.load(sys.stdin)\n"
        "train_bpe(texts, 680, replace(OPENAI, context=32)).save(Path(sys.argv[1]))"
    )
    train_bpe(CAPTIONS, 680, MOJI).save(tmp_path)
    expected = (tmp_path / "tokenizer.json").read_bytes()
    for run in range(3):
        texts = random.Random(run).sample(CAPTIONS, len(CAPTIONS))
        printed("-c", code, tmp_path / str(run), typed=json.dumps(texts))
        assert (tmp_path / str(run) / "tokenizer.json").read_bytes() == expected


def test_training_stops_where_no_pair_is_left() -> None:
    assert 515 < train_bpe(["cat cat", "dog dog"], 5000, MOJI).vocab_size < 530
    assert train_bpe(["cat dog"], 5000, MOJI, min_frequency=2).vocab_size == 514
    with pytest.raises(InputError, match="at least 515"):
        train_bpe(CAPTIONS, 514, MOJI)
    with pytest.raises(InputError, match="text 1"):
        train_bpe(["a", "\ud800"], 600, MOJI)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", "{" + '"a": [' + "[]," * 2_000_000 + "[]]}"),
        ("config.json", '{"a": "' + "x" * (1 << 22) + '"}'),
        ("tokenizer.json", '{"a": [' + "[]," * 2_000_000 + "[]]}"),
        ("tokenizer.json", '{"a": "' + "x" * (1 << 26) + '"}'),
    ],
)
def test_json_that_would_take_much_memory_is_refused_before_it_is_parsed(
    name: str, content: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content, "utf-8")
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=f"{name}: has more than .* values; no {name} is that large"):
        read_json(tmp_path / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 * len(content) + (1 << 20)
