"""From texts to token ids: what every tokenizer shares. n texts, L tokens (the context length).

Refuses: one string where a list is meant, anything that is not a string, lone surrogates; a query without a
word. Control characters are legal: each tokenizer cleans them by its own rule.
"""

import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from cjkclip.arrays import Int64
from cjkclip.errors import TextError, TruncatedTextWarning

Truncate = Literal["cut", "error"]

_SILENT = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp"})  # controls, joiners and marks of direction, spaces
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # letters by category that draw nothing: Hangul fillers, Braille


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """Token ids of n texts, padded to the context length."""

    ids: Int64[np.ndarray, "n L"]
    mask: Int64[np.ndarray, "n L"]  # 1 = keep, 0 = padding
    truncated: tuple[int, ...]  # indices of the texts that were cut

    def tell_cut(self, stacklevel: int = 1) -> None:
        """Warn with TruncatedTextWarning, if a text was cut, at the caller that `stacklevel` says, as `warn` does."""
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
    """What a family hands to the text tower."""

    context: int
    vocab_size: int
    pad: int  # the id of padding

    def __call__(self, texts: Sequence[str], *, truncate: Truncate = "cut", context: int | None = None) -> Tokens:
        """Ids of `texts` in rows of length `context` (None: the model's); long ones are cut and listed, or refused."""
        ...

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of `texts` alone, however many: nothing in front or behind, nothing cut."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text that `ids` stand for, as far as it can be known."""
        ...

    def save(self, folder: Path) -> None:
        """Write the files that this tokenizer can be loaded from again."""
        ...


def check_texts(texts: Any) -> list[str]:
    """What the caller handed over, as a list of plain strings. TextError names the first bad one."""
    if isinstance(texts, str | bytes):
        raise TextError(f"got one {type(texts).__name__}, expected a list of strings: pass [text]")
    try:
        found = list(texts)
    except TypeError as error:
        raise TextError(f"got {type(texts).__name__}, expected a list of strings") from error
    for index, text in enumerate(found):
        if not isinstance(text, str):
            raise TextError(f"text {index} is {type(text).__name__}, expected a string")
        if not _encodes(text):
            at = next(i for i, c in enumerate(text) if "\ud800" <= c <= "\udfff")
            raise TextError(
                f"text {index} is not valid Unicode: a lone surrogate {text[at]!a} at character {at}. "
                "Decode the bytes it came from as UTF-8, or replace it"
            )
    return [str(text) for text in found]


def require_words(text: str, name: str = "the query") -> str:
    """`text` itself if it holds anything to look for; `name` says in the error what it is.

    Raises TextError if it is empty, or only white space, control characters and letters that draw nothing.

    >>> require_words("고양이")
    '고양이'
    """
    [text] = check_texts([text])
    if all(unicodedata.category(c) in _SILENT or c in _BLANK for c in text):
        raise TextError(f"{name} {text[:20]!a} has no words: write what to look for")
    return text


def pack(rows: Sequence[Sequence[int]], *, context: int, pad: int, truncate: str, ends: bool = True) -> Tokens:
    """Rows of ids, each with its start and end token, as arrays of length `context`.

    A row that is too long keeps its end token as the last one if it `ends` with one, or TextError names it
    (truncate="error").
    """
    if truncate not in ("cut", "error"):
        raise TextError(f"truncate is {truncate!r}, expected 'cut' or 'error'")
    long = tuple(i for i, row in enumerate(rows) if len(row) > context)
    if long and truncate == "error":
        lengths = ", ".join(f"text {i} has {len(rows[i])}" for i in long[:10])
        raise TextError(
            f"{len(long)} of {len(rows)} texts are longer than the {context} tokens this model reads, start "
            f"and end counted: {lengths}{', ...' if len(long) > 10 else ''}. Shorten them, or have them cut: "
            "truncate='cut'"
        )
    ids = np.full((len(rows), context), pad, dtype=np.int64)
    mask = np.zeros((len(rows), context), dtype=np.int64)
    for i, row in enumerate(rows):
        kept = row[:context]
        if ends and len(row) > context:
            kept = [*row[: context - 1], row[-1]]
        ids[i, : len(kept)] = kept
        mask[i, : len(kept)] = 1
    return Tokens(ids=ids, mask=mask, truncated=long)


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
