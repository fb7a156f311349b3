"""sentencepiece's tokenizer as rinna's Japanese models use it: spiece.model, lower-cased texts, [CLS] in front.

The pieces are matched by the sentencepiece library; what a family adds to it stands in `UnigramRules`, as data.
Refuses: damaged models (the library checks them when it reads them), models without the special tokens that the
rules name.
"""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

from cjkclip.errors import CheckpointError, FactsError, TextError
from cjkclip.need import need
from cjkclip.text import Tokens, Truncate, check_texts, pack
from cjkclip.text.files import read_bytes, write_text

_FILE = "spiece.model"


@dataclass(frozen=True, kw_only=True)
class UnigramRules:
    """How a family turns a text into ids. Special tokens are given as spelled: the model has the ids."""

    context: int  # length of a row, the start counted
    lower: bool  # letter by letter: a word-final sigma becomes the common one (σ)
    cls: str | None  # stands in front
    pad: str
    specials: tuple[str, ...]  # a text may spell them, also by letters that are lower-cased to them (<S>)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `from_dict` reads it back."""
        return asdict(self) | {"specials": list(self.specials)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "UnigramRules":
        """Read what `to_dict` wrote. Raises FactsError on a missing, unknown or unfit field."""
        known = {f.name for f in fields(cls)}
        if known != set(data):
            raise FactsError(f"tokenizer rules lack {sorted(known - set(data))}, unknown: {sorted(set(data) - known)}")
        specials = cast(list[Any], data["specials"] if isinstance(data["specials"], list | tuple) else [None])
        fits = {
            "context": type(data["context"]) is int and data["context"] >= 2,
            "lower": isinstance(data["lower"], bool),
            "cls": data["cls"] is None or isinstance(data["cls"], str),
            "pad": isinstance(data["pad"], str),
            "specials": all(isinstance(name, str) and name for name in specials),
        }
        if not all(fits.values()):
            raise FactsError(f"tokenizer rules: {[f'{k}: {data[k]!r}' for k, fit in fits.items() if not fit]} unfit")
        record: dict[str, Any] = {**data, "specials": tuple(specials)}
        return cls(**record)


RINNA = UnigramRules(
    context=77,
    lower=True,
    cls="[CLS]",
    pad="[PAD]",
    specials=("<s>", "</s>", "<unk>", "[PAD]", "[CLS]", "[SEP]", "[MASK]"),
)


class Unigram:
    """A sentencepiece model and the rules to apply it. Calling it gives `Tokens`.

    `cls` (None if nothing stands in front) and `pad` are ids.
    """

    def __init__(self, model: bytes, rules: UnigramRules) -> None:
        """The bytes of a spiece.model. Raises CheckpointError if it is damaged or lacks a special token."""
        self.rules = rules
        self.model = model
        self.context = rules.context
        self._pieces, self._processor = _read(model)
        self.vocab = {piece: i for i, piece in enumerate(self._pieces)}
        self.vocab_size = len(self._pieces)
        named = (*rules.specials, rules.pad) if rules.cls is None else (*rules.specials, rules.pad, rules.cls)
        self._ids = {name: self._processor.piece_to_id(name) for name in named}
        self.pad = self._ids[rules.pad]
        self.cls = None if rules.cls is None else self._ids[rules.cls]
        missing = [name for name, i in self._ids.items() if self._pieces[i] != name]
        if missing:
            raise CheckpointError(f"the model of {self.vocab_size} pieces does not hold the special {missing[0]!r}")

    @classmethod
    def from_file(cls, path: Path, rules: UnigramRules) -> "Unigram":
        """Read a spiece.model."""
        data = read_bytes(path)
        try:
            return cls(data, rules)
        except CheckpointError as error:
            raise CheckpointError(f"{path}: {error}") from error

    @classmethod
    def load(cls, folder: Path, rules: UnigramRules) -> "Unigram":
        """Read what `save` wrote."""
        return cls.from_file(folder / _FILE, rules)

    def under(self, rules: UnigramRules) -> "Unigram":
        """The same model under other rules."""
        return Unigram(self.model, rules)

    def __call__(self, texts: Sequence[str], *, truncate: Truncate = "cut", context: int | None = None) -> Tokens:
        """Ids of n texts as `Tokens` of length `context` (None: the rules'): [CLS], the text, padding; no end token.

        Raises TextError if a text is not a valid string, or, with truncate="error", is too long.
        """
        front = [] if self.cls is None else [self.cls]
        rows = [[*front, *row] for row in self.rows(texts)]
        return pack(rows, context=context or self.context, pad=self.pad, truncate=truncate, ends=False)

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of texts without what stands in front, uncut. Raises TextError if one is not a valid string."""
        return [self._row(text) for text in check_texts(texts)]

    @property
    def roles(self) -> dict[str, str]:
        """The special tokens by what they are for, as transformers calls it."""
        roles = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "sep": "[SEP]", "mask": "[MASK]"}
        roles |= {"pad": self.rules.pad} | ({} if self.rules.cls is None else {"cls": self.rules.cls})
        return {role: name for role, name in roles.items() if name in self._ids}

    def decode(self, ids: Sequence[int]) -> str:
        """The normalised text of `ids`; special tokens, the one for the unknown too, appear as spelled."""
        unknown = [i for i in ids if not 0 <= i < self.vocab_size]
        if unknown:
            raise TextError(f"id {unknown[0]} is not in this model of {self.vocab_size} ids")
        return "".join(self._pieces[i] for i in ids).replace("\u2581", " ").strip()

    def save(self, folder: Path) -> None:
        """Write spiece.model, the bytes that were read; `load` reads it together with the rules."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FILE).write_bytes(self.model)

    def save_transformers(self, folder: Path, *, keep: bool = False) -> None:
        """Write what rinna's package reads: spiece.model, tokenizer_config.json and special_tokens_map.json.

        transformers 4 reads them as a slow T5Tokenizer; transformers 5 ignores do_lower_case. There is nothing more to
        `keep`.
        """
        del keep
        self.save(folder)
        named = {f"{role}_token": name for role, name in self.roles.items()}
        config = {"do_lower_case": self.rules.lower, "extra_ids": 0, "tokenizer_class": "T5Tokenizer"}
        write_text(folder / "tokenizer_config.json", json.dumps(named | config, indent=2))
        write_text(folder / "special_tokens_map.json", json.dumps(named, indent=2))

    def _row(self, text: str) -> list[int]:
        """Ids of a text. Whatever stands between two special tokens is a text of its own for sentencepiece."""
        if self._spelled is None:
            return self._processor.encode(_lowered(text) if self.rules.lower else text)
        if self.rules.lower:
            parts = self._spelled.split(text)
            text = "".join(part if part in self.rules.specials else _lowered(part) for part in parts)
        row: list[int] = []
        for part in self._spelled.split(text):
            row += [self._ids[part]] if part in self.rules.specials else self._processor.encode(part)
        return row

    @functools.cached_property
    def _spelled(self) -> re.Pattern[str] | None:
        """Finds the special tokens in a text, the longest first; splitting keeps them."""
        names = sorted(self.rules.specials, key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, names))})") if names else None


def _lowered(text: str) -> str:
    """Lower case letter by letter. Only the sigma depends on its neighbours."""
    return text.replace("Σ", "σ").lower()


def _read(model: bytes) -> tuple[list[str], Any]:
    """The pieces of a model, and the library's object that applies it."""
    library: Any = need("sentencepiece", extra="rinna")
    if not model:  # the library takes it, and complains later
        raise CheckpointError("a sentencepiece model of no bytes")
    try:
        processor = library.SentencePieceProcessor(model_proto=model)
        pieces: list[str] = processor.id_to_piece(list(range(processor.get_piece_size())))
    except (RuntimeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"not a readable sentencepiece model ({error})") from error
    return pieces, processor
