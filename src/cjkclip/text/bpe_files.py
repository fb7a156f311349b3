"""Read and write byte-pair vocabularies: OpenAI's merge table, and the tokenizer files of transformers.

A vocabulary maps symbols to ids; a symbol is a run of byte symbols, with '</w>' where a word ends. Merges
are in order of rank. Readers raise CheckpointError for damaged files and for other kinds of tokenizer.
"""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from cjkclip.errors import CheckpointError
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

END = "</w>"
CLIP_MERGES = 48_894  # OpenAI reads this many and ignores the rest of its file: 49,408 ids in total

Merge = tuple[str, str]

# options that CLIP does not use
_FOREIGN = ("dropout", "continuing_subword_prefix", "byte_fallback", "ignore_merges")


@dataclass(frozen=True, kw_only=True)
class Specials:
    """The special tokens of a transformers directory, as strings."""

    sot: str
    eot: str
    pad: str
    unk: str
    folded: tuple[str, ...]  # matched in any case, not only as spelled ("normalized" tokens)
    context: int | None


@functools.cache
def byte_symbols() -> tuple[str, ...]:
    """Return the 256 characters that represent bytes, in the order of their ids; `byte_of` is the inverse.

    Printable Latin-1 bytes represent themselves and come first; the others are numbered from U+0100.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return tuple(map(chr, printable)) + tuple(chr(0x100 + n) for n in range(256 - len(printable)))


@functools.cache
def byte_of() -> dict[str, int]:
    """Return the byte of each of `byte_symbols()`."""
    printable = [b for b in range(256) if chr(b) in byte_symbols()]
    rest = [b for b in range(256) if b not in printable]
    return dict(zip(byte_symbols(), printable + rest, strict=True))


def base_symbols() -> list[str]:
    """Return the 512 symbols that come before any merge: bytes, and bytes that end a word."""
    return [*byte_symbols(), *(symbol + END for symbol in byte_symbols())]


def read_merges(path: Path, *, at_most: int = CLIP_MERGES) -> list[Merge]:
    """Read the merges of OpenAI's table or of a merges.txt: one header line, then pairs; gzipped or not."""
    lines = read_lines(path, "merge table")[1 : at_most + 1]
    if lines and not lines[-1].strip():
        lines.pop()
    merges = [tuple(line.split()) for line in lines]
    bad = next((i for i, merge in enumerate(merges) if len(merge) != 2), None)
    if bad is not None or not merges:
        raise CheckpointError(
            f"{path}: line {(bad or 0) + 2} is {(lines or [''])[bad or 0][:40]!r}, "
            "expected two symbols with a space between; the first line is a header"
        )
    return cast(list[Merge], merges)


def openai_vocab(merges: Sequence[Merge], *specials: str) -> dict[str, int]:
    """Return ids in OpenAI's order: bytes, bytes that end a word, one per merge, then the special tokens."""
    symbols = [*base_symbols(), *(a + b for a, b in merges), *specials]
    vocab = {symbol: i for i, symbol in enumerate(symbols)}
    if len(vocab) != len(symbols):
        repeated = next(s for i, s in enumerate(symbols) if vocab[s] != i)
        raise CheckpointError(f"the merge table gives {repeated!r} two ids, expected each symbol once")
    return vocab


def read_vocab(folder: Path) -> tuple[dict[str, int], list[Merge]]:
    """Read vocabulary and merges of a directory, from tokenizer.json, or else vocab.json and merges.txt."""
    whole = folder / "tokenizer.json"
    if whole.exists():
        vocab, merges = _from_tokenizer_json(whole)
    elif (folder / "vocab.json").exists() and (folder / "merges.txt").exists():
        vocab = read_json(folder / "vocab.json")
        merges = read_merges(folder / "merges.txt", at_most=10**9)
    else:
        raise CheckpointError(f"{folder}: contains no tokenizer: expected tokenizer.json, or vocab.json and merges.txt")
    for symbol, i in vocab.items():
        if type(i) is not int or not 0 <= i < 2**31 or not symbol.isprintable():
            raise CheckpointError(f"{folder}: {symbol!r} with id {i!r} is not an entry of a byte-level vocabulary")
    if len(set(vocab.values())) != len(vocab):
        raise CheckpointError(f"{folder}: two symbols of the vocabulary have the same id")
    for merge in merges:
        if any(symbol not in vocab for symbol in (*merge, "".join(merge))):
            raise CheckpointError(f"{folder}: merge {merge} needs a symbol that the vocabulary does not contain")
    return vocab, merges


