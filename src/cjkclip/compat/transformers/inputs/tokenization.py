"""What transformers' tokenizer classes share, over the tokenizers of cjkclip.text.

Ids are those of transformers 5's CLIPTokenizer and BertTokenizer. Methods that version 5 dropped or broke are as in
version 4: build_inputs_with_special_tokens, get_special_tokens_mask, create_token_type_ids_from_sequences, and a
save_vocabulary whose files load again. A text that is too long is cut only if `truncation` asks for it; the model
refuses what it cannot read.

Refuses: what is no string, ids of no token, unknown options.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import numpy as np

from cjkclip.compat.sources import IGNORED, PLACES, known, resolved
from cjkclip.compat.transformers.inputs.batches import BatchEncoding
from cjkclip.compat.transformers.inputs.rows import read_rows
from cjkclip.errors import InputError
from cjkclip.text import check_texts
from cjkclip.text.bpe import Bpe
from cjkclip.text.files import read_json, stated_length
from cjkclip.text.unigram import Unigram
from cjkclip.text.wordpiece import WordPiece

UNLIMITED = 10**30  # transformers' model_max_length where nobody said one
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
    """What the classes share. `core` is the tokenizer of cjkclip.text that does the work."""

    model_input_names: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask")
    padding_side = truncation_side = "right"
    is_fast = True
    longest: ClassVar[int] = UNLIMITED  # model_max_length where the files do not say one

    core: Core
    model_max_length: int
    special_tokens_map: dict[str, str]  # "bos_token" and so on -> as spelled

    @classmethod
    def over(cls: type[_T], core: Core, model_max_length: int = UNLIMITED) -> _T:
        """This class over a tokenizer that is there."""
        self = cls.__new__(cls)
        self._take(core, model_max_length)
        return self

    @classmethod
    def from_pretrained(cls: type[_T], name: PathLike, **options: Any) -> _T:
        """The tokenizer files of a folder or a hub repository. model_max_length= overrides what they say.

        revision, cache_dir and local_files_only are the hub's; use_fast and trust_remote_code are taken and mean
        nothing.
        """
        known(options, (*PLACES, *IGNORED, "model_max_length"), f"{cls.__name__}.from_pretrained")
        return cls.from_folder(resolved(name, options, small=True).path, options.get("model_max_length"))

    @classmethod
    def from_folder(cls: type[_T], folder: Path, model_max_length: int | None = None) -> _T:
        """The tokenizer files of a folder on this machine."""
        path = folder / "tokenizer_config.json"
        told = stated_length(read_json(path)) if path.is_file() else None
        length = model_max_length or told or cls.longest
        return cls.over(cls._read(folder, length), length)

    @classmethod
    def _read(cls, folder: Path, length: int) -> Core:
        raise NotImplementedError

    def _take(self, core: Core, model_max_length: int) -> None:
        self.core, self.model_max_length = core, model_max_length
        self.name_of = {i: token for token, i in core.vocab.items()}
        self.special_tokens_map = {f"{role}_token": name for role, name in self._specials().items() if name is not None}

    def _specials(self) -> dict[str, str | None]:
        """The special tokens by role."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        """bos_token, eos_token_id and so on; None for a role that this tokenizer has no token for."""
        role = re.fullmatch(r"((?:bos|eos|unk|sep|pad|cls|mask)_token)(_id)?", name)
        if role is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        token = self.special_tokens_map.get(role[1])
        return self.core.vocab[token] if role[2] and token is not None else token

    def __len__(self) -> int:
        """How many tokens there are, special ones counted."""
        return len(self.core.vocab)

    @property
    def vocab_size(self) -> int:
        """How many tokens there are, special ones counted."""
        return len(self.core.vocab)

    def get_vocab(self) -> dict[str, int]:
        """Token -> id."""
        return dict(self.core.vocab)

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens, each once."""
        return list(dict.fromkeys(self.special_tokens_map.values()))

    @property
    def all_special_ids(self) -> list[int]:
        """Their ids."""
        return [self.core.vocab[token] for token in self.all_special_tokens]

    def __call__(self, text: Any = None, text_pair: Any = None, **options: Any) -> BatchEncoding:
        """Ids of a text, or of a list of texts (each with its pair). Options: see `rows.Rows`."""
        asked = read_rows(options, f"{type(self).__name__}()")
        if text is None:
            raise InputError("text is missing: pass a string or a list of strings")
        one = isinstance(text, str)
        texts = check_texts([text] if one else text)
        if not texts:
            raise InputError("got an empty list of texts, expected at least one")
        if text_pair is not None and isinstance(text_pair, str) != one:
            raise InputError("text and text_pair must both be strings, or both lists of strings")
        first = self.core.rows(texts)
        second = None if text_pair is None else self.core.rows([text_pair] if one else text_pair)
        if second is not None and len(first) != len(second):
            raise InputError(f"got {len(first)} texts and {len(second)} for text_pair, expected as many")
        batch = asked.encode(self, first, second)
        if asked.return_tensors is None and one:
            return BatchEncoding({name: rows[0] for name, rows in batch.items()})
        return BatchEncoding(batch, asked.return_tensors)

    encode_plus = batch_encode_plus = __call__

    def encode(self, text: str, text_pair: str | None = None, **options: Any) -> Any:
        """The ids alone of one text."""
        return self(text, text_pair, **options)["input_ids"]

    def pad(self, encoded_inputs: Any, **options: Any) -> BatchEncoding:
        """Encodings of one or more texts (a dictionary of lists, or a list of dictionaries) padded to one length."""
        asked = read_rows({"padding": True, **options}, f"{type(self).__name__}.pad")
        if isinstance(encoded_inputs, list | tuple):
            dictionaries = cast(list[dict[str, Any]], encoded_inputs)
            encoded_inputs = {n: [each[n] for each in dictionaries] for n in (dictionaries[0] if dictionaries else {})}
        if "input_ids" not in encoded_inputs:
            raise InputError(f"pad needs input_ids, got {sorted(encoded_inputs)}")
        rows = {name: [np.asarray(row).tolist() for row in listed] for name, listed in encoded_inputs.items()}
        one = not isinstance(rows["input_ids"][0], list)
        batch = asked.padded(self, {name: [row] for name, row in rows.items()} if one else rows)
        return BatchEncoding({name: row[0] for name, row in batch.items()} if one else batch, asked.return_tensors)

    def build_inputs_with_special_tokens(self, a: Sequence[int], b: Sequence[int] | None = None) -> list[int]:
        """The ids of one or two texts with start and end."""
        raise NotImplementedError

    def create_token_type_ids_from_sequences(self, a: Sequence[int], b: Sequence[int] | None = None) -> list[int]:
        """Which text each id of the built sequence belongs to, as far as this tokenizer tells: zeros."""
        return [0] * len(self.build_inputs_with_special_tokens(a, b))

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """How many ids come around one text or two."""
        return len(self.build_inputs_with_special_tokens([], [] if pair else None))

    def get_special_tokens_mask(
        self, a: Sequence[int], b: Sequence[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """1 where the sequence, built from a and b or already built, has a special token."""
        if already_has_special_tokens:
            if b is not None:
                raise InputError("a sequence that already has its special tokens is one: leave the second out")
            return [int(i in self.all_special_ids) for i in a]
        marked = self.build_inputs_with_special_tokens([-1] * len(a), None if b is None else [-1] * len(b))
        return [int(i != -1) for i in marked]

    def tokenize(self, text: str, pair: str | None = None, add_special_tokens: bool = False) -> list[str]:
        """The tokens of a text, as spelled in the vocabulary."""
        return self.convert_ids_to_tokens(self(text, pair, add_special_tokens=add_special_tokens)["input_ids"])

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """The id of a token, or those of a list; that of the unknown token for what is none."""
        if isinstance(tokens, str):
            return self.core.vocab.get(tokens, self.unk_token_id)
        return [self.core.vocab.get(token, self.unk_token_id) for token in tokens]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """The token of an id, or those of a list."""
        listed = [ids] if isinstance(ids, int) else [int(i) for i in ids]
        if unknown := [i for i in listed if i not in self.name_of]:
            raise InputError(f"id {unknown[0]} is not in this vocabulary of {len(self)} ids")
        skipped = set(self.all_special_ids) if skip_special_tokens else set[int]()
        tokens = [self.name_of[i] for i in listed if i not in skipped]
        return tokens[0] if isinstance(ids, int) and tokens else tokens

    def convert_tokens_to_string(self, tokens: Sequence[str]) -> str:
        """The text of tokens."""
        return self.core.decode(self.convert_tokens_to_ids(tokens)).strip()

    def decode(self, token_ids: Any, skip_special_tokens: bool = False, **options: Any) -> str:
        """The text of ids. clean_up_tokenization_spaces is taken and means nothing."""
        known(options, ("clean_up_tokenization_spaces",), f"{type(self).__name__}.decode")
        ids = [token_ids] if isinstance(token_ids, int) else list(token_ids)
        return self.convert_tokens_to_string(self.convert_ids_to_tokens(ids, skip_special_tokens))

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False, **options: Any) -> list[str]:
        """The texts of several rows of ids."""
        return [self.decode(row, skip_special_tokens, **options) for row in sequences]

    def save_pretrained(self, save_directory: PathLike) -> tuple[str, ...]:
        """Write files that `from_pretrained` reads again, and `cjkclip.load`, with the same ids; their paths.

        Of rules that transformers has no words for (OpenAI's, open_clip's and cn_clip's way to clean a text) it knows
        nothing: it reads such files by its own.
        """
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.core.save_transformers(folder, keep=True)
        return tuple(str(folder / name) for name in FILES if (folder / name).is_file())

    def save_vocabulary(self, save_directory: PathLike, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write the vocabulary alone, in files that the class reads again; their paths."""
        raise NotImplementedError
