"""Compare tokenizer classes with transformers 5.23's, method by method, on 236 strings in four languages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cjkclip.compat.transformers.inputs import tokenizers as ours
from cjkclip.compat.transformers.inputs.auto import AutoTokenizer
from cjkclip.compat.transformers.inputs.tokenization import UNLIMITED, PreTrainedTokenizer
from cjkclip.errors import CheckpointError, InputError, OptionError, TextError
from cjkclip.text.bpe import HF, clip_bpe
from cjkclip.text.wordpiece import HF as BERT
from cjkclip.text.wordpiece import chinese_bert
from families import GOLDEN
from support.compat import STRINGS
from support.peers import transformers
from support.tokens import RECORD

CASES: dict[str, tuple[type[PreTrainedTokenizer], str]] = {
    "hf-clip-eos2": (ours.CLIPTokenizer, "CLIPTokenizer"),
    "koclip": (ours.CLIPTokenizer, "CLIPTokenizer"),
    "hf-chinese-clip": (ours.BertTokenizer, "BertTokenizer"),
}
Pair = tuple[PreTrainedTokenizer, Any]


@pytest.fixture(scope="module", params=CASES)
def pair(request: pytest.FixtureRequest) -> Pair:
    kind, name = CASES[request.param]
    return kind.from_pretrained(GOLDEN / request.param), getattr(transformers(), name).from_pretrained(
        str(GOLDEN / request.param)
    )


def test_there_are_200_strings_in_four_languages() -> None:
    assert len(set(STRINGS)) >= 200


OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "padded": {"padding": True},
    "padded on the left": {"padding": "longest", "padding_side": "left"},
    "padded to the model's length": {"padding": "max_length", "truncation": True},
    "padded to a length": {"padding": "max_length", "max_length": 12},
    "cut and padded": {"padding": "max_length", "truncation": True, "max_length": 9},
    "cut": {"truncation": True, "max_length": 6},
    "a length alone": {"max_length": 5},
    "a length and no cutting": {"max_length": 5, "truncation": False},
    "no padding by name": {"padding": "do_not_pad", "truncation": "do_not_truncate"},
    "a multiple": {"padding": True, "pad_to_multiple_of": 8},
    "a multiple of nothing": {"pad_to_multiple_of": 8},
    "bare": {"add_special_tokens": False, "padding": True},
    "bare and cut": {"add_special_tokens": False, "truncation": True, "max_length": 3},
    "everything": {"return_special_tokens_mask": True, "return_token_type_ids": True, "padding": True},
    "ids alone": {"return_attention_mask": False, "return_token_type_ids": False},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_a_call(pair: Pair, options: dict[str, Any]) -> None:
    got, want = (tokenizer(STRINGS, **options) for tokenizer in pair)
    assert list(got) == list(want)
    for name in want:
        assert got[name] == want[name], name


@pytest.mark.parametrize("options", [{}, OPTIONS["cut"], OPTIONS["cut and padded"], OPTIONS["everything"]])
def test_a_call_with_pairs(pair: Pair, options: dict[str, Any]) -> None:
    backwards = STRINGS[::-1]
    got, want = (tokenizer(STRINGS, backwards, **options) for tokenizer in pair)
    for name in want:
        assert got[name] == want[name], name


@pytest.mark.parametrize("side", ["only_first", "only_second"])
def test_one_side_of_a_pair_is_cut(pair: Pair, side: str) -> None:
    long, short = "a photo of a cat " * 9, "two dogs"
    texts = ([long], [short]) if side == "only_first" else ([short], [long])
    got, want = (tokenizer(*texts, truncation=side, max_length=30) for tokenizer in pair)
    assert dict(got) == dict(want)
    with pytest.raises(InputError, match=side):
        pair[0](*reversed(texts), truncation=side, max_length=30)


@pytest.mark.parametrize("kind", ["pt", "np"])
def test_tensors(pair: Pair, kind: str) -> None:
    got, want = (tokenizer(STRINGS, padding=True, return_tensors=kind) for tokenizer in pair)
    for name in want:
        assert (type(got[name]), got[name].dtype) == (type(want[name]), want[name].dtype)
        assert np.array_equal(got[name], want[name])
    assert pair[0]("猫", return_tensors="pt")["input_ids"].ndim == 2
    assert torch.equal(pair[0].encode("猫", return_tensors="pt"), pair[1].encode("猫", return_tensors="pt"))


def test_methods_of_one_text(pair: Pair) -> None:
    mine, theirs = pair
    for text in STRINGS:
        ids = theirs(text)["input_ids"]
        assert dict(mine(text)) == dict(theirs(text))
        assert mine.encode(text) == ids
        assert mine.tokenize(text) == theirs.tokenize(text)
        tokens = theirs.convert_ids_to_tokens(ids)
        assert mine.convert_ids_to_tokens(ids) == tokens
        assert mine.convert_ids_to_tokens(ids, skip_special_tokens=True) == theirs.convert_ids_to_tokens(
            ids, skip_special_tokens=True
        )
        assert mine.convert_tokens_to_ids(tokens) == theirs.convert_tokens_to_ids(tokens)
        assert mine.get_special_tokens_mask(ids, already_has_special_tokens=True) == theirs.get_special_tokens_mask(
            ids, already_has_special_tokens=True
        )
        for skip in (False, True):
            assert mine.decode(ids, skip_special_tokens=skip) == theirs.decode(ids, skip_special_tokens=skip)
    rows = theirs(STRINGS, padding=True, return_tensors="pt")["input_ids"]
    assert mine.batch_decode(rows, skip_special_tokens=True) == theirs.batch_decode(rows, skip_special_tokens=True)
    assert mine.convert_tokens_to_ids("no such token") == theirs.convert_tokens_to_ids("no such token")
    assert mine.convert_ids_to_tokens(7) == theirs.convert_ids_to_tokens(7)


def test_what_a_tokenizer_tells(pair: Pair) -> None:
    mine, theirs = pair
    assert (len(mine), mine.vocab_size, mine.model_max_length) == (len(theirs), len(theirs), theirs.model_max_length)
    assert mine.get_vocab() == theirs.get_vocab()
    assert mine.special_tokens_map == theirs.special_tokens_map
    assert mine.all_special_tokens == theirs.all_special_tokens
    assert mine.all_special_ids == theirs.all_special_ids
    assert list(mine.model_input_names) == theirs.model_input_names
    for role in ("bos", "eos", "unk", "pad", "cls", "sep", "mask"):
        assert getattr(mine, f"{role}_token") == getattr(theirs, f"{role}_token")
        assert getattr(mine, f"{role}_token_id") == getattr(theirs, f"{role}_token_id")
    assert mine.num_special_tokens_to_add() == theirs.num_special_tokens_to_add()
    assert mine.num_special_tokens_to_add(pair=True) == theirs.num_special_tokens_to_add(pair=True)
    with pytest.raises(AttributeError, match="no attribute 'chat_template'"):
        _ = mine.chat_template


def test_padding_afterwards(pair: Pair) -> None:
    mine, theirs = pair
    rows = [dict(theirs(text)) for text in STRINGS]
    for options in ({}, {"padding": "max_length", "max_length": 900}, {"pad_to_multiple_of": 16}):
        got, want = (tokenizer.pad(rows, return_tensors="np", **options) for tokenizer in pair)
        assert list(got) == list(want)
        assert all(np.array_equal(got[name], want[name]) for name in want)
    one = {"input_ids": rows[3]["input_ids"]}
    assert dict(mine.pad(one, padding="max_length", max_length=20)) == dict(
        theirs.pad(one, padding="max_length", max_length=20)
    )
    with pytest.raises(InputError, match="input_ids"):
        mine.pad({"ids": [[1]]})


@pytest.mark.parametrize(
    ("kind", "length", "make"),
    [
        ("clip_bpe_hf", 77, lambda: ours.CLIPTokenizer.over(clip_bpe(HF))),
        ("wordpiece_hf", 52, lambda: ours.BertTokenizer.over(chinese_bert(BERT))),
        ("unigram_rinna", 77, lambda: ours.SentencePieceTokenizer.from_pretrained(GOLDEN / "rinna-clip")),
    ],
)
def test_the_golden_ids_of_published_vocabularies(
    kind: str, length: int, make: Callable[[], PreTrainedTokenizer]
) -> None:
    assert make()(RECORD["strings"], max_length=length)["input_ids"] == RECORD["kinds"][kind]["rows"]


def test_clip_builds_as_version_4_did() -> None:
    """transformers 5 dropped build_inputs and create_token_type_ids, and can mask only built sequences."""
    tokenizer = ours.CLIPTokenizer.from_pretrained(GOLDEN / "hf-clip-eos2")
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    assert tokenizer.build_inputs_with_special_tokens([5, 6]) == [bos, 5, 6, eos]
    assert tokenizer.build_inputs_with_special_tokens([5, 6], [7]) == [bos, 5, 6, eos, eos, 7, eos]
    assert tokenizer.get_special_tokens_mask([5, 6]) == [1, 0, 0, 1]
    assert tokenizer.get_special_tokens_mask([5, 6], [7]) == [1, 0, 0, 1, 1, 0, 1]
    assert tokenizer.get_special_tokens_mask([bos, 5, eos], already_has_special_tokens=True) == [1, 0, 1]
    assert tokenizer.create_token_type_ids_from_sequences([5, 6]) == [0] * 4
    assert tokenizer.create_token_type_ids_from_sequences([5, 6], [7]) == [0] * 7
    with pytest.raises(InputError, match="leave the second out"):
        tokenizer.get_special_tokens_mask([bos, 5, eos], [7], already_has_special_tokens=True)


def test_bert_builds_as_version_4_did() -> None:
    tokenizer = ours.BertTokenizer.from_pretrained(GOLDEN / "hf-chinese-clip")
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert tokenizer.build_inputs_with_special_tokens([5, 6], [7]) == [cls, 5, 6, sep, 7, sep]
    assert tokenizer.get_special_tokens_mask([5, 6], [7]) == [1, 0, 0, 1, 0, 1]
    assert tokenizer.create_token_type_ids_from_sequences([5, 6]) == [0] * 4
    assert tokenizer.create_token_type_ids_from_sequences([5, 6], [7]) == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("prefix", [None, "ko"])
@pytest.mark.parametrize("case", CASES)
def test_a_saved_vocabulary_loads_again(case: str, prefix: str | None, tmp_path: Path) -> None:
    kind = CASES[case][0]
    tokenizer = kind.from_pretrained(GOLDEN / case)
    paths = tokenizer.save_vocabulary(tmp_path, filename_prefix=prefix)
    names = ["vocab.txt"] if kind is ours.BertTokenizer else ["vocab.json", "merges.txt"]
    assert [Path(path).name for path in paths] == [f"{prefix}-{name}" if prefix else name for name in names]
    again = [kind(*paths)] + ([] if prefix else [kind.from_pretrained(tmp_path)])
    for other in again:
        assert other(STRINGS)["input_ids"] == tokenizer(STRINGS)["input_ids"]
        assert other.model_max_length == UNLIMITED
    if kind is ours.CLIPTokenizer:
        assert Path(paths[1]).read_text("utf-8").startswith("#version: 0.2\n")
    with pytest.raises(InputError, match="not an existing directory"):
        tokenizer.save_vocabulary(tmp_path / "nowhere")


@pytest.mark.parametrize("case", [*CASES, "rinna-clip"])
def test_a_saved_tokenizer_loads_again(case: str, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(GOLDEN / case)
    paths = tokenizer.save_pretrained(tmp_path / "new")
    assert {Path(path).name for path in paths} == {path.name for path in (tmp_path / "new").iterdir()}
    again = AutoTokenizer.from_pretrained(tmp_path / "new")
    assert type(again) is type(tokenizer)
    assert (again.model_max_length, again.special_tokens_map) == (
        tokenizer.model_max_length,
        tokenizer.special_tokens_map,
    )
    assert again(STRINGS)["input_ids"] == tokenizer(STRINGS)["input_ids"]
    if case in CASES:
        peer = getattr(transformers(), CASES[case][1]).from_pretrained(str(tmp_path / "new"))
        assert peer(STRINGS)["input_ids"] == tokenizer(STRINGS)["input_ids"]


BAD: dict[str, tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "nothing": ((), {}, InputError, "text is missing"),
    "no texts": (([],), {}, InputError, "empty list"),
    "a number": ((3,), {}, TextError, "expected a list of strings"),
    "a number among texts": ((["a", 3],), {}, TextError, "text 1 is int"),
    "bytes": ((b"a",), {}, TextError, "bytes"),
    "half a character": (("\ud800",), {}, TextError, "lone surrogate"),
    "an unknown option": (("a",), {"paddding": True}, OptionError, "'paddding'"),
    "an odd padding": (("a",), {"padding": "wide"}, InputError, "padding is 'wide'"),
    "an odd cut": (("a",), {"truncation": "middle"}, InputError, "truncation is 'middle'"),
    "an odd side": (("a",), {"padding_side": "top"}, InputError, "padding_side"),
    "no such tensors": (("a",), {"return_tensors": "tf"}, InputError, "return_tensors is 'tf'"),
    "no length": (("a",), {"max_length": 0}, InputError, "max_length is 0"),
    "a length without room": (("a",), {"max_length": 1}, InputError, "too short for the 2 special tokens"),
    "rows of different lengths": ((["a", "a b"],), {"return_tensors": "pt"}, InputError, "padding=True"),
    "one pair for many": ((["a", "b"], "c"), {}, InputError, "both"),
    "too few pairs": ((["a", "b"], ["c"]), {}, InputError, "2 texts and 1"),
}


@pytest.mark.parametrize(("texts", "options", "error", "words"), BAD.values(), ids=list(BAD))
@pytest.mark.parametrize("case", CASES)
def test_bad_calls(
    case: str, texts: tuple[Any, ...], options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        CASES[case][0].from_pretrained(GOLDEN / case)(*texts, **options)
    assert isinstance(caught.value, ValueError)


def test_bad_ids_and_files(tmp_path: Path) -> None:
    tokenizer = ours.CLIPTokenizer.from_pretrained(GOLDEN / "hf-clip-eos2")
    for ids in (10**6, [1, 10**6]):
        with pytest.raises(InputError, match="1000000 is not in this vocabulary"):
            tokenizer.decode(ids)
    with pytest.raises(OptionError, match="from_pretrained has no option 'colour'"):
        ours.CLIPTokenizer.from_pretrained(GOLDEN / "hf-clip-eos2", colour=1)
    with pytest.raises(CheckpointError, match="contains no tokenizer"):
        ours.CLIPTokenizer.from_pretrained(tmp_path)
    with pytest.raises(OptionError, match="supports errors only as 'replace' or None, got 'strict'"):
        ours.CLIPTokenizer(*(GOLDEN / "hf-clip-eos2" / name for name in ("vocab.json", "merges.txt")), errors="strict")
    with pytest.raises(InputError, match="one text, not two"):
        ours.SentencePieceTokenizer.from_pretrained(GOLDEN / "rinna-clip")("犬", "猫")
