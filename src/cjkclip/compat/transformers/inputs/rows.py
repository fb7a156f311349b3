"""The options of a tokenizer's call, applied to rows of ids: truncation, special tokens, padding."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol, TypeVar, runtime_checkable

from cjkclip.compat.sources import require_known
from cjkclip.errors import InputError

_T = TypeVar("_T")
Ids = list[int]
Span = tuple[int, int]  # the first character of an id and the one after its last
Pair = tuple[list[_T], list[_T] | None]  # a text, and the text that follows it
_PADDING = {True: "longest", False: "do_not_pad"}
_CUTTING = {True: "longest_first", False: "do_not_truncate", None: "do_not_truncate"}
_PADS = {"special_tokens_mask": 1, "offset_mapping": (0, 0)}  # values at padded positions; other rows have 0


@runtime_checkable
class Builder(Protocol):
    """The methods of a tokenizer that TokenRows calls."""

    model_input_names: list[str]
    model_max_length: int
    padding_side: str
    truncation_side: str

    def build_inputs_with_special_tokens(self, token_ids_0: Ids, token_ids_1: Ids | None = None) -> Ids:
        """Return one or two texts with special tokens."""
        ...

    def create_token_type_ids_from_sequences(self, token_ids_0: Ids, token_ids_1: Ids | None = None) -> Ids:
        """Return for each id the index of its text, 0 or 1."""
        ...

    def get_special_tokens_mask(self, token_ids_0: Ids, token_ids_1: Ids | None = None) -> Ids:
        """Return 1 for a special token, 0 for others."""
        ...

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Return the number of special tokens for one text or two."""
        ...

    def __getattr__(self, name: str) -> Any:
        """Return pad_token_id."""
        ...


