"""Read and write WordPiece vocabularies: BERT's vocab.txt, and transformers' slow and fast tokenizer files.

A vocabulary maps pieces to ids; a piece that continues a word begins with "##". Readers raise CheckpointError for
damaged files, other kinds of tokenizer, and unsupported options that would change ids.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from cjkclip.errors import CheckpointError, FactsError
from cjkclip.text.files import (
    OWN,
    SIDES,
    added_tokens,
    read_config,
    read_json,
    read_lines,
    require_options,
    require_specials,
    spelling,
    stated_length,
    write_text,
)
from cjkclip.text.wordpiece_rules import HF, WordPieceRules

ROLES = ("cls", "sep", "pad", "unk", "mask")

_ONLY: dict[str, tuple[Any, ...]] = {
    "do_basic_tokenize": (True,),
    "tokenize_chinese_chars": (True,),
    "never_split": ([],),
    **SIDES,
    "tokenizer_class": ("BertTokenizer", "BertTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend"),
}  # options of tokenizer_config.json that change ids, with their supported values (or null)
_FLAGS = ("lstrip", "rstrip", "single_word", "normalized")  # each changes where a special token matches


def read_vocab_txt(path: Path) -> dict[str, int]:
    """Read BERT's vocabulary: one piece per line, whose number, from 0, is the id. Gzipped or not."""
    lines = [line.strip(" \t") for line in read_lines(path, "vocabulary")]
    while lines and not lines[-1]:
        lines.pop()
    vocab = {piece: i for i, piece in enumerate(lines)}
    if len(vocab) != len(lines) or "" in vocab or not vocab:
        bad = next((i for i, piece in enumerate(lines) if not piece or vocab[piece] != i), 0)
        what = repr((lines or [""])[bad][:40])
        raise CheckpointError(f"{path}: line {bad + 1} is {what}, expected one piece per line, and each piece once")
    return vocab


def read_vocab(folder: Path) -> dict[str, int]:
    """Read the vocabulary of a directory from tokenizer.json, or else vocab.txt."""
    path = folder / "tokenizer.json"
    if path.exists():
        return _vocab(path, read_json(path))
    if (folder / "vocab.txt").exists():
        return read_vocab_txt(folder / "vocab.txt")
    raise CheckpointError(f"{folder}: contains no tokenizer: expected tokenizer.json, or vocab.txt")


def read_transformers(folder: Path, context: int | None) -> tuple[dict[str, int], WordPieceRules]:
    """Read vocabulary and rules of a transformers directory; missing options have BertTokenizer's defaults.

    Raises FactsError if the files do not state the context length.
    """
    config = read_config(folder)
    tokens = {role: spelling(config.get(f"{role}_token", getattr(HF, role)), folder) for role in ROLES}
    vocab, path = read_vocab(folder), folder / "tokenizer.json"
    whole = read_json(path) if path.exists() else {}
    lower: Any = config.get("do_lower_case", True)
    if whole and not (folder / "tokenizer_config.json").exists():
        lower = _part(whole, "normalizer").get("lowercase")
    if not isinstance(lower, bool):
        raise CheckpointError(f"{folder}: do_lower_case is {lower!r}, expected true or false")
    require_options(folder, config, _ONLY | {"strip_accents": (lower,)})
    require_specials(folder, config, set(tokens.values()), vocab, _FLAGS)
    stated = stated_length(config)
    if context is None and stated is None:
        raise FactsError(
            f"{folder}: tokenizer_config.json has no valid model_max_length: pass the context length, "
            "for example context=52"
        )
    rules = replace(HF, context=context or stated, lower=lower, **tokens)
    if whole:
        _check_steps(path, whole, rules, vocab)
    return vocab, rules


def write_transformers(folder: Path, vocab: Mapping[str, int], rules: WordPieceRules, *, own: bool = False) -> None:
    """Write vocab.txt, special_tokens_map.json and tokenizer_config.json, which contains the rules if `own`."""
    write_vocab(folder, vocab)
    tokens = {f"{role}_token": getattr(rules, role) for role in ROLES if getattr(rules, role) is not None}
    write_text(folder / "special_tokens_map.json", json.dumps(tokens, ensure_ascii=False, indent=2))
    config: dict[str, Any] = {"do_lower_case": rules.lower, "model_max_length": rules.context}
    config |= {"strip_accents": None, "tokenize_chinese_chars": True, "tokenizer_class": "BertTokenizer"}
    config |= {OWN: rules.to_dict()} if own else {}
    write_text(folder / "tokenizer_config.json", json.dumps(config | tokens, ensure_ascii=False, indent=2))


