"""sentencepiece's tokenizer by the rules of rinna's Japanese models: lower-cased texts, [CLS] first.

The sentencepiece library matches the pieces; `UnigramRules` contains the additions of a family as data.
"""

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cjkclip import records
from cjkclip.errors import CheckpointError, TextError
from cjkclip.need import need
from cjkclip.records import Limit
from cjkclip.text import Tokens, Truncate, check_texts, pack
from cjkclip.text.beginnings import longest, rows_of
from cjkclip.text.files import read_bytes, write_text

_FILE = "spiece.model"
Name = Annotated[str, Limit("other than", "")]


@dataclass(frozen=True, kw_only=True)
class UnigramRules:
    """Rules that turn a text into ids. Special tokens are given as strings: the model has their ids."""

    context: Annotated[int, Limit("at least", 2)]  # length of a row, including the start
    lower: bool  # character by character: a word-final sigma becomes the common one (σ)
    cls: str | None  # first token of a row
    pad: str
    specials: tuple[Name, ...]  # a text may spell them, also in letters that lower-case to them (<S>)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; `from_dict` reads it."""
        return asdict(self) | {"specials": list(self.specials)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "UnigramRules":
        """Read data of `to_dict`. Raises FactsError for a field that is missing, unknown or does not fit."""
        return records.read(cls, data, "tokenizer rules")


RINNA = UnigramRules(
    context=77,
    lower=True,
    cls="[CLS]",
    pad="[PAD]",
    specials=("<s>", "</s>", "<unk>", "[PAD]", "[CLS]", "[SEP]", "[MASK]"),
)


class Unigram:
    """A sentencepiece model and the rules to apply it. Calling it returns `Tokens`.

    `cls` (None if rows have no first token) and `pad` are ids.
    """

    def __init__(self, model: bytes, rules: UnigramRules) -> None:
        """Take the bytes of a spiece.model. Raises CheckpointError if it is damaged or lacks a special token."""
        self.rules = rules
        self.model = model
        self.context = rules.context
        self._pieces, self._processor = _read(model)
        self.vocab = {piece: i for i, piece in enumerate(self._pieces)}
        self.vocab_size = len(self._pieces)
        tokens = (*rules.specials, rules.pad) if rules.cls is None else (*rules.specials, rules.pad, rules.cls)
        self._ids = {name: self._processor.piece_to_id(name) for name in tokens}
        self.pad = self._ids[rules.pad]
        self.cls = None if rules.cls is None else self._ids[rules.cls]
        missing = [name for name, i in self._ids.items() if self._pieces[i] != name]
        if missing:
            raise CheckpointError(
                f"the model of {self.vocab_size} pieces does not contain the special token {missing[0]!r}: "
                "use rules whose special tokens it contains"
            )

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
        """Read the file that `save` writes."""
        return cls.from_file(folder / _FILE, rules)

    def under(self, rules: UnigramRules) -> "Unigram":
        """Return the same model with other rules."""
        return Unigram(self.model, rules)

    def __call__(self, texts: Sequence[str], *, truncate: Truncate = "cut", context: int | None = None) -> Tokens:
        """Return ids of n texts as `Tokens` of length `context` (None: the rules'): [CLS], text, padding; no end token.

        Raises TextError if a text is not a valid string, or, with truncate="error", is too long.
        """
        front = [] if self.cls is None else [self.cls]
        context = context or self.context
        rows = [[*front, *row] for row in rows_of(check_texts(texts), self.rows, context, self._longest)]
        return pack(rows, context=context, pad=self.pad, truncate=truncate, ends=False)

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Return ids of texts without the first token, uncut. Raises TextError if one is not a valid string."""
        return [self._row(text) for text in check_texts(texts)]

    @property
    def roles(self) -> dict[str, str]:
        """The special tokens by the names that transformers gives their roles."""
        roles = {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "sep": "[SEP]", "mask": "[MASK]"}
        roles |= {"pad": self.rules.pad} | ({} if self.rules.cls is None else {"cls": self.rules.cls})
        return {role: name for role, name in roles.items() if name in self._ids}

    def decode(self, ids: Sequence[int]) -> str:
        """Return the normalised text of `ids`; special tokens and the unknown token appear as spelled."""
        unknown = [i for i in ids if not 0 <= i < self.vocab_size]
        if unknown:
            raise TextError(f"id {unknown[0]} is not in this model of {self.vocab_size} ids: use ids of this tokenizer")
        return "".join(self._pieces[i] for i in ids).replace("\u2581", " ").strip()

    def save(self, folder: Path) -> None:
        """Write spiece.model with its original bytes; `load` reads it together with the rules."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FILE).write_bytes(self.model)

    def save_transformers(self, folder: Path, *, keep: bool = False) -> None:
        """Write the files of rinna's package: spiece.model, tokenizer_config.json and special_tokens_map.json.

        transformers 4 reads them as a slow T5Tokenizer; transformers 5 ignores do_lower_case.
        `keep` changes nothing.
        """
        del keep
        self.save(folder)
        tokens = {f"{role}_token": name for role, name in self.roles.items()}
        config = {"do_lower_case": self.rules.lower, "extra_ids": 0, "tokenizer_class": "T5Tokenizer"}
        write_text(folder / "tokenizer_config.json", json.dumps(tokens | config, indent=2))
        write_text(folder / "special_tokens_map.json", json.dumps(tokens, indent=2))

    def _row(self, text: str) -> list[int]:
        """Return ids of a text. sentencepiece encodes the parts between special tokens separately."""
        if self._special_pattern is None:
            return self._processor.encode(_lower(text) if self.rules.lower else text)
        if self.rules.lower:
            parts = self._special_pattern.split(text)
            text = "".join(part if part in self.rules.specials else _lower(part) for part in parts)
        row: list[int] = []
        for part in self._special_pattern.split(text):
            row += [self._ids[part]] if part in self.rules.specials else self._processor.encode(part)
        return row

    @functools.cached_property
    def _longest(self) -> int:
        return longest(self._pieces)

    @functools.cached_property
    def _special_pattern(self) -> re.Pattern[str] | None:
        """A pattern that matches special tokens, the longest first; splitting by it keeps them."""
        names = sorted(self.rules.specials, key=len, reverse=True)
        return re.compile(f"({'|'.join(map(re.escape, names))})") if names else None


def _lower(text: str) -> str:
    """Return lower case, character by character. Only the sigma depends on its neighbours."""
    return text.replace("Σ", "σ").lower()


def _read(model: bytes) -> tuple[list[str], Any]:
    """Return the pieces of a model, and the sentencepiece object that applies it."""
    library: Any = need("sentencepiece", extra="rinna")
    if not model:  # the library accepts it and fails later
        raise CheckpointError("the sentencepiece model is empty")
    try:
        processor = library.SentencePieceProcessor(model_proto=model)
        pieces: list[str] = processor.id_to_piece(list(range(processor.get_piece_size())))
    except (RuntimeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"not a readable sentencepiece model ({error})") from error
    return pieces, processor
