"""rinna's tokenizer gives the ids of rinna's package. Golden ids: tests/golden/tokens/tokens.json."""

import json
import pickle
import struct
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cjkclip.errors import CheckpointError, FactsError, TextError
from cjkclip.text.unigram import RINNA, Unigram, UnigramRules
from families import GOLDEN
from support.processes import printed
from support.tokens import RECORD, STRINGS, rows

CASES = ("rinna-clip", "rinna-clip-bert", "rinna-cloob")
RAW = replace(RINNA, cls=None, specials=(), context=700)  # sentencepiece alone, but for the lower case


def toy(rules: UnigramRules = RINNA, case: str = "rinna-clip") -> Unigram:
    return Unigram.from_file(GOLDEN / case / "spiece.model", rules)


@pytest.mark.parametrize(("kind", "rules"), [("unigram_rinna", RINNA), ("unigram_sentencepiece", RAW)])
def test_ids_are_the_published_ones(kind: str, rules: UnigramRules) -> None:
    found = rows(toy(rules), STRINGS)
    for text, ours, theirs in zip(STRINGS, found, RECORD["kinds"][kind]["rows"], strict=True):
        assert ours == theirs, text


@pytest.mark.parametrize("case", CASES)
def test_toy_models_give_the_ids_of_their_package(case: str) -> None:
    texts = json.loads((GOLDEN / case / "inputs.json").read_text("utf-8"))["texts"]
    tokens = toy(case=case)(texts)
    with np.load(GOLDEN / case / "expected.npz") as expected:
        assert tokens.ids.tolist() == expected["input_ids"].tolist()
        assert tokens.mask.tolist() == expected["attention_mask"].tolist()
        # positions count from 0 in every row, padding included: no part of Tokens
        assert expected["position_ids"].tolist() == [list(range(77))] * len(texts)
    assert tokens.truncated == (3,)


def test_rows_are_padded_and_the_cut_ones_are_listed() -> None:
    tokens = toy()(STRINGS)
    assert tokens.ids.dtype == tokens.mask.dtype == np.int64
    assert tokens.ids.shape == tokens.mask.shape == (len(STRINGS), 77)
    assert (tokens.ids[:, 0] == 4).all()
    assert (tokens.ids[tokens.mask == 0] == 3).all()
    assert (np.sort(tokens.mask)[:, ::-1] == tokens.mask).all()  # all ones, then all zeros
    cut = list(tokens.truncated)
    assert {84, 103, 107} < set(cut)
    whole = rows(toy(replace(RINNA, context=700)), STRINGS)
    assert cut == [i for i, row in enumerate(whole) if len(row) > 77]
    assert [tokens.ids[i].tolist() for i in cut] == [whole[i][:77] for i in cut]  # no end token is kept
    with pytest.raises(TextError, match=rf"{len(cut)} of 116 texts .*77 tokens.* text 84 has \d+"):
        toy()(STRINGS, truncate="error")


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("a[MASK]b", [11, 6, 82]),
        ("a [MASK] b", [11, 6, 82]),
        ("  [MASK]  ", [6]),
        ("[MASK][MASK]", [6, 6]),
        ("[MA[MASK]SK]", [8, 0, 60, 20, 6, 30, 61, 0]),
        ("[mask]", [8, 0, 60, 20, 10, 61, 0]),
        ("［ＭＡＳＫ］", [8, 0, 60, 20, 10, 61, 0]),
        ("<s>a</s>", [1, 11, 2]),
        ("<<s>>", [8, 0, 1, 8, 0]),
        ("<S>[CLS]</S>x", [1, 4, 2, 8, 236]),  # lower-casing makes them special
        ("＜ｓ＞", [8, 0, 10, 0]),
        ("<unk>", [0]),
        ("[PAD]x", [3, 8, 236]),
        ("a▁b", [11, 82]),
        ("İ", [21, 0]),
    ],
)
def test_specials_in_a_text(text: str, ids: list[int]) -> None:
    """Ids taken from transformers 4.57.6's slow T5Tokenizer with do_lower_case, as rinna's package runs it."""
    assert rows(toy(), [text]) == [[4, *ids]]


def test_decode_gives_the_normalised_text_back() -> None:
    tokenizer = toy()
    assert tokenizer.decode(rows(tokenizer, ["ＦＵＬＬ 白い犬 [MASK] の写真"])[0]) == "[CLS] full 白い犬[MASK] の写真"
    assert tokenizer.decode(rows(tokenizer, ["한국Ω"])[0]) == "[CLS] 한<unk>"
    assert tokenizer.decode([]) == ""
    for bad in (406, -1):
        with pytest.raises(TextError, match=f"id {bad} is not in this model of 406 ids"):
            tokenizer.decode([11, bad])


def test_a_model_is_saved_as_it_was_read(tmp_path: Path) -> None:
    toy().save(tmp_path / "new" / "folder")
    assert [file.name for file in (tmp_path / "new" / "folder").iterdir()] == ["spiece.model"]
    again = Unigram.load(tmp_path / "new" / "folder", RINNA)
    assert again.model == (GOLDEN / "rinna-clip" / "spiece.model").read_bytes()
    assert (again(STRINGS).ids == toy()(STRINGS).ids).all()


def test_rinnas_folder_is_written_as_rinna_does(tmp_path: Path) -> None:
    toy().save_transformers(tmp_path)
    published = GOLDEN / "rinna-clip"
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        ours, theirs = (json.loads((folder / name).read_text("utf-8")) for folder in (tmp_path, published))
        assert ours == {**{key: theirs[key] for key in ours}, **({"do_lower_case": True} if "config" in name else {})}
        assert {key for key in theirs if key.endswith("_token")} == {key for key in ours if key.endswith("_token")}
    assert (tmp_path / "spiece.model").read_bytes() == (published / "spiece.model").read_bytes()


