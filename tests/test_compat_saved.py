"""Round trip of a model and its tokenizer, saved by the compat classes into one directory: ids stay the same."""

import json
from pathlib import Path

import pytest

import cjkclip
from cjkclip.compat.transformers.inputs.auto import AutoTokenizer
from cjkclip.compat.transformers.inputs.tokenizers import CLIPTokenizer
from cjkclip.compat.transformers.models.auto import AutoModel
from cjkclip.errors import CheckpointError
from families import FAMILIES
from support.peers import transformers

# transformers cannot express the rules of these cases
KEPT = ("moji", "open-clip", "open-clip-customtext", "cn-clip-rn", "cn-clip-vit")
PLAIN = ["판다", "消防车", "a photo of a cat"]
HARD = [*PLAIN, "don’t", "ＳＴＯＰ", "猫，犬", "a !", "ς Σ", 150 * "字a"]


@pytest.mark.parametrize("first", ["model", "tokenizer"])
@pytest.mark.parametrize("case", KEPT)
def test_a_model_and_its_tokenizer_saved_together_come_back(case: str, first: str, tmp_path: Path) -> None:
    row = next(row for row in FAMILIES if row.case == case)
    path = "moji" if case == "moji" else row.folder / row.weights
    tokenizer = AutoTokenizer.from_pretrained(path, facts=row.facts)
    parts = [AutoModel.from_pretrained(path, facts=row.facts), tokenizer]
    for part in parts if first == "model" else reversed(parts):
        part.save_pretrained(tmp_path)
    again, clip = AutoTokenizer.from_pretrained(tmp_path), cjkclip.load(tmp_path, engine="numpy")
    want = tokenizer(HARD)["input_ids"]
    assert again(HARD)["input_ids"] == want
    assert again.special_tokens_map == tokenizer.special_tokens_map
    assert again.model_max_length == tokenizer.model_max_length
    assert clip.tokenizer is not None
    assert clip.tokenizer.rows(HARD) == tokenizer.core.rows(HARD)
    assert type(AutoModel.from_pretrained(tmp_path)) is type(parts[0])
    peer = getattr(transformers(), type(tokenizer).__name__).from_pretrained(str(tmp_path))
    assert peer(PLAIN)["input_ids"] == tokenizer(PLAIN)["input_ids"]


def test_damaged_rules_are_refused(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained("moji")
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    for rules, words in ((3, "'cjkclip' is 3"), ({"cleaning": "openai"}, "tokenizer rules has missing fields")):
        path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"cjkclip": rules}), "utf-8")
        with pytest.raises(CheckpointError, match=words):
            CLIPTokenizer.from_pretrained(tmp_path)