def read_specials(folder: Path, vocab: dict[str, int]) -> Specials:
    """Read the special tokens from tokenizer_config.json, special_tokens_map.json and tokenizer.json.

    Raises CheckpointError for a token outside the four roles: transformers gives it one id, cjkclip several.
    """
    config = read_config(folder)
    eot = spelling(config.get("eos_token", "<|endoftext|>"), folder)
    tokens = {
        "sot": spelling(config.get("bos_token", "<|startoftext|>"), folder),
        "eot": eot,
        "unk": spelling(config.get("unk_token", eot), folder),
        "pad": spelling(config.get("pad_token", eot), folder),
    }
    require_options(folder, config, SIDES)
    require_specials(folder, config, {*tokens.values()}, vocab)
    return Specials(**tokens, folded=_folded(folder, config, tokens), context=stated_length(config))


def _from_tokenizer_json(path: Path) -> tuple[dict[str, Any], list[Merge]]:
    data = read_json(path)
    model: dict[str, Any] = data["model"] if isinstance(data.get("model"), dict) else {}
    if model.get("end_of_word_suffix") != END or any(model.get(option) for option in _FOREIGN):
        raise CheckpointError(f"{path}: not a CLIP tokenizer (byte pairs, words ending in {END!r})")
    steps = json.dumps([data.get("normalizer"), data.get("pre_tokenizer")])
    if not all(f'"{step}"' in steps for step in ("NFC", "Lowercase", "Split", "ByteLevel")):
        raise CheckpointError(
            f"{path}: its normaliser and word pattern are not CLIP's: {steps[:200]}. If vocab.json and "
            "merges.txt are beside it, delete or rename it to read those"
        )
    vocab, merges = model.get("vocab"), model.get("merges")
    if not isinstance(vocab, dict) or not isinstance(merges, list):
        raise CheckpointError(f"{path}: contains no vocabulary and merges")
    added = {token["content"]: token.get("id") for token in added_tokens(path, data)}
    return {**cast(dict[str, Any], vocab), **added}, [_pair(m, path) for m in cast(list[Any], merges)]


def _pair(entry: Any, path: Path) -> Merge:
    """Return a merge; newer files contain two strings, older ones a single string with a space between."""
    match entry.split(" ") if isinstance(entry, str) else entry:
        case [str(a), str(b)]:
            return a, b
        case _:
            raise CheckpointError(f"{path}: {entry!r} is not a merge of two symbols")


def _folded(folder: Path, config: dict[str, Any], tokens: dict[str, str]) -> tuple[str, ...]:
    """Return the "normalized" special tokens, from tokenizer.json or else from the last entry of that spelling."""
    flags: dict[str, bool] = {}
    for role, key in (("sot", "bos_token"), ("eot", "eos_token"), ("unk", "unk_token"), ("pad", "pad_token")):
        entry = config.get(key)
        flags[tokens[role]] = isinstance(entry, dict) and bool(cast(Any, entry).get("normalized"))
    if (folder / "tokenizer.json").exists():
        for token in added_tokens(folder / "tokenizer.json", read_json(folder / "tokenizer.json")):
            flags[token["content"]] = bool(token.get("normalized"))
    return tuple(sorted(name for name in set(tokens.values()) if flags[name]))


def write_vocab(folder: Path, vocab: dict[str, int], merges: Sequence[Merge], *, prefix: str = "") -> tuple[Path, Path]:
    """Write vocab.json and merges.txt, with `prefix` before their names."""
    ordered = dict(sorted(vocab.items(), key=lambda item: item[1]))
    paths = folder / f"{prefix}vocab.json", folder / f"{prefix}merges.txt"
    write_text(paths[0], json.dumps(ordered, ensure_ascii=False))
    write_text(paths[1], "\n".join(["#version: 0.2", *map(" ".join, merges)]))
    return paths


def write_config(
    folder: Path, roles: dict[str, str], folded: Sequence[str], context: int, own: dict[str, Any] | None
) -> None:
    """Write tokenizer_config.json: the "bos", "eos", "pad" and "unk" tokens, the context length, our own rules."""
    record = {"__type": "AddedToken", "normalized": True} | dict.fromkeys(("lstrip", "rstrip", "single_word"), False)
    config = {
        f"{role}_token": {"content": name, **record} if name in folded else name for role, name in roles.items()
    } | {"model_max_length": context, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
    config |= {} if own is None else {OWN: own}
    write_text(folder / "tokenizer_config.json", json.dumps(config, ensure_ascii=False, indent=2))
