"""The base of transformers' tokenizer classes, on the tokenizers of cjkclip.text.

Token ids equal those of transformers 5's CLIPTokenizer and BertTokenizer. Methods that version 5 removed or broke work
as in version 4: build_inputs_with_special_tokens, get_special_tokens_mask, create_token_type_ids_from_sequences, and
save_vocabulary, whose files load again. A text that is too long is cut only if `truncation` requests it; otherwise the
model raises InputError.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import numpy as np

from cjkclip.compat.sources import IGNORED, PLACES, require_known, resolve_source
from cjkclip.compat.transformers.inputs.batches import BatchEncoding
from cjkclip.compat.transformers.inputs.rows import read_rows
from cjkclip.errors import InputError
from cjkclip.text import check_texts
from cjkclip.text.bpe import Bpe
from cjkclip.text.files import read_json, stated_length
from cjkclip.text.unigram import Unigram
from cjkclip.text.wordpiece import WordPiece

UNLIMITED = 10**30  # transformers' default of model_max_length
SPIECE = "spiece.model"
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


class PreTrainedTokenizer:
    """Base of the tokenizer classes. `core` is the tokenizer of cjkclip.text that does the work."""

    model_input_names: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask")
    padding_side = truncation_side = "right"
    is_fast = True
    longest: ClassVar[int] = UNLIMITED  # default of model_max_length if the files contain none

    core: Core
    model_max_length: int
    special_tokens_map: dict[str, str]  # "bos_token" etc. -> the token's text

    @classmethod
    def over(cls: type[_T], core: Core, model_max_length: int = UNLIMITED) -> _T:
        """Build this class on an existing tokenizer."""
        self = cls.__new__(cls)
        self._take(core, model_max_length)
        return self

    @classmethod
    def from_pretrained(cls: type[_T], name: PathLike, **options: Any) -> _T:
        """Read the tokenizer files of a directory or hub repository. model_max_length= overrides their value.

        revision, cache_dir and local_files_only are for the hub; use_fast and trust_remote_code are accepted without
        effect.
        """
        require_known(options, (*PLACES, *IGNORED, "model_max_length"), f"{cls.__name__}.from_pretrained")
        return cls.from_folder(resolve_source(name, options, small=True).path, options.get("model_max_length"))

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
        self.special_tokens_map = {f"{role}_token": name for role, name in self._specials().items() if name is not None}

    def _specials(self) -> dict[str, str | None]:
        """Return the special tokens by role."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        """Return bos_token, eos_token_id and so on; None for a role without a token in this tokenizer."""
        role = re.fullmatch(r"((?:bos|eos|unk|sep|pad|cls|mask)_token)(_id)?", name)
        if role is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        token = self.special_tokens_map.get(role[1])
        return self.core.vocab[token] if role[2] and token is not None else token

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

    @property
    def all_special_tokens(self) -> list[str]:
        """Special tokens, without repetitions."""
        return list(dict.fromkeys(self.special_tokens_map.values()))

    @property
    def all_special_ids(self) -> list[int]:
        """Ids of the special tokens."""
        return [self.core.vocab[token] for token in self.all_special_tokens]

    def __call__(self, text: Any = None, text_pair: Any = None, **options: Any) -> BatchEncoding:
        """Return ids of a text or a list of texts, each with its pair if given. Options: see `rows.TokenRows`."""
        settings = read_rows(options, f"{type(self).__name__}()")
        if text is None:
            raise InputError("text is missing: pass a string or a list of strings, as in tokenizer(['猫', '犬'])")
        one = isinstance(text, str)
        texts = check_texts([text] if one else text)
        if not texts:
            raise InputError("got an empty list of texts, expected at least one string, as in tokenizer(['猫', '犬'])")
        if text_pair is not None and isinstance(text_pair, str) != one:
            raise InputError(
                "text and text_pair must both be strings, or both lists of strings: tokenizer([text], [text_pair])"
            )
        first = self.core.rows(texts)
        second = None if text_pair is None else self.core.rows([text_pair] if one else text_pair)
        if second is not None and len(first) != len(second):
            raise InputError(f"got {len(first)} texts and {len(second)} for text_pair, expected one text_pair per text")
        batch = settings.encode(self, first, second)
        if settings.return_tensors is None and one:
            return BatchEncoding({name: rows[0] for name, rows in batch.items()})
        return BatchEncoding(batch, settings.return_tensors)

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

    def build_inputs_with_special_tokens(self, a: Sequence[int], b: Sequence[int] | None = None) -> list[int]:
        """Return the ids of one or two texts with special tokens."""
        raise NotImplementedError

    def create_token_type_ids_from_sequences(self, a: Sequence[int], b: Sequence[int] | None = None) -> list[int]:
        """Return the index of its text for each id of the built sequence; this class returns zeros."""
        return [0] * len(self.build_inputs_with_special_tokens(a, b))

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Return the number of special tokens for one text or two."""
        return len(self.build_inputs_with_special_tokens([], [] if pair else None))

    def get_special_tokens_mask(
        self, a: Sequence[int], b: Sequence[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """Return 1 for every special token of the sequence, built from a and b or already built, and 0 for others."""
        if already_has_special_tokens:
            if b is not None:
                raise InputError(
                    "got two sequences with already_has_special_tokens=True, expected one: leave the second out"
                )
            return [int(i in self.all_special_ids) for i in a]
        sequence = self.build_inputs_with_special_tokens([-1] * len(a), None if b is None else [-1] * len(b))
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

    def save_pretrained(self, save_directory: PathLike) -> tuple[str, ...]:
        """Write files that `from_pretrained` and `cjkclip.load` read with the same ids; return their paths.

        transformers has no options for the text cleaning of OpenAI, open_clip and cn_clip; it reads such files with its
        own rules.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.core.save_transformers(folder, keep=True)
        return tuple(str(folder / name) for name in FILES if (folder / name).is_file())

    def save_vocabulary(self, save_directory: PathLike, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write only the vocabulary, in files that the class can read; return their paths."""
        raise NotImplementedError
