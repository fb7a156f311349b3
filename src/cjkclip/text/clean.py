"""The text cleaning of OpenAI's CLIP, which open_clip shares: ftfy, HTML entities, white space, lower case."""

import html
import re

# ftfy changes none of these characters, alone or together: it acts on '&', on control characters, and on
# letters and marks outside these ranges (tests/test_text.py tries every one). They are kana without the
# combining marks, ideographs of the first block and Hangul syllables, all in normal form C already.
_PLAIN = re.compile(r"[\t\n\r -%'-~\u3001-\u3011ぁ-ゖァ-ー一-鿿가-힣]*")
# html.unescape turns a number beyond Unicode into U+FFFD; eight digits without leading zeros are always beyond
_LONG_NUMBER = re.compile(r"&#(?=\d{4000})0*(\d{1,8})\d*")


def clean(text: str) -> str:
    """Return the text as OpenAI's tokenizer cleans it; it may become empty.

    >>> clean("Don’t　&amp;  ＳＴＯＰ")
    "don't & stop"
    """
    if _PLAIN.fullmatch(text) is None:
        import ftfy  # imported only for texts that need it: the import takes a tenth of a second

        text = _unescape(_unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def _unescape(text: str) -> str:
    """Apply html.unescape; numbers of thousands of digits, which int() rejects, are shortened first."""
    return html.unescape(_LONG_NUMBER.sub(r"&#\1", text))