def write_vocab(folder: Path, vocab: Mapping[str, int], *, prefix: str = "") -> Path:
    """Write vocab.txt, with `prefix` before its name. Raises CheckpointError if a piece cannot be a line."""
    pieces = sorted(vocab, key=lambda piece: vocab[piece])
    invalid = [p for i, p in enumerate(pieces) if vocab[p] != i or not p or p != p.strip(" \t") or {*p} & {*"\r\n"}]
    if invalid:
        where = f"{invalid[0]!r} with id {vocab[invalid[0]]}"
        raise CheckpointError(
            f"vocab.txt cannot contain {where}: ids must be 0, 1, 2, ..., and pieces must have no line break and no "
            "white space around them"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{prefix}vocab.txt", "\n".join(pieces))
    return folder / f"{prefix}vocab.txt"


def _vocab(path: Path, data: dict[str, Any]) -> dict[str, int]:
    model = _part(data, "model")
    if model.get("type", "WordPiece") != "WordPiece" or model.get("continuing_subword_prefix") != "##":
        raise CheckpointError(f"{path}: not a BERT tokenizer (word pieces that continue with '##')")
    vocab: Any = model.get("vocab")
    if not isinstance(vocab, dict):
        raise CheckpointError(f"{path}: contains no vocabulary")
    whole: dict[str, Any] = cast(dict[str, Any], vocab) | {t["content"]: t.get("id") for t in added_tokens(path, data)}
    for piece, i in whole.items():
        if type(i) is not int or not 0 <= i < 2**31 or any("\ud800" <= c <= "\udfff" for c in piece):
            raise CheckpointError(f"{path}: {piece!r} with id {i!r} is not an entry of a vocabulary")
    if len(set(whole.values())) != len(whole):
        raise CheckpointError(f"{path}: two pieces of the vocabulary have the same id")
    return whole


def _check_steps(path: Path, data: dict[str, Any], rules: WordPieceRules, vocab: dict[str, int]) -> None:
    """Raise CheckpointError unless the steps in a tokenizer.json are those of BertTokenizer."""
    normalizer, post, model = (_part(data, name) for name in ("normalizer", "post_processor", "model"))
    cls, sep = ({"SpecialToken": {"id": name, "type_id": 0}} for name in (rules.cls, rules.sep))
    ends = [[name, vocab.get(name)] for name in (rules.cls, rules.sep)]
    fits = {
        "normalizer": normalizer.get("type") == "BertNormalizer"
        and normalizer.get("clean_text") is True
        and normalizer.get("handle_chinese_chars") is True
        and normalizer.get("strip_accents") in (None, rules.lower)
        and normalizer.get("lowercase") is rules.lower,
        "pre_tokenizer": _part(data, "pre_tokenizer").get("type") == "BertPreTokenizer",
        "post_processor": [post.get("cls"), post.get("sep")] == ends
        or post.get("single") == [cls, {"Sequence": {"id": "A", "type_id": 0}}, sep],
        "unk_token": model.get("unk_token") == rules.unk,
        "max_input_chars_per_word": model.get("max_input_chars_per_word", rules.max_chars) == rules.max_chars,
        "truncation": _part(data, "truncation").get("direction", "Right") == "Right",
        "padding": _part(data, "padding").get("direction", "Right") == "Right",
    }
    if not all(fits.values()):
        raise CheckpointError(
            f"{path}: {[name for name, fit in fits.items() if not fit]} differ from BertTokenizer with "
            f"do_lower_case={rules.lower}. If vocab.txt is beside it, delete or rename it to read that"
        )


def _part(data: dict[str, Any], name: str) -> dict[str, Any]:
    part = data.get(name)
    return cast(dict[str, Any], part) if isinstance(part, dict) else {}
