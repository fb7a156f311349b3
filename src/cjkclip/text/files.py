"""Read the parts that all tokenizer files share: texts, gzipped or not, JSON objects, special tokens."""

import gzip
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from cjkclip.errors import CheckpointError

OWN = "cjkclip"  # key in tokenizer_config.json for rules that transformers cannot express
SIDES = {"split_special_tokens": (False,), "padding_side": ("right",), "truncation_side": ("right",)}
_SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")  # transformers' names of the roles of special tokens
_MOST = 1 << 26  # bytes of a vocabulary file: OpenAI's whole merge table has 3 million
# Parsed JSON takes up to 25 times its bytes. The largest real vocabularies, XLM-R's, have 17 million bytes and a
# million values; the largest settings have some 100,000 bytes.
_MOST_SETTINGS, _MOST_PARTS = 1 << 22, 3_000_000
_VOCABULARIES = ("tokenizer.json", "vocab.json")


def read_lines(path: Path, what: str) -> list[str]:
    """Return the lines of a text file, gzipped or not; `what` describes it in the error message."""
    try:
        with path.open("rb") as file, gzip.GzipFile(fileobj=file) as unpacked:
            data = (unpacked if file.peek(2)[:2] == b"\x1f\x8b" else file).read(_MOST + 1)
        text = _bounded(path, data).decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: not a readable {what} ({error})") from error
    return text.replace("\r\n", "\n").split("\n")


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file. Raises CheckpointError if it cannot be read or is larger than any vocabulary."""
    try:
        with path.open("rb") as file:
            data = file.read(_MOST + 1)
    except OSError as error:
        raise CheckpointError(f"{path}: not readable ({error})") from error
    return _bounded(path, data)


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises CheckpointError if it is damaged, too large, or not an object."""
    try:
        most = _MOST if path.name in _VOCABULARIES else _MOST_SETTINGS
        with path.open("rb") as file:
            content = file.read(min(os.fstat(file.fileno()).st_size, most) + 1)
        parts = sum(map(content.count, (b",", b"[", b"{")))
        if len(content) > most or parts > _MOST_PARTS:
            raise CheckpointError(
                f"{path}: has more than {most:,} bytes or {_MOST_PARTS:,} values; no {path.name} is that large"
            )
        data = json.loads(content.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(data, dict):
        raise CheckpointError(f"{path}: contains a {type(data).__name__}, expected an object")
    return cast(dict[str, Any], data)


def spelling(entry: Any, folder: Path) -> str:
    """Return the spelling of a special token, which is written as a string or as a record with its `content`."""
    name = cast(dict[str, Any], entry).get("content") if isinstance(entry, dict) else entry
    if not isinstance(name, str) or not name:
        raise CheckpointError(f"{folder}: a special token is {entry!r}, expected its spelling")
    return name


def added_tokens(path: Path, data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the entries of a tokenizer.json that are outside the model's vocabulary."""
    added: Any = data.get("added_tokens") or []
    if not isinstance(added, list) or not all(
        isinstance(token, dict) and isinstance(cast(Any, token).get("content"), str) for token in cast(Any, added)
    ):
        raise CheckpointError(f"{path}: added_tokens is not a list of tokens with their content")
    return cast(list[dict[str, Any]], added)


def read_config(folder: Path) -> dict[str, Any]:
    """Merge special_tokens_map.json and tokenizer_config.json; the latter wins, and nulls are ignored."""
    config: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).exists():
            config |= {k: v for k, v in read_json(folder / name).items() if v is not None}
    return config


def require_specials(
    folder: Path, config: dict[str, Any], names: set[str], vocab: Mapping[str, int], flags: Sequence[str] = ()
) -> None:
    """Raise CheckpointError unless all special tokens of the files are in `names` with the vocabulary's ids.

    `flags` are options of an entry that change where the token matches, and so are not supported.
    """
    entries, added = _special_entries(folder, config)
    for entry in entries:
        active = [flag for flag in flags if isinstance(entry, dict) and cast(Any, entry).get(flag)]
        if spelling(entry, folder) not in names or active:
            raise CheckpointError(
                f"{folder}: the special token {spelling(entry, folder)!r} {active or ''} is not supported and would "
                f"change ids: expected {sorted(names)}, each matched as spelled"
            )
    moved = [name for name, i in added.items() if vocab.get(name) != i]
    if moved:
        raise CheckpointError(
            f"{folder}: {moved[0]!r} is added with id {added[moved[0]]}, but the vocabulary has {vocab.get(moved[0])}"
        )


def require_options(folder: Path, config: dict[str, Any], allowed: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise CheckpointError for an option of a tokenizer_config.json with a value that is not allowed."""
    wrong = [f"{key} = {config[key]!r}" for key in allowed if key in config and config[key] not in allowed[key]]
    if wrong:
        raise CheckpointError(
            f"{folder}: its tokenizer files have unsupported options that would change ids: {', '.join(wrong)}"
        )


def stated_length(config: dict[str, Any]) -> int | None:
    """Return the context length in a tokenizer_config.json; None if it has none."""
    length = config.get("model_max_length")
    # transformers writes 10**30 if no length was given
    return int(length) if isinstance(length, int | float) and 2 <= length < 10**6 else None


def stated_rules(folder: Path) -> dict[str, Any] | None:
    """Return the rules under `OWN` in a tokenizer_config.json; None if it has none."""
    path = folder / "tokenizer_config.json"
    rules: Any = read_json(path).get(OWN) if path.exists() else None
    if rules is not None and not isinstance(rules, dict):
        raise CheckpointError(f"{path}: {OWN!r} is {rules!r:.100}, expected the rules of a tokenizer")
    return cast(dict[str, Any] | None, rules)


def write_text(path: Path, text: str) -> None:
    """Write `text` and a line feed, the same bytes on every operating system."""
    path.write_text(text + "\n", "utf-8", newline="\n")


def _special_entries(folder: Path, config: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return every special token in a directory's files, and the ids of those outside the vocabulary."""
    path, whole = folder / "added_tokens.json", folder / "tokenizer.json"
    added: dict[str, Any] = read_json(path) if path.exists() else {}
    entries: list[Any] = [config[f"{role}_token"] for role in _SPECIAL if f"{role}_token" in config]
    for key in ("additional_special_tokens", "extra_special_tokens", "added_tokens_decoder"):
        entries += _listed(config.get(key, []))
    decoder = config.get("added_tokens_decoder")
    for i, entry in cast(dict[str, Any], decoder).items() if isinstance(decoder, dict) else ():
        added[spelling(entry, folder)] = int(i) if i.isdecimal() else i
    entries += [*added, *(added_tokens(whole, read_json(whole)) if whole.exists() else [])]
    return entries, added


def _listed(entries: Any) -> list[Any]:
    if isinstance(entries, dict):
        return list(cast(dict[str, Any], entries).values())
    return cast(list[Any], entries) if isinstance(entries, list) else [entries]


def _bounded(path: Path, data: bytes) -> bytes:
    if len(data) > _MOST:
        raise CheckpointError(f"{path}: has more than {_MOST:,} bytes; no vocabulary is that large")
    return data