@dataclass(frozen=True, kw_only=True)
class TokenRows:
    """Options of a call, with transformers' defaults; `encode` applies them.

    padding: True or "longest", "max_length", False or "do_not_pad". truncation: True or "longest_first", "only_first",
    "only_second", False or "do_not_truncate"; None cuts if max_length is passed without padding, like transformers.
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
    return_offsets_mapping: bool = False
    return_overflowing_tokens: bool = False
    stride: int = 0  # ids that consecutive rows of a long text share, with return_overflowing_tokens
    is_split_into_words: bool = False
    verbose: bool = True  # accepted without effect

    def encode(self, tokenizer: Builder, pairs: Sequence[Pair[int]], spans: Sequence[Pair[Span]]) -> dict[str, Any]:
        """Return rows by name, as lists, of n texts or pairs of ids; `spans` has the place of each id, if requested."""
        cut = [self._cut(a, b, tokenizer) for a, b in pairs]
        places = [self._cut(a, b, tokenizer) for a, b in spans]
        rows: dict[str, list[Any]] = dict(self._named(tokenizer, cut))
        if self.return_offsets_mapping:
            masks = [self._special(tokenizer, a, b) for a, b in cut]
            rows["offset_mapping"] = [
                _spread(mask, [*a, *(b or ())]) for mask, (a, b) in zip(masks, places, strict=True)
            ]
        padded = self.padded(tokenizer, rows)
        return padded | ({"length": [len(row) for row in padded["input_ids"]]} if self.return_length else {})

    def windows(self, tokenizer: Builder, texts: Sequence[list[_T]]) -> tuple[list[list[_T]], list[int]]:
        """Return the parts that each text of ids is cut into, `stride` ids apart, and the number of its text."""
        limit = self._limit(tokenizer)
        if self._cutting == "do_not_truncate" or limit is None:
            return list(texts), list(range(len(texts)))
        room = limit - (tokenizer.num_special_tokens_to_add() if self.add_special_tokens else 0)
        step = room - self.stride
        if step < 1 or tokenizer.truncation_side != "right":
            raise InputError(
                f"return_overflowing_tokens cuts at the right into rows of {room} ids without special tokens, {step} "
                "new ones each: pass truncation_side='right' and a stride below that"
            )
        parts: list[list[_T]] = []
        numbers: list[int] = []
        for number, text in enumerate(texts):
            starts = range(0, max(1, len(text) - self.stride), step)
            parts += [text[start : start + room] for start in starts]
            numbers += [number] * len(starts)
        return parts, numbers

    def _special(self, tokenizer: Builder, a: Ids, b: Ids | None) -> Ids:
        """Return 1 for every special token of the built row, and 0 for others."""
        return tokenizer.get_special_tokens_mask(a, b) if self.add_special_tokens else [0] * (len(a) + len(b or ()))

    def _named(self, tokenizer: Builder, cut: Sequence[Pair[int]]) -> dict[str, list[Ids]]:
        """Return the rows that the options request, before padding."""
        if self.add_special_tokens:
            built = [tokenizer.build_inputs_with_special_tokens(a, b) for a, b in cut]
            kinds = [tokenizer.create_token_type_ids_from_sequences(a, b) for a, b in cut]
        else:
            built = [[*a, *(b or [])] for a, b in cut]
            kinds = [
                [0] * len(a) + [int("token_type_ids" in tokenizer.model_input_names)] * len(b or []) for a, b in cut
            ]
        rows: dict[str, list[Ids]] = {"input_ids": built}
        if _included(self.return_token_type_ids, "token_type_ids", tokenizer):
            rows["token_type_ids"] = kinds
        if _included(self.return_attention_mask, "attention_mask", tokenizer):
            rows["attention_mask"] = [[1] * len(row) for row in built]
        if self.return_special_tokens_mask:
            rows["special_tokens_mask"] = [self._special(tokenizer, a, b) for a, b in cut]
        return rows

    def padded(self, tokenizer: Builder, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return rows with their attention mask, padded to one length if the options request padding."""
        lengths = [len(row) for row in rows["input_ids"]]
        to = 0
        if self._padding == "longest":
            to = max(lengths, default=0)
        elif self._padding == "max_length":
            to = self._limit(tokenizer) or 0
        if self.pad_to_multiple_of and self._padding != "do_not_pad":
            to = -(-max(to, 0 if to else max(lengths, default=0)) // self.pad_to_multiple_of) * self.pad_to_multiple_of
        if _included(self.return_attention_mask, "attention_mask", tokenizer) and "attention_mask" not in rows:
            rows = rows | {"attention_mask": [[1] * n for n in lengths]}
        left = (self.padding_side or tokenizer.padding_side) == "left"
        pads = _PADS | {"input_ids": tokenizer.pad_token_id}
        padded: dict[str, list[Any]] = {}
        for name, values in rows.items():
            ends = [[pads.get(name, 0)] * (to - len(row)) for row in values]
            padded[name] = [end + row if left else row + end for row, end in zip(values, ends, strict=True)]
        return padded

    @property
    def _padding(self) -> str:
        return self.padding if isinstance(self.padding, str) else _PADDING[self.padding]

    @property
    def _cutting(self) -> str:
        if self.truncation is None and self.max_length is not None and self.padding is False:
            return "longest_first"
        return self.truncation if isinstance(self.truncation, str) else _CUTTING[self.truncation]

    def _limit(self, tokenizer: Builder) -> int | None:
        """Return max_length, by default the tokenizer's model_max_length, or None for no limit."""
        if self.max_length is not None:
            return self.max_length
        return tokenizer.model_max_length if tokenizer.model_max_length < 10**20 else None

    def _cut(self, a: list[_T], b: list[_T] | None, tokenizer: Builder) -> Pair[_T]:
        """Return one text or two, cut to the limit if the options request truncation. Raises InputError."""
        limit = self._limit(tokenizer)
        if self._cutting == "do_not_truncate" or limit is None:
            return a, b
        room = limit - (tokenizer.num_special_tokens_to_add(b is not None) if self.add_special_tokens else 0)
        if room < 0:
            raise InputError(
                f"max_length is {limit}, too short for the {limit - room} special tokens: "
                f"pass max_length={limit - room + 1} or more"
            )
        n, m = len(a), len(b or [])
        if n + m <= room:
            return a, b
        if self._cutting == "longest_first":
            n, m = _shared(n, m, room)
        else:
            n, m = (room - m, m) if self._cutting == "only_first" else (n, room - n)
            if min(n, m) < 0:
                raise InputError(
                    f"truncation={self._cutting!r} cannot cut {len(a)} + {len(b or [])} tokens to {room}: "
                    "pass truncation='longest_first'"
                )
        if tokenizer.truncation_side == "left":
            return a[len(a) - n :], None if b is None else b[len(b) - m :]
        return a[:n], None if b is None else b[:m]


OPTIONS = tuple(field.name for field in fields(TokenRows))


def read_rows(options: dict[str, Any], owner: str) -> TokenRows:
    """Return the options of a call, checked. Raises OptionError for unknown options, InputError for invalid values."""
    require_known(options, OPTIONS, owner)
    rows = TokenRows(**options)
    _one_of("padding", rows.padding, (True, False, "longest", "max_length", "do_not_pad"))
    cutting = (True, False, None, "longest_first", "only_first", "only_second", "do_not_truncate")
    _one_of("truncation", rows.truncation, cutting)
    _one_of("padding_side", rows.padding_side, (None, "right", "left"))
    _one_of("return_tensors", rows.return_tensors, (None, "pt", "np"))
    if type(rows.stride) is not int or rows.stride < 0:
        raise InputError(f"stride is {rows.stride!r}, expected a whole number of tokens: leave it out for 0")
    for name, length in (("max_length", rows.max_length), ("pad_to_multiple_of", rows.pad_to_multiple_of)):
        if length is not None and (type(length) is not int or length < 1):
            raise InputError(
                f"{name} is {length!r}, expected a whole number of tokens, at least 1, or None: leave it out for None"
            )
    return rows


def _one_of(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    if not any(value is each or (isinstance(each, str) and value == each) for each in allowed):
        raise InputError(
            f"{name} is {value!r}, expected one of {', '.join(map(repr, allowed))}: leave it out for the default"
        )


def _included(option: bool | None, name: str, tokenizer: Builder) -> bool:
    return name in tokenizer.model_input_names if option is None else option


def _spread(special: Ids, spans: list[Span]) -> list[Span]:
    """Return a span for each id of a built row; special tokens have none: (0, 0)."""
    rest = iter(spans)
    return [(0, 0) if each else next(rest) for each in special]


def _shared(n: int, m: int, room: int) -> tuple[int, int]:
    """Return the lengths of two texts after cutting to the room; the longer text is cut first."""
    short, long = min(n, m), max(n, m)
    long = short if short > room else max(short, room - short)
    if short + long > room:
        short = room // 2
        long = short + room % 2
    return (long, short) if n > m else (short, long)
