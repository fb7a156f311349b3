"""Tokenize only the beginning of a text that is far longer than a row, whose ids would be cut off anyway.

The beginning grows until it fills more than a row, or is the whole text. So a text that fits always gets its own ids,
even if it begins with a million spaces. A text that does not fit may get other ids near the end of its row if it has no
white space, since a byte-pair merge depends on the rest of its word.
"""

from collections.abc import Callable, Iterable

LEAST = 4096  # characters that are always read
MARGIN = 256  # ids of the last word that may change with its rest: a WordPiece of 200 characters becomes one unknown id
Rows = list[list[int]]


def rows_of(texts: list[str], rows: Callable[[list[str]], Rows], context: int, longest: int) -> Rows:
    """Return ids of the beginning of each text, at least those that a row of `context` ids can hold.

    rows: returns the ids of whole texts. longest: characters of the longest token.
    """
    size = max(LEAST, context * longest)
    result = rows([text[:size] for text in texts])
    for index, text in enumerate(texts):
        length = size
        while length < len(text) and len(result[index]) <= context + MARGIN:
            length *= 4
            result[index] = rows([text[:length]])[0]
    return result


def longest(tokens: Iterable[str]) -> int:
    """Return the number of characters of the longest token."""
    return max(map(len, tokens), default=1)
