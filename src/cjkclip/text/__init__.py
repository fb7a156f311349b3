"""The interface of every tokenizer, and checks of its inputs. n texts, L tokens (the context length).

Control characters are accepted: each tokenizer cleans them by its own rule.
"""

import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from cjkclip.arrays import Int64
from cjkclip.errors import InputError, TextError, TruncatedTextWarning

Truncate = Literal["cut", "error"]

LEAST = 3  # ids of a text: start, one word, end

_SILENT = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})  # control characters, joiners, direction marks, spaces
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # invisible letters: Hangul fillers, blank Braille pattern


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """Token ids of n texts, padded to the context length."""

    ids: Int64[np.ndarray, "n L"]
    mask: Int64[np.ndarray, "n L"]  # 1 = token, 0 = padding
    truncated: tuple[int, ...]  # indices of the texts that were cut

    def tell_cut(self, stacklevel: int = 1) -> None:
        """Issue a TruncatedTextWarning if a text was cut. `stacklevel` selects the caller, as in `warnings.warn`."""
        if self.truncated:
            which = ", ".join(map(str, self.truncated[:10])) + (", ..." if len(self.truncated) > 10 else "")
            warnings.warn(
                f"{len(self.truncated)} of {len(self.ids)} texts are longer than {self.ids.shape[1]} tokens and were "
                f"cut (index {which})",
                TruncatedTextWarning,
                stacklevel=stacklevel + 1,
            )


@runtime_checkable
class Tokenizer(Protocol):
    """Turn texts into inputs of a text tower."""

    context: int
    vocab_size: int
    pad: int  # the id of padding

    def __call__(self, texts: Sequence[str], *, truncate: Truncate = "cut", context: int | None = None) -> Tokens:
        """Return ids of texts, padded to `context` (None: the model's). Long texts are cut and listed, or an error."""
        ...

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of `texts` without start, end and padding, uncut."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids`, as far as it can be recovered."""
        ...

    def save(self, folder: Path) -> None:
        """Write the files from which this tokenizer can be loaded."""
        ...


def check_texts(texts: Any) -> list[str]:
    """Return `texts` as a list of plain strings. Raises TextError that names the first bad one."""
    if isinstance(texts, str | bytes):
        raise TextError(f"got one {type(texts).__name__}, expected a list of strings: pass [text]")
    try:
        items = list(texts)
    except TypeError as error:
        raise TextError(f"got {type(texts).__name__}, expected a list of strings: pass [text]") from error
    for index, text in enumerate(items):
        if not isinstance(text, str):
            raise TextError(f"text {index} is {type(text).__name__}, expected a string: pass str(...) or leave it out")
        if not _encodes(text):
            at = next(i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff")
            raise TextError(
                f"text {index} is not valid Unicode: a lone surrogate {text[at]!a} at character {at}. "
                "Decode the bytes it came from as UTF-8, or replace it"
            )
    return [str(text) for text in items]


def check_context(context: Any, most: int) -> int:
    """Return `context` if it is a length between 3 ids and the `most` that the text tower reads. Raises InputError."""
    if not isinstance(context, int) or isinstance(context, bool) or not LEAST <= context <= most:
        raise InputError(
            f"context is {context!r}, expected {LEAST} to {most} ids per text, the start and end included (the text "
            f"tower has {most} positions): for example context={most}"
        )
    return context


def require_words(text: str, name: str = "the query") -> str:
    """Return `text` if it contains a visible character; `name` describes it in the error message.

    Raises TextError if it is empty, or only white space, control characters and invisible letters.

    >>> require_words("고양이")
    '고양이'
    """
    [text] = check_texts([text])
    if all(unicodedata.category(c) in _SILENT or c in _BLANK for c in text):
        raise TextError(f"{name} {text[:20]!a} has no words: give a text with at least one visible character")
    return text


def pack(rows: Sequence[Sequence[int]], *, context: int, pad: int, truncate: str, ends: bool = True) -> Tokens:
    """Return rows of ids, each with its start and end token, as arrays of length `context`.

    With truncate="cut", a row that is too long keeps its end token if it `ends` with one. With truncate="error",
    raises TextError that names it.
    """
    if truncate not in ("cut", "error"):
        raise TextError(f"truncate is {truncate!r}, expected 'cut' or 'error'")
    long = tuple(i for i, row in enumerate(rows) if len(row) > context)
    if long and truncate == "error":
        lengths = ", ".join(f"text {i} has {len(rows[i])}" for i in long[:10])
        raise TextError(
            f"{len(long)} of {len(rows)} texts are longer than {context} tokens, the context length including start "
            f"and end: {lengths}{', ...' if len(long) > 10 else ''}. Shorten them, or pass "
            "truncate='cut'"
        )
    ids = np.full((len(rows), context), pad, dtype=np.int64)
    mask = np.zeros((len(rows), context), dtype=np.int64)
    for i, row in enumerate(rows):
        part = row[:context]
        if ends and len(row) > context:
            part = [*row[: context - 1], row[-1]]
        ids[i, : len(part)] = part
        mask[i, : len(part)] = 1
    return Tokens(ids=ids, mask=mask, truncated=long)


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
