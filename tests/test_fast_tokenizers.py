"""tokenizer.json of RoBERTa and XLM-R: the ids of transformers, in every format that can hold it."""

import json
from pathlib import Path
from typing import Any

import pytest

import cjkclip
from cjkclip.errors import CheckpointError, TextError
from cjkclip.text.fast import Fast, FastRules
from support.dual import write
from support.fast import KINDS, TEXTS
from support.peers import transformers


def written(folder: Path, kind: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(KINDS[kind]().to_str(), "utf-8")
    record = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "model_max_length": 512}
    (folder / "tokenizer_config.json").write_text(json.dumps(record), "utf-8")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_transformers(kind: str, tmp_path: Path) -> None:
    folder = written(tmp_path, kind)
    ours, theirs = Fast.from_transformers(folder, context=16), transformers().AutoTokenizer.from_pretrained(folder)
    want = theirs(TEXTS, padding="max_length", max_length=16, truncation=True)
    got = ours(TEXTS)
    assert got.ids.tolist() == want["input_ids"]
    assert got.mask.tolist() == want["attention_mask"]
    assert got.truncated == tuple(i for i, row in enumerate(theirs(TEXTS)["input_ids"]) if len(row) > 16)
    assert ours.rows(TEXTS[:2]) == [theirs(text, add_special_tokens=False)["input_ids"] for text in TEXTS[:2]]
    assert "cat" in ours.decode(ours.rows(TEXTS[:1])[0])


@pytest.mark.parametrize("layout", ["cjkclip", "transformers"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_dual_encoder_keeps_its_tokenizer(kind: str, layout: str, tmp_path: Path) -> None:
    write(tmp_path / "model", kind, "vit", vocab=300)
    clip = cjkclip.load(written(tmp_path / "model", kind), engine="numpy")
    again = cjkclip.load(clip.save(tmp_path / "saved", layout=layout), engine="numpy")
    assert again.tokenize(TEXTS).ids.tolist() == clip.tokenize(TEXTS).ids.tolist()
    assert clip.encode_text(["cat", "犬"]).shape == (2, 20)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+b"}}}, "unsupported step 'Split'"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Digits"}]}}, "unsupported step 'Digits'"),
        ({"model": {"type": "WordLevel"}}, "its model is not one of"),
        ({"model": {"type": "BPE"}}, "damaged"),
    ],
)
def test_another_kind_of_file_is_refused(change: dict[str, Any], why: str, tmp_path: Path) -> None:
    folder = written(tmp_path, "roberta")
    whole = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(whole | change), "utf-8")
    with pytest.raises(CheckpointError, match=f"tokenizer.json: .*{why}"):
        Fast.from_transformers(folder, context=16)


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    data = (written(tmp_path, "roberta") / "tokenizer.json").read_bytes()
    with pytest.raises(CheckpointError, match="no padding token '\\[PAD\\]'"):
        Fast(data, FastRules(context=16, pad="[PAD]"))
    tokenizer = Fast(data, FastRules(context=16, pad="<pad>"))
    with pytest.raises(TextError, match="id 99999 is not in this vocabulary"):
        tokenizer.decode([99999])
    with pytest.raises(TextError, match="longer than 16 tokens"):
        tokenizer(TEXTS, truncate="error")
