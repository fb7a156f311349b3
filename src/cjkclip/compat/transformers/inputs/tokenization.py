"""The base of transformers' tokenizer classes, on the tokenizers of cjkclip.text.

Token ids equal those of transformers 5's CLIPTokenizer and BertTokenizer. Methods that version 5 removed or broke work
as in version 4: build_inputs_with_special_tokens, get_special_tokens_mask, create_token_type_ids_from_sequences, and
save_vocabulary, whose files load again. A text that is too long is cut only if `truncation` requests it; otherwise the
model raises InputError.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import numpy as np

from cjkclip.compat.sources import IGNORED, PLACES, SAVE_IDLE, require_idle, require_known, resolve_source, without_idle
from cjkclip.compat.transformers.inputs.batches import BatchEncoding
from cjkclip.compat.transformers.inputs.rows import Pair, Span, read_rows
from cjkclip.compat.transformers.inputs.settings import IDLE, ROLES, SIDES, UNLIMITED, Settings
from cjkclip.errors import InputError
from cjkclip.text import check_texts
from cjkclip.text.bpe import Bpe
from cjkclip.text.files import read_json, stated_length
from cjkclip.text.unigram import Unigram
from cjkclip.text.wordpiece import WordPiece

SETTINGS = ("model_max_length", "max_length", *SIDES, *(f"{role}_token" for role in ROLES))
SPIECE = "spiece.model"
FILES_IDLE: dict[str, tuple[Any, ...]] = SAVE_IDLE | {
    "legacy_format": (None, False, True),  # both forms of the files are read
    "filename_prefix": (None,),
    "safe_serialization": (True, False),
}
FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    SPIECE,
)
Core = Bpe | WordPiece | Unigram
PathLike = str | Path

_T = TypeVar("_T", bound="PreTrainedTokenizer")
_R = TypeVar("_R")


class PreTrainedTokenizer(Settings):
    """Base of the tokenizer classes. `core` is the tokenizer of cjkclip.text that does the work."""

    is_fast = True
    longest: ClassVar[int] = UNLIMITED  # default of model_max_length if the files contain none
    name_or_path = ""

    core: Core
    rules: ClassVar[dict[str, str]] = {}  # option of from_pretrained -> field of the rules of `core`

    @classmethod
    def over(cls: type[_T], core: Core, model_max_length: int = UNLIMITED) -> _T:
        """Build this class on an existing tokenizer."""
        self = cls.__new__(cls)
        self._take(core, model_max_length)
        return self

    @classmethod
    def from_pretrained(cls: type[_T], pretrained_model_name_or_path: PathLike, **options: Any) -> _T:
        """Read the tokenizer files of a directory or hub repository.

        Options that override the files: model_max_length (or max_length), padding_side, truncation_side, the special
        tokens (pad_token, ...), and do_lower_case for BERT. revision, cache_dir and local_files_only are for the hub.
        """
        owner = f"{cls.__name__}.from_pretrained"
        options = without_idle(options, owner, IDLE)
        require_known(options, (*PLACES, *IGNORED, *SETTINGS, *cls.rules), owner)
        source = resolve_source(pretrained_model_name_or_path, options, small=True)
        tokenizer = cls.from_folder(source.path, options.get("model_max_length") or options.get("max_length"))
        tokenizer.name_or_path = str(pretrained_model_name_or_path)
        return tokenizer.changed(options)

    def changed(self: _T, options: Mapping[str, Any]) -> _T:
        """Apply options of from_pretrained that override the files."""
        rules = {name: options[option] for option, name in self.rules.items() if options.get(option) is not None}
        if rules:
            core = cast(Any, self.core)
            self._take(core.under(replace(core.rules, **rules)), self.model_max_length)
        self.assign({name: options[name] for name in SETTINGS if name in options and name != "max_length"})
        return self

    @classmethod
    def from_folder(cls: type[_T], folder: Path, model_max_length: int | None = None) -> _T:
        """Read the tokenizer files of a local directory."""
        path = folder / "tokenizer_config.json"
        own_length = stated_length(read_json(path)) if path.is_file() else None
        length = model_max_length or own_length or cls.longest
        return cls.over(cls._read(folder, length), length)

    @classmethod
    def _read(cls, folder: Path, length: int) -> Core:
        raise NotImplementedError

    def _take(self, core: Core, model_max_length: int) -> None:
        self.core, self.model_max_length = core, model_max_length
        self.name_of = {i: token for token, i in core.vocab.items()}
        vars(self)["special_tokens_map"] = {
            f"{role}_token": name for role, name in self._specials().items() if name is not None
        }

    def _specials(self) -> dict[str, str | None]:
        """Return the special tokens by role."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Number of tokens, including special tokens."""
        return len(self.core.vocab)

    @property
    def vocab_size(self) -> int:
        """Number of tokens, including special tokens."""
        return len(self.core.vocab)

    def get_vocab(self) -> dict[str, int]:
        """Return the id of every token."""
        return dict(self.core.vocab)

    def __call__(self, text: Any = None, text_pair: Any = None, **options: Any) -> BatchEncoding:
        """Return ids of a text or a list of texts, each with its pair if given. Options: see `rows.TokenRows`.

        A list of tuples of two strings is a list of pairs. With is_split_into_words=True, a text is a list of words.
        """
        settings = read_rows(options, f"{type(self).__name__}()")
        first, second, one = read_texts(text, text_pair, settings.is_split_into_words)
        ids = [row for row in (self._ids(first), self._ids(second)) if row is not None]
        numbers: list[int] = []
        spans = (
            [row for row in (self._spans(first), self._spans(second)) if row] if settings.return_offsets_mapping else []
        )
        if settings.return_overflowing_tokens:
            if second is not None:
                raise InputError("return_overflowing_tokens reads one text each, not pairs: leave text_pair out")
            spans = [settings.windows(self, row)[0] for row in spans]
            windows, numbers = settings.windows(self, ids[0])
            ids = [windows]
        batch = settings.encode(self, _pairs(ids), _pairs(spans))
        if settings.return_overflowing_tokens:
            batch["overflow_to_sample_mapping"] = numbers
        elif settings.return_tensors is None and one:
            return BatchEncoding({name: rows[0] for name, rows in batch.items()})
        return BatchEncoding(batch, settings.return_tensors)

    def _ids(self, texts: list[list[str]] | None) -> list[list[int]] | None:
        """Return the ids of texts, each of which is a list of parts."""
        return None if texts is None else _joined(texts, self.core.rows([part for text in texts for part in text]))

    def _spans(self, texts: list[list[str]] | None) -> list[list[Span]] | None:
        """Return the place of each id in its part. Raises InputError for a tokenizer that changes texts before."""
        if texts is None:
            return None
        if not isinstance(self.core, Bpe | WordPiece):
            raise InputError(f"return_offsets_mapping is not available for {type(self).__name__}: leave it out")
        return _joined(texts, self.core.spans([part for text in texts for part in text]))

    encode_plus = batch_encode_plus = __call__

    def encode(self, text: str, text_pair: str | None = None, **options: Any) -> Any:
        """Return only the ids of one text."""
        return self(text, text_pair, **options)["input_ids"]

    def pad(self, encoded_inputs: Any, **options: Any) -> BatchEncoding:
        """Pad encodings of one or more texts (a dictionary of lists, or a list of dictionaries) to one length."""
        settings = read_rows({"padding": True, **options}, f"{type(self).__name__}.pad")
        if isinstance(encoded_inputs, list | tuple):
            dictionaries = cast(list[dict[str, Any]], encoded_inputs)
            encoded_inputs = {n: [each[n] for each in dictionaries] for n in (dictionaries[0] if dictionaries else {})}
        if "input_ids" not in encoded_inputs:
            raise InputError(f"got {sorted(encoded_inputs)}, but pad needs input_ids: tokenizer.pad(tokenizer(texts))")
        rows = {name: [np.asarray(row).tolist() for row in values] for name, values in encoded_inputs.items()}
        one = not isinstance(rows["input_ids"][0], list)
        batch = settings.padded(self, {name: [row] for name, row in rows.items()} if one else rows)
        return BatchEncoding({name: row[0] for name, row in batch.items()} if one else batch, settings.return_tensors)

    def create_token_type_ids_from_sequences(
        self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
    ) -> list[int]:
        """Return the index of its text for each id of the built sequence; this class returns zeros."""
        return [0] * len(self.build_inputs_with_special_tokens(token_ids_0, token_ids_1))

    def get_special_tokens_mask(
        self,
        token_ids_0: Sequence[int],
        token_ids_1: Sequence[int] | None = None,
        already_has_special_tokens: bool = False,
    ) -> list[int]:
        """Return 1 for every special token of a sequence, built from one text or two or already built, 0 for others."""
        if already_has_special_tokens:
            if token_ids_1 is not None:
                raise InputError(
                    "got two sequences with already_has_special_tokens=True, expected one: leave the second out"
                )
            return [int(i in self.all_special_ids) for i in token_ids_0]
        second = None if token_ids_1 is None else [-1] * len(token_ids_1)
        sequence = self.build_inputs_with_special_tokens([-1] * len(token_ids_0), second)
        return [int(i != -1) for i in sequence]

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False) -> list[str]:
        """Return the tokens of a text, as spelled in the vocabulary."""
        return self.convert_ids_to_tokens(self(text, pair, add_special_tokens=add_special_tokens)["input_ids"])

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """Return the id of a token, or the ids of a list; other strings get the id of the unknown token."""
        if isinstance(tokens, str):
            return self.core.vocab.get(tokens, self.unk_token_id)
        return [self.core.vocab.get(token, self.unk_token_id) for token in tokens]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """Return the token of an id, or the tokens of a list."""
        id_list = [ids] if isinstance(ids, int) else [int(i) for i in ids]
        if unknown := [i for i in id_list if i not in self.name_of]:
            raise InputError(
                f"id {unknown[0]} is not in this vocabulary of {len(self)} ids: pass ids of this tokenizer"
            )
        special = set(self.all_special_ids) if skip_special_tokens else set[int]()
        tokens = [self.name_of[i] for i in id_list if i not in special]
        return tokens[0] if isinstance(ids, int) and tokens else tokens

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """Return the text of tokens."""
        return self.core.decode(self.convert_tokens_to_ids(tokens)).strip()

    def decode(self, token_ids: Any, skip_special_tokens: bool = False, **options: Any) -> str:
        """Return the text of ids. clean_up_tokenization_spaces is accepted without effect."""
        require_known(options, ("clean_up_tokenization_spaces",), f"{type(self).__name__}.decode")
        ids = [token_ids] if isinstance(token_ids, int) else list(token_ids)
        return self.convert_tokens_to_string(self.convert_ids_to_tokens(ids, skip_special_tokens))

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False, **options: Any) -> list[str]:
        """Return the texts of several rows of ids."""
        return [self.decode(row, skip_special_tokens, **options) for row in sequences]

    def save_pretrained(self, save_directory: PathLike, **options: Any) -> tuple[str, ...]:
        """Write files that `from_pretrained` and `cjkclip.load` read with the same ids; return their paths.

        transformers has no options for the text cleaning of OpenAI, open_clip and cn_clip; it reads such files with its
        own rules.
        """
        require_idle(options, "save_pretrained", FILES_IDLE)
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.core.save_transformers(folder, keep=True)
        return tuple(str(folder / name) for name in FILES if (folder / name).is_file())

    def save_vocabulary(self, save_directory: PathLike, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write only the vocabulary, in files that the class can read; return their paths."""
        raise NotImplementedError


def read_texts(text: Any, pair: Any, split: bool) -> tuple[list[list[str]], list[list[str]] | None, bool]:
    """Return texts and pairs as lists of parts, and whether one text was passed. Raises InputError, TextError."""
    if text is None:
        raise InputError("text is missing: pass a string or a list of strings, as in tokenizer(['猫', '犬'])")
    items: list[Any] = list(cast(list[Any], text)) if isinstance(text, list | tuple) else [text]
    one = isinstance(text, str) or (split and all(isinstance(each, str) for each in items))
    if not items:
        raise InputError("got an empty list of texts, expected at least one string, as in tokenizer(['猫', '犬'])")
    if not split and pair is None and all(isinstance(each, tuple) and len(cast(Any, each)) == 2 for each in items):
        text, pair = [each[0] for each in items], [each[1] for each in items]
    if pair is not None and (isinstance(pair, str) and not split) != isinstance(text, str):
        raise InputError(
            "text and text_pair must both be strings, or both lists of strings: tokenizer([text], [text_pair])"
        )
    first, second = _parts(text, one, split), None if pair is None else _parts(pair, one, split)
    if second is not None and len(first) != len(second):
        raise InputError(f"got {len(first)} texts and {len(second)} for text_pair, expected one text_pair per text")
    return first, second, one


def _parts(texts: Any, one: bool, split: bool) -> list[list[str]]:
    """Return each text as a list of its words, or of itself."""
    if split:
        return [check_texts(words) for words in ([texts] if one else texts)]
    return [[text] for text in check_texts([texts] if one else texts)]


def _joined(texts: list[list[str]], rows: Sequence[Sequence[_R]]) -> list[list[_R]]:
    """Return one row for each text from one row for each of its parts."""
    rest = iter(rows)
    return [[item for _ in text for item in next(rest)] for text in texts]


def _pairs(rows: list[list[list[_R]]]) -> list[Pair[_R]]:
    """Return each first row with its second, or None."""
    if not rows:
        return []
    return list(zip(rows[0], rows[1] if len(rows) > 1 else [None] * len(rows[0]), strict=True))
