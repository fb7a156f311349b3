"""The settings of a tokenizer of transformers: special tokens by role, sides and lengths, which a caller may assign."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cjkclip.compat.sources import IDLE as SOURCE_IDLE
from cjkclip.errors import InputError

ROLES = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
SIDES = ("padding_side", "truncation_side")
UNLIMITED = 10**30  # transformers' default of model_max_length
# Options of from_pretrained and of the constructors, with the values that change nothing.
IDLE: dict[str, tuple[Any, ...]] = SOURCE_IDLE | {
    "add_prefix_space": (False, None),
    "strip_accents": (None,),
    "tokenize_chinese_chars": (True, None),
    "split_special_tokens": (False, None),
    "padding": (False, None),
    "truncation": (False, None),
    "legacy": (True, False, None),
    "clean_up_tokenization_spaces": (True, False, None),
    "errors": ("replace", None),
}
_ROLE = re.compile(rf"((?:{'|'.join(ROLES)})_token)(_id)?")


class Settings:
    """Attributes with checks. A subclass has the vocabulary (`get_vocab`, `name_of`)."""

    model_input_names: list[str] = ["input_ids", "attention_mask"]  # noqa: RUF012  as in transformers, where it is a list
    padding_side = truncation_side = "right"
    model_max_length: int
    special_tokens_map: dict[str, str]  # "bos_token" etc. -> the token's text
    name_of: dict[int, str]

    def get_vocab(self) -> dict[str, int]:
        """Return the id of every token."""
        raise NotImplementedError

    def assign(self, settings: Mapping[str, Any]) -> None:
        """Set attributes, in the order of `settings`; None changes nothing."""
        for name, value in settings.items():
            if value is not None:
                setattr(self, name, value)

    def __getattr__(self, name: str) -> Any:
        """Return bos_token, eos_token_id and so on; None for a role without a token in this tokenizer."""
        role = _ROLE.fullmatch(name)
        if role is None:
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")
        token = self.special_tokens_map.get(role[1])
        if not role[2] or token is None:
            return token
        vocab = self.get_vocab()
        return vocab.get(token)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute. A special token is set by its text or id, in both; None removes it. Raises InputError."""
        role = _ROLE.fullmatch(name)
        if name in SIDES and value not in ("left", "right"):
            raise InputError(f"{name} is {value!r}, expected 'left' or 'right': tokenizer.{name} = 'right'")
        if role is None:
            return super().__setattr__(name, value)
        if value is None:
            self.special_tokens_map.pop(role[1], None)
            return None
        token = self.name_of.get(int(value)) if role[2] else str(value)
        if token is None or token not in self.get_vocab():
            raise InputError(
                f"{name} is {value!r}, which is not in this vocabulary: use one of its tokens, or add it first with "
                "tokenizer.add_special_tokens"
            )
        self.special_tokens_map[role[1]] = token
        return None

    @property
    def all_special_tokens(self) -> list[str]:
        """Special tokens, without repetitions."""
        return list(dict.fromkeys(self.special_tokens_map.values()))

    @property
    def all_special_ids(self) -> list[int]:
        """Ids of the special tokens."""
        vocab = self.get_vocab()
        return [vocab[token] for token in self.all_special_tokens]

    @property
    def vocab(self) -> dict[str, int]:
        """The id of every token."""
        return self.get_vocab()

    @property
    def max_len_single_sentence(self) -> int:
        """Most ids of one text, without special tokens."""
        return self.model_max_length - self.num_special_tokens_to_add()

    @property
    def max_len_sentences_pair(self) -> int:
        """Most ids of two texts, without special tokens."""
        return self.model_max_length - self.num_special_tokens_to_add(pair=True)

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Return the number of special tokens for one text or two."""
        return len(self.build_inputs_with_special_tokens([], [] if pair else None))

    def build_inputs_with_special_tokens(
        self, token_ids_0: Sequence[int], token_ids_1: Sequence[int] | None = None
    ) -> list[int]:
        """Return the ids of one or two texts with special tokens."""
        raise NotImplementedError