# ---- models made by hand: a sentencepiece model is a protobuf message


def field(number: int, data: bytes) -> bytes:
    size = len(data)
    return bytes([number << 3 | 2, *([size] if size < 128 else [size & 127 | 128, size >> 7])]) + data


def piece(name: str | bytes, kind: int = 1, score: float = -1.0) -> bytes:
    spelled = name if isinstance(name, bytes) else name.encode()
    return field(1, field(1, spelled) + b"\x15" + struct.pack("<f", score) + bytes([3 << 3, kind]))


SPECIALS = piece("<unk>", 2) + b"".join(piece(name, 3) for name in RINNA.specials if name != "<unk>")
LETTERS = b"".join(piece(name) for name in ("▁", "α", "σ", "ς", "ο"))


def test_a_final_sigma_is_the_common_one() -> None:
    """transformers 4 lower-cases letter by letter too."""
    made = Unigram(SPECIALS + LETTERS, RINNA)
    assert made.decode(rows(made, ["ΑΣ ΟΣ"])[0]) == "[CLS] ασ οσ"
    assert made.decode(rows(made, ["ας"])[0]) == "[CLS] ας"
    assert made.decode(rows(made.__class__(made.model, replace(RINNA, lower=False)), ["ας Α"])[0]) == "[CLS] ας <unk>"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (b"", "is empty"),
        (b"\xff" * 100, "not a readable sentencepiece model"),
        (b"hello world", "not a readable sentencepiece model"),
        (LETTERS, "not a readable sentencepiece model"),  # no <unk>
        (SPECIALS + LETTERS + piece("σ"), "not a readable sentencepiece model"),  # twice
        (SPECIALS + LETTERS + piece(b"\xff\xfe"), "not a readable sentencepiece model"),
        (SPECIALS + LETTERS + piece("a", score=float("nan")), "not a readable sentencepiece model"),
        (SPECIALS + LETTERS + field(3, field(2, b"\x00\x04\x00\x00" + b"\xff" * 1025)), "not a readable"),
        (SPECIALS.replace(b"[MASK]", b"[MUSK]") + LETTERS, r"12 pieces does not contain the special token '\[MASK\]'"),
    ],
)
def test_damaged_models_are_refused(model: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(model)
    with pytest.raises(CheckpointError, match=rf"spiece\.model: .*{message}"):
        Unigram.load(tmp_path, RINNA)


def test_folders_without_a_model_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        Unigram.load(tmp_path, RINNA)


BREAK = """
import random, sys
from pathlib import Path
from cjkclip.errors import CheckpointError
from cjkclip.text.unigram import RINNA, Unigram

blocks = ((0x20, 0x600), (0x1E00, 0x3400), (0xF900, 0xFFF0), (0x1D400, 0x1D800))
texts = ["白い犬の写真ＡＢＣ ㍿①ﬁ", *("".join(map(chr, range(*block))) for block in blocks)]
refused = 0
for seed in range(400):
    turn = random.Random(seed)
    data = bytearray(Path(sys.argv[1 + seed % 2]).read_bytes())
    for _ in range(turn.choice([1, 2, 4, 8, 50])):
        data[turn.randrange(min(len(data), turn.choice([9_000, 10**6, 10**6])))] = turn.randrange(256)
    if seed % 8 == 0:
        data = data[: turn.randrange(len(data))]
    try:
        tokenizer = Unigram(bytes(data), RINNA)
        tokenizer.decode(tokenizer(texts).ids[0].tolist())
    except CheckpointError:
        refused += 1
print(refused)
"""


def test_no_damage_ends_the_process() -> None:
    """400 damaged models, in a process of their own. sentencepiece before 0.2.3 reads outside its memory here."""
    files = [str(GOLDEN / case / "spiece.model") for case in ("rinna-clip", "rinna-cloob")]
    assert 100 < int(printed("-c", BREAK, *files)) < 400


# ---- the rest of the contract


def test_rules_are_plain_data() -> None:
    for rules in (RINNA, RAW):
        assert UnigramRules.from_dict(json.loads(json.dumps(rules.to_dict()))) == rules
    good = RINNA.to_dict()
    odd = ({"context": 1}, {"lower": 1}, {"cls": 3}, {"pad": None}, {"specials": "<s>"}, {"specials": [""]}, {"x": 1})
    for bad in (*({**good, **change} for change in odd), {}):
        with pytest.raises(FactsError, match="tokenizer rules"):
            UnigramRules.from_dict(bad)


def test_texts_are_checked() -> None:
    with pytest.raises(TextError, match=r"pass \[text\]"):
        toy()("猫")
    with pytest.raises(TextError, match=r"text 1 .*lone surrogate"):
        toy()(["ok", "bad\ud83d"])
    assert toy()([]).ids.shape == (0, 77)


def test_long_queries_are_fast_and_reported() -> None:
    tokenizer = toy()
    tokenizer(["warm up"])
    for text in ("漢字かな交じり文。" * 1112, "“é”" * 3334, "x" * 10_000, "[MASK]" * 1700, "㍿" * 10_000):
        start = time.thread_time()
        tokens = tokenizer([text])
        assert time.thread_time() - start < 0.5  # some 5 ms on a free core
        assert tokens.truncated == (0,)


def test_a_tokenizer_can_be_sent_to_another_process() -> None:
    used = toy()
    used(["used"])
    assert (pickle.loads(pickle.dumps(used))(STRINGS).ids == used(STRINGS).ids).all()


def test_importing_is_cheap() -> None:
    code = (
        "import sys, cjkclip.text.unigram; print(sorted({'sentencepiece', 'transformers', 'torch'} & set(sys.modules)))"
    )
    assert printed("-c", code).strip() == "[]"
