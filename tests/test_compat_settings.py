"""Settings of tokenizers that callers assign or pass, compared with transformers; none is ignored in silence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from cjkclip.compat import transformers as ours_all
from cjkclip.compat.transformers.inputs import tokenizers as ours
from cjkclip.compat.transformers.inputs.auto import AutoImageProcessor, AutoTokenizer
from cjkclip.compat.transformers.inputs.images import DEFAULTS
from cjkclip.compat.transformers.inputs.tokenization import SETTINGS
from cjkclip.errors import InputError, OptionError, TextError
from families import GOLDEN
from support.compat import STRINGS
from support.peers import transformers

NAMES = {"hf-clip-eos2": "CLIPTokenizer", "hf-chinese-clip": "BertTokenizer"}
Pair = tuple[Any, Any]


@pytest.fixture(params=NAMES)
def case(request: pytest.FixtureRequest) -> str:
    return request.param


def both(case: str, **options: Any) -> Pair:
    classes = getattr(ours, NAMES[case]), getattr(transformers(), NAMES[case])
    mine, theirs = (each.from_pretrained(str(GOLDEN / case), **options) for each in classes)
    return mine, theirs


def assert_same(pair: Pair, *texts: Any, **options: Any) -> None:
    mine, theirs = (dict(each(*texts, **options)) for each in pair)
    assert mine == theirs


@pytest.mark.parametrize("bare", [True, False])
def test_offsets(case: str, bare: bool) -> None:
    pair = both(case)
    for text in STRINGS:
        assert_same(pair, text, return_offsets_mapping=True, add_special_tokens=not bare)
    assert_same(pair, STRINGS, return_offsets_mapping=True, padding=True, truncation=True, max_length=9)


@pytest.mark.parametrize("stride", [0, 1, 2])
@pytest.mark.parametrize("length", [5, 9, 40])
def test_a_long_text_as_several_rows(case: str, stride: int, length: int) -> None:
    options = {"truncation": True, "max_length": length, "stride": stride, "return_overflowing_tokens": True}
    pair = both(case)
    assert_same(pair, STRINGS, **options, return_offsets_mapping=True, padding=True)
    assert_same(pair, STRINGS[:1], **options)
    assert_same(pair, STRINGS, return_overflowing_tokens=True)


def test_words(case: str) -> None:
    pair = both(case)
    assert_same(pair, [["a", "cat sat"], ["on", "猫狗"]], is_split_into_words=True)
    assert_same(pair, ["a", "cat sat"], is_split_into_words=True, return_offsets_mapping=True)
    assert_same(pair, [["a"], ["b"]], [["c", "d"], ["e"]], is_split_into_words=True)


def test_tuples_are_pairs(case: str) -> None:
    assert_same(both(case), [("a", "b"), ("猫", "狗")], padding=True)


@pytest.mark.parametrize("side", ["left", "right"])
def test_sides_that_are_assigned_or_passed(case: str, side: str) -> None:
    pair = both(case)
    for each in pair:
        each.truncation_side = each.padding_side = side
    for texts in ((STRINGS,), (STRINGS[:50], STRINGS[50:100])):
        for each in (pair, both(case, truncation_side=side, padding_side=side)):
            assert_same(each, *texts, truncation=True, max_length=8, padding="max_length")


def test_special_tokens_that_are_assigned(case: str) -> None:
    pair = both(case)
    token = pair[0].convert_ids_to_tokens(20)
    for role in ("pad", "bos", "cls"):
        if getattr(pair[1], f"{role}_token") is None:
            continue
        for each in pair:
            setattr(each, f"{role}_token", token)
        assert getattr(pair[0], f"{role}_token_id") == getattr(pair[1], f"{role}_token_id") == 20
        assert pair[0].special_tokens_map[f"{role}_token"] == token
    assert_same(pair, STRINGS[:9], padding=True, return_attention_mask=False)
    for each in pair:
        each.pad_token_id = 21
    assert pair[0].pad_token == pair[1].pad_token
    for each in pair:
        each.unk_token_id = None
    assert pair[0].unk_token is None is pair[0].unk_token_id is pair[1].unk_token
    assert "unk_token" not in pair[0].special_tokens_map


def test_the_padding_token_can_be_passed(case: str) -> None:
    token = both(case)[0].convert_ids_to_tokens(20)
    texts = [text for text in STRINGS if token.removesuffix("</w>") not in text and "[PAD]" not in text][:20]
    assert_same(both(case, pad_token=token), texts, padding=True, return_attention_mask=False)


def test_lower_case_can_be_passed() -> None:
    assert_same(both("hf-chinese-clip", do_lower_case=False), STRINGS)


def test_a_length_can_be_passed(case: str) -> None:
    pair = both(case, model_max_length=7)
    assert_same(pair, STRINGS, truncation=True)
    assert pair[0].max_len_single_sentence == pair[1].max_len_single_sentence == 5
    assert pair[0].max_len_sentences_pair == pair[1].max_len_sentences_pair


@pytest.mark.parametrize(
    "option",
    [
        {"force_download": False},
        {"proxies": None},
        {"subfolder": ""},
        {"add_prefix_space": False},
        {"clean_up_tokenization_spaces": True},
        {"use_fast": True},
        {"trust_remote_code": False},
        {"padding": False},
    ],
    ids=str,
)
def test_options_that_change_nothing(case: str, option: dict[str, Any]) -> None:
    assert_same(both(case, **option), STRINGS[:20])
    assert AutoTokenizer.from_pretrained(GOLDEN / case, **option)("猫") == both(case)[0]("猫")


@pytest.mark.parametrize("option", [{"subfolder": "x"}, {"force_download": True}, {"add_prefix_space": True}], ids=str)
def test_options_that_would_change_something_are_refused_by_value(case: str, option: dict[str, Any]) -> None:
    with pytest.raises(
        OptionError, match=rf"supports {next(iter(option))} only as .*got {next(iter(option.values()))!r}"
    ):
        getattr(ours, NAMES[case]).from_pretrained(GOLDEN / case, **option)


def test_their_names_of_parameters(case: str) -> None:
    pair = both(case)
    named = {"token_ids_0": [5, 6], "token_ids_1": [7]}
    kind = getattr(ours, NAMES[case])
    tokenizer = kind.from_pretrained(pretrained_model_name_or_path=GOLDEN / case)
    assert tokenizer.build_inputs_with_special_tokens(**named) == pair[0].build_inputs_with_special_tokens([5, 6], [7])
    assert tokenizer.get_special_tokens_mask(**named) == pair[0].get_special_tokens_mask([5, 6], [7])
    assert tokenizer.name_or_path == str(GOLDEN / case)
    assert isinstance(tokenizer.model_input_names, list)
    assert tokenizer.model_input_names == pair[1].model_input_names
    assert tokenizer.vocab == pair[1].vocab


def test_the_constructors_of_version_5(tmp_path: Path) -> None:
    folder, peer = GOLDEN / "hf-clip-eos2", transformers()
    lines = (folder / "merges.txt").read_text("utf-8").splitlines()[1:]
    vocab = both("hf-clip-eos2")[0].vocab
    made = [
        kind(vocab=dict(vocab), merges=[tuple(m.split(" ")) for m in lines])
        for kind in (ours.CLIPTokenizer, peer.CLIPTokenizer)
    ]
    assert_same((made[0], made[1]), STRINGS)
    assert ours.CLIPTokenizer(vocab, lines, padding_side="left").padding_side == "left"
    words = both("hf-chinese-clip")[0].vocab
    assert_same((ours.BertTokenizer(vocab=words), peer.BertTokenizer(vocab=words)), STRINGS)
    for kind in (ours.CLIPTokenizer, ours.BertTokenizer):
        with pytest.raises(InputError, match="needs a vocabulary"):
            kind()


def test_saving_takes_the_options_that_change_nothing(case: str, tmp_path: Path) -> None:
    tokenizer = both(case)[0]
    assert tokenizer.save_pretrained(tmp_path, legacy_format=False, push_to_hub=False)
    with pytest.raises(OptionError, match="push_to_hub only as False, got True"):
        tokenizer.save_pretrained(tmp_path, push_to_hub=True)


def images() -> list[PIL.Image.Image]:
    return [PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))]


KINDS = {"hf-clip-eos2": "CLIPProcessor", "hf-chinese-clip": "ChineseCLIPProcessor"}


@pytest.mark.parametrize(
    "options",
    [
        {"size": {"height": 20, "width": 20}, "do_center_crop": False},
        {"do_rescale": False, "do_normalize": False},
        {"padding_side": "left", "truncation_side": "left", "image_mean": [0.1, 0.2, 0.3]},
        {"model_max_length": 7},
    ],
    ids=str,
)
@pytest.mark.parametrize("auto", [True, False])
def test_options_of_a_processor_reach_its_part(case: str, auto: bool, options: dict[str, Any]) -> None:
    name = str(GOLDEN / case)
    processor = getattr(ours_all, "AutoProcessor" if auto else KINDS[case]).from_pretrained(name, **options)
    tokens = both(case, **{key: value for key, value in options.items() if key in SETTINGS})[1]
    got = processor(text=STRINGS[:5], images=images(), padding=True, truncation=True, return_tensors="np")
    want = tokens(STRINGS[:5], padding=True, truncation=True, return_tensors="np")
    np.testing.assert_array_equal(got["input_ids"], want["input_ids"])
    own = {key: value for key, value in options.items() if key in DEFAULTS}
    plain = AutoImageProcessor.from_pretrained(name)
    np.testing.assert_array_equal(got["pixel_values"], plain(images(), **own, return_tensors="np")["pixel_values"])


def test_parts_that_are_passed_are_used_as_they_are(case: str) -> None:
    images_part, tokenizer = AutoImageProcessor.from_pretrained(GOLDEN / case), both(case)[0]
    for kind in ("AutoProcessor", KINDS[case]):
        processor = getattr(ours_all, kind).from_pretrained(
            GOLDEN / case, image_processor=images_part, tokenizer=tokenizer
        )
        assert processor.image_processor is images_part
        assert processor.tokenizer is tokenizer


def test_an_image_processor_goes_through_its_record(tmp_path: Path) -> None:
    processor = ours_all.CLIPImageProcessor(size=20, crop_size=16)
    assert vars(ours_all.CLIPImageProcessor.from_dict(processor.to_dict())) == vars(processor)
    processor.to_json_file(tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text("utf-8")) == json.loads(processor.to_json_string())
    processor.image_mean[0] = -1
    assert ours_all.CLIPImageProcessor().image_mean[0] > 0
    whole = ours_all.CLIPProcessor(processor, both("hf-clip-eos2")[0])
    assert json.loads(whole.to_json_string())["image_processor"]["size"] == {"shortest_edge": 20}


def test_an_option_of_pixels_that_the_model_cannot_take_is_refused() -> None:
    with pytest.raises(OptionError, match="the image processor of moji has no option 'size'"):
        AutoImageProcessor.from_pretrained("moji", size=9)


def test_what_is_refused(case: str) -> None:
    tokenizer = both(case)[0]
    with pytest.raises(InputError, match="padding_side is 'up', expected 'left' or 'right'"):
        tokenizer.padding_side = "up"
    with pytest.raises(InputError, match="pad_token is '<none>', which is not in this vocabulary"):
        tokenizer.pad_token = "<none>"
    with pytest.raises(InputError, match="stride is -1"):
        tokenizer("a", stride=-1)
    with pytest.raises(InputError, match="a stride below that"):
        tokenizer("a", truncation=True, max_length=5, stride=3, return_overflowing_tokens=True)
    with pytest.raises(InputError, match="reads one text each, not pairs"):
        tokenizer("a", "b", return_overflowing_tokens=True)


def test_ids_of_texts_that_are_cleaned_before_have_no_places() -> None:
    tokenizer = AutoTokenizer.from_pretrained("moji")
    with pytest.raises(TextError, match="so ids have no places"):
        tokenizer("a cat", return_offsets_mapping=True)
    with pytest.raises(InputError, match="return_offsets_mapping is not available for SentencePieceTokenizer"):
        ours.SentencePieceTokenizer.from_pretrained(GOLDEN / "rinna-clip")("犬", return_offsets_mapping=True)
