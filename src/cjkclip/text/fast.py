"""transformers' tokenizer.json of RoBERTa and XLM-R: a byte-pair or unigram model that the tokenizers library applies.

The file is checked for the parts that these two have, and kept byte for byte.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, cast

from cjkclip import records
from cjkclip.errors import CheckpointError, TextError
from cjkclip.records import Limit
from cjkclip.text import Tokens, Truncate, check_texts, pack
from cjkclip.text.beginnings import longest, rows_of
from cjkclip.text.files import read_bytes, read_config, spelling, write_text

FILE = "tokenizer.json"
MODELS = ("BPE", "Unigram")
# The steps that RoBERTa's and XLM-R's files have. Others, as a Split with its own pattern, could run without end.
STEPS = {
    "normalizer": ("Precompiled", "Sequence", "Replace", "Strip", "NFC", "NFKC"),
    "pre_tokenizer": ("ByteLevel", "Metaspace", "Sequence", "WhitespaceSplit"),
    "post_processor": ("RobertaProcessing", "TemplateProcessing"),
}


@dataclass(frozen=True, kw_only=True)
class FastRules:
    """Rules that tokenizer.json does not contain."""

    context: Annotated[int, Limit("at least", 3)]  # length of a row, start and end included
    pad: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; `from_dict` reads it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "FastRules":
        """Read data of `to_dict`. Raises FactsError for a field that is missing, unknown or does not fit."""
        return records.read(cls, data, "tokenizer rules")


class Fast:
    """A tokenizer.json and the rules to apply it. Calling it returns `Tokens`. `pad` is an id."""

    def __init__(self, data: bytes, rules: FastRules) -> None:
        """Take the bytes of a tokenizer.json. Raises CheckpointError if it is damaged or of another kind."""
        self.data, self.rules, self.context = data, rules, rules.context
        self._rust = _built(data)
        self.vocab: dict[str, int] = self._rust.get_vocab(with_added_tokens=True)
        self.vocab_size = max(self.vocab.values(), default=-1) + 1
        if rules.pad not in self.vocab:
            raise CheckpointError(f"the vocabulary has no padding token {rules.pad!r}: state it in the tokenizer files")
        self.pad = self.vocab[rules.pad]

    @classmethod
    def from_transformers(cls, folder: Path, *, context: int) -> "Fast":
        """Read a transformers directory: tokenizer.json, and the padding token of tokenizer_config.json."""
        pad = spelling(read_config(folder).get("pad_token", "<pad>"), folder)
        return cls.load(folder, FastRules(context=context, pad=pad))

    @classmethod
    def load(cls, folder: Path, rules: FastRules) -> "Fast":
        """Read the file that `save` writes."""
        try:
            return cls(read_bytes(folder / FILE), rules)
        except CheckpointError as error:
            raise CheckpointError(f"{folder / FILE}: {error}") from error

    def under(self, rules: FastRules) -> "Fast":
        """Return the same vocabulary with other rules."""
        return Fast(self.data, rules)

    def __call__(self, texts: Sequence[str], *, truncate: Truncate = "cut", context: int | None = None) -> Tokens:
        """Return ids of n texts as `Tokens` of length `context` (None: the rules'): start, text, end, padding.

        Raises TextError if a text is not a valid string, or, with truncate="error", is too long.
        """
        context = context or self.context
        rows = rows_of(check_texts(texts), self._whole_rows, context, self._longest)
        return pack(rows, context=context, pad=self.pad, truncate=truncate)

    def _whole_rows(self, texts: list[str]) -> list[list[int]]:
        return [row.ids for row in self._rust.encode_batch_fast(texts, add_special_tokens=True)]

    @functools.cached_property
    def _longest(self) -> int:
        return longest(self._rust.get_vocab())

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Return ids of texts without start and end, uncut. Raises TextError if one is not a valid string."""
        return [row.ids for row in self._rust.encode_batch_fast(check_texts(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`; special tokens appear as spelled."""
        unknown = [i for i in ids if not 0 <= i < self.vocab_size]
        if unknown:
            raise TextError(f"id {unknown[0]} is not in this vocabulary of {self.vocab_size} ids")
        return self._rust.decode(list(ids), skip_special_tokens=False)

    def save(self, folder: Path) -> None:
        """Write tokenizer.json with its original bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_bytes(self.data)

    def save_transformers(self, folder: Path, *, keep: bool = False) -> None:
        """Write tokenizer.json, and the tokenizer_config.json that AutoTokenizer needs. `keep` changes nothing."""
        del keep
        self.save(folder)
        config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": self.context}
        write_text(folder / "tokenizer_config.json", json.dumps(config | {"pad_token": self.rules.pad}, indent=2))


def is_fast(whole: Mapping[str, Any]) -> bool:
    """Whether the object of a tokenizer.json has a model that this class applies."""
    model: Any = whole.get("model")
    return isinstance(model, dict) and cast(dict[str, Any], model).get("type") in MODELS


def _built(data: bytes) -> Any:
    """Return the library's object. Raises CheckpointError for a damaged file or a step that is not supported."""
    from tokenizers import Tokenizer

    try:
        whole = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"not readable as JSON ({error})") from error
    if not isinstance(whole, dict) or not is_fast(cast(dict[str, Any], whole)):
        raise CheckpointError(f"its model is not one of {list(MODELS)}")
    for part, known in STEPS.items():
        for kind in _kinds(cast(dict[str, Any], whole).get(part)):
            if kind not in known:
                raise CheckpointError(f"its {part} has the unsupported step {kind!r}, expected {list(known)}")
    with _Damage():
        rust = Tokenizer.from_str(data.decode("utf-8"))
    rust.no_truncation()
    rust.no_padding()
    return rust


def _kinds(part: Any) -> list[str]:
    """Return the types of a step and of the steps inside it."""
    if not isinstance(part, dict):
        return []
    step = cast(dict[str, Any], part)
    inside: Any = step.get("normalizers") or step.get("pretokenizers") or ()
    return [str(step.get("type")), *(kind for each in inside for kind in _kinds(each))]


class _Damage:
    """Turn the error of the tokenizers library, which is a plain Exception, into CheckpointError."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is Exception:
            raise CheckpointError(f"damaged ({error!s:.200})") from error
