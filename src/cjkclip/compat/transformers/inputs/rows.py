"""The options of a tokenizer's call, and rows of ids cut, surrounded and padded as they ask.

Refuses: options that nobody reads, or of a value that means nothing; lengths without room for start and end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, runtime_checkable

from cjkclip.compat.sources import known
from cjkclip.errors import InputError

Ids = list[int]
_PADDING = {True: "longest", False: "do_not_pad"}
_CUTTING = {True: "longest_first", False: "do_not_truncate", None: "do_not_truncate"}
_PADS = {"attention_mask": 0, "token_type_ids": 0, "special_tokens_mask": 1}  # what stands where padding is


@runtime_checkable
class Builder(Protocol):
    """The part of a tokenizer that rows need."""

    model_input_names: ClassVar[tuple[str, ...]]
    model_max_length: int
    padding_side: str

    def build_inputs_with_special_tokens(self, a: Ids, b: Ids | None = None) -> Ids:
        """One or two texts with start and end."""
        ...

    def create_token_type_ids_from_sequences(self, a: Ids, b: Ids | None = None) -> Ids:
        """Which of the two each id belongs to."""
        ...

    def get_special_tokens_mask(self, a: Ids, b: Ids | None = None) -> Ids:
        """1 where an id is none of a text."""
        ...

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """How many ids come around one text or two."""
        ...

    def __getattr__(self, name: str) -> Any:
        """pad_token_id."""
        ...


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What a call may ask for, with transformers' defaults.

    padding: True or "longest", "max_length", False or "do_not_pad". truncation: True or "longest_first", "only_first",
    "only_second", False or "do_not_truncate"; None cuts only if a max_length stands alone, as transformers does.
    """

    add_special_tokens: bool = True
    padding: bool | str = False
    truncation: bool | str | None = None
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    padding_side: str | None = None
    return_tensors: str | None = None
    return_attention_mask: bool | None = None
    return_token_type_ids: bool | None = None
    return_special_tokens_mask: bool = False
    return_length: bool = False
    verbose: bool = True  # taken, and means nothing

    def encode(self, tokenizer: Builder, first: Sequence[Ids], second: Sequence[Ids] | None) -> dict[str, list[Any]]:
        """Rows by name, of n texts or pairs, as lists."""
        pairs = zip(first, [None] * len(first) if second is None else second, strict=True)
        cut = [self._cut(a, b, tokenizer) for a, b in pairs]
        if self.add_special_tokens:
            built = [tokenizer.build_inputs_with_special_tokens(a, b) for a, b in cut]
            kinds = [tokenizer.create_token_type_ids_from_sequences(a, b) for a, b in cut]
            special = [tokenizer.get_special_tokens_mask(a, b) for a, b in cut]
        else:
            built = [[*a, *(b or [])] for a, b in cut]
            kinds = [
                [0] * len(a) + [int("token_type_ids" in tokenizer.model_input_names)] * len(b or []) for a, b in cut
            ]
            special = [[0] * len(row) for row in built]
        rows: dict[str, list[Ids]] = {"input_ids": built}
        if _asked(self.return_token_type_ids, "token_type_ids", tokenizer):
            rows["token_type_ids"] = kinds
        if _asked(self.return_attention_mask, "attention_mask", tokenizer):
            rows["attention_mask"] = [[1] * len(row) for row in built]
        if self.return_special_tokens_mask:
            rows["special_tokens_mask"] = special
        padded = self.padded(tokenizer, rows)
        return padded | ({"length": [len(row) for row in padded["input_ids"]]} if self.return_length else {})

    def padded(self, tokenizer: Builder, rows: dict[str, list[Ids]]) -> dict[str, list[Any]]:
        """Rows of one length, if that was asked for, with their attention mask."""
        lengths = [len(row) for row in rows["input_ids"]]
        to = 0
        if self._padding == "longest":
            to = max(lengths, default=0)
        elif self._padding == "max_length":
            to = self._limit(tokenizer) or 0
        if self.pad_to_multiple_of and self._padding != "do_not_pad":
            to = -(-max(to, 0 if to else max(lengths, default=0)) // self.pad_to_multiple_of) * self.pad_to_multiple_of
        if _asked(self.return_attention_mask, "attention_mask", tokenizer) and "attention_mask" not in rows:
            rows = rows | {"attention_mask": [[1] * n for n in lengths]}
        left = (self.padding_side or tokenizer.padding_side) == "left"
        pads = _PADS | {"input_ids": tokenizer.pad_token_id}
        found: dict[str, list[Any]] = {}
        for name, listed in rows.items():
            ends = [[pads.get(name, 0)] * (to - len(row)) for row in listed]
            found[name] = [end + row if left else row + end for row, end in zip(listed, ends, strict=True)]
        return found

    @property
    def _padding(self) -> str:
        return self.padding if isinstance(self.padding, str) else _PADDING[self.padding]

    @property
    def _cutting(self) -> str:
        if self.truncation is None and self.max_length is not None and self.padding is False:
            return "longest_first"
        return self.truncation if isinstance(self.truncation, str) else _CUTTING[self.truncation]

    def _limit(self, tokenizer: Builder) -> int | None:
        """max_length, else what the tokenizer was made for, if anything."""
        if self.max_length is not None:
            return self.max_length
        return tokenizer.model_max_length if tokenizer.model_max_length < 10**20 else None

    def _cut(self, a: Ids, b: Ids | None, tokenizer: Builder) -> tuple[Ids, Ids | None]:
        """One text, or two, short enough; nothing is cut unless that was asked for."""
        limit = self._limit(tokenizer)
        if self._cutting == "do_not_truncate" or limit is None:
            return a, b
        room = limit - (tokenizer.num_special_tokens_to_add(b is not None) if self.add_special_tokens else 0)
        if room < 0:
            raise InputError(f"max_length is {limit}, which has no room for the {limit - room} tokens around a text")
        n, m = len(a), len(b or [])
        if n + m <= room:
            return a, b
        if self._cutting == "longest_first":
            n, m = _shared(n, m, room)
        else:
            n, m = (room - m, m) if self._cutting == "only_first" else (n, room - n)
            if min(n, m) < 0:
                raise InputError(
                    f"truncation={self._cutting!r} cannot make {len(a)} + {len(b or [])} tokens fit into {room}"
                )
        return a[:n], None if b is None else b[:m]


OPTIONS = tuple(field.name for field in fields(Rows))


def read_rows(options: dict[str, Any], where: str) -> Rows:
    """The options of a call. Raises OptionError for unknown ones, InputError for values that mean nothing."""
    known(options, OPTIONS, where)
    asked = Rows(**options)
    _one_of("padding", asked.padding, (True, False, "longest", "max_length", "do_not_pad"))
    cutting = (True, False, None, "longest_first", "only_first", "only_second", "do_not_truncate")
    _one_of("truncation", asked.truncation, cutting)
    _one_of("padding_side", asked.padding_side, (None, "right", "left"))
    _one_of("return_tensors", asked.return_tensors, (None, "pt", "np"))
    for name, length in (("max_length", asked.max_length), ("pad_to_multiple_of", asked.pad_to_multiple_of)):
        if length is not None and (type(length) is not int or length < 1):
            raise InputError(f"{name} is {length!r}, expected a whole number of tokens, or None")
    return asked


def _one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if not any(value is each or (isinstance(each, str) and value == each) for each in allowed):
        raise InputError(f"{name} is {value!r}, expected one of {', '.join(map(repr, allowed))}")


def _asked(wish: bool | None, name: str, tokenizer: Builder) -> bool:
    return name in tokenizer.model_input_names if wish is None else wish


def _shared(n: int, m: int, room: int) -> tuple[int, int]:
    """What is left of two texts that lose their ends, the longer one first."""
    short, long = min(n, m), max(n, m)
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short = room // 2
        long = short + room % 2
    return (long, short) if n > m else (short, long)
