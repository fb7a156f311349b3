"""The text cleaning of OpenAI's CLIP, which open_clip shares: ftfy, HTML entities, white space, lower case.

Refuses nothing: every valid string has a cleaned form, maybe an empty one.
"""

import html
import re

# ftfy changes none of these characters, alone or together: it acts on '&', on control characters, and on
# letters and marks outside these ranges (tests/test_text.py tries every one). They hold kana without the
# combining marks, ideographs of the first block and Hangul syllables, all in normal form C already.
_PLAIN = re.compile(r"[\t\n\r -%'-~\u3001-\u3011ぁ-ゖァ-ー一-鿿가-힣]*")
# html.unescape makes U+FFFD of a number beyond Unicode, as eight digits without zeros in front are
_LONG_NUMBER = re.compile(r"&#(?=\d{4000})0*(\d{1,8})\d*")


def clean(text: str) -> str:
    """The text as OpenAI's tokenizer sees it.

    >>> clean("Don’t　&amp;  ＳＴＯＰ")
    "don't & stop"
    """
    if _PLAIN.fullmatch(text) is None:
        import ftfy  # a tenth of a second to import: only texts that need it pay

        text = _unescape(_unescape(ftfy.fix_text(text)))
    return " ".join(text.split()).lower()


def _unescape(text: str) -> str:
    """html.unescape. Of a character's number with thousands of digits, which Python refuses to read, only the start."""
    return html.unescape(_LONG_NUMBER.sub(r"&#\1", text))
