"""cjkclip's own format, which loses nothing: config.json, tokenizer, and model.safetensors with canonical names.

config.json contains {"format": "cjkclip", "model": config, "tokenizer": rules, ...}.
"""

import json
from pathlib import Path
from typing import Any, cast

from cjkclip.checkpoints.formats import Checkpoint, Format, Origin, Parts
from cjkclip.checkpoints.layouts import Layout, Row
from cjkclip.config import Model
from cjkclip.errors import FactsError, WeightsError
from cjkclip.fingerprint import identity
from cjkclip.text import Tokenizer
from cjkclip.text.bpe import Bpe, BpeRules
from cjkclip.text.fast import Fast, FastRules
from cjkclip.text.unigram import Unigram, UnigramRules
from cjkclip.text.wordpiece import WordPiece, WordPieceRules

VERSION = 1
TOKENIZERS: dict[str, tuple[Any, Any]] = {
    "bpe": (Bpe, BpeRules),
    "wordpiece": (WordPiece, WordPieceRules),
    "unigram": (Unigram, UnigramRules),
    "fast": (Fast, FastRules),
}


def _record(checkpoint: Checkpoint) -> dict[str, Any]:
    whole = cast(dict[str, Any], checkpoint.json("config.json"))
    if whole.get("format") != "cjkclip" or whole.get("version") != VERSION:
        raise FactsError(
            f"{checkpoint.source}: config.json has format {whole.get('format')!r}, version {whole.get('version')!r}; "
            f"this cjkclip reads format 'cjkclip', version {VERSION}. Install a newer cjkclip if the version is higher"
        )
    return whole


def _read(checkpoint: Checkpoint) -> dict[str, Any]:
    whole = _record(checkpoint)
    if whole.get("weights") not in (None, found := identity(checkpoint.tensors)):
        raise WeightsError(
            f"{checkpoint.source}: config.json belongs to other weights ({whole['weights']}) than the file beside it "
            f"({found}): the directory mixes two models. Write it again with save() or convert; if you exchanged the "
            'weights on purpose, remove "weights" from config.json'
        )
    return cast(dict[str, Any], whole["model"])


def _origin(checkpoint: Checkpoint) -> Origin:
    whole = _record(checkpoint)
    return Origin(whole["family"], whole["release"])


def _tokenizer(checkpoint: Checkpoint, config: Model) -> Tokenizer | None:
    rules = _record(checkpoint).get("tokenizer")
    if rules is None or config.text is None:
        return None
    kind = rules.get("kind")
    if kind not in TOKENIZERS:
        raise FactsError(f"{checkpoint.source}: tokenizer.kind is {kind!r}, expected one of {sorted(TOKENIZERS)}")
    tokenizer, record = TOKENIZERS[kind]
    return tokenizer.load(checkpoint.folder, record.from_dict({k: v for k, v in rules.items() if k != "kind"}))


def _write(parts: Parts, folder: Path) -> None:
    rules: dict[str, Any] | None = None
    tokenizer: Any = parts.tokenizer
    if tokenizer is not None:
        tokenizer.save(folder)
        kind = next(kind for kind, (known, _) in TOKENIZERS.items() if isinstance(tokenizer, known))
        rules = {"kind": kind} | tokenizer.rules.to_dict()
    whole = {"format": "cjkclip", "version": VERSION, "family": parts.family, "release": parts.release}
    whole |= {"model": parts.config.to_dict(), "tokenizer": rules, "weights": parts.identity}
    (folder / "config.json").write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", "utf-8")


NATIVE = tuple(
    Format(
        layout=Layout(
            name="cjkclip",
            rows=(Row("logit_scale", "logit_scale"), Row("vision.{n}", "vision.{n}"), Row("text.{n}", "text.{n}")),
            marks=(mark,),
            harmless=(),
        ),
        read=_read,
        tokenizer=_tokenizer,
        origin=_origin,
        write=_write,
    )
    for mark in (
        "text.token.weight",
        "vision.patch.weight",
        "vision.stem1.conv.weight",
    )  # one mark per kind of tower, since a tower may be missing
)
