"""The text cleaning of OpenAI's CLIP, which open_clip shares: ftfy, HTML entities, white space, lower case."""

import html
import re

# ftfy changes none of these characters, alone or together: it acts on '&', on control characters, and on
# letters and marks outside these ranges (tests/test_text.py tries every one). They are kana without the
# combining marks, ideographs of the first block and Hangul syllables, all in normal form C already.
_PLAIN = re.compile(r"[\t\n\r -%'-~\u3001-\u3011ぁ-ゖァ-ー一-鿿가-힣]*")
# html.unescape turns a number beyond Unicode into U+FFFD; eight digits without leading zeros are always beyond
_LONG_NUMBER = re.compile(r"&#(?=\d{4000})0*(\d{1,8})\d*")

# Entities of "&" inside each other. ftfy removes one level in each pass over the text, so thousands of levels take
# time that grows with the square of their number. It ends where eight levels end too.
_NESTED = re.compile(r"&(?:(?:amp|#38|#x26);){9,}")
_EIGHT = "&" + 8 * "amp;"
MOST_LEVELS = 40  # of other entities inside each other; the deeper ones of such a text stay as they are


def clean(text: str) -> str:
    """Return the text as OpenAI's tokenizer cleans it; it may become empty.

    >>> clean("Don’t　&amp;  ＳＴＯＰ")
    "don't & stop"
    """
    if _PLAIN.fullmatch(text) is None:
        import ftfy  # imported only for texts that need it: the import takes a tenth of a second

        text = _flat(text)
        text = _unescape(_unescape(ftfy.fix_text(text, unescape_html="auto" if _ends(text) else False)))
    return " ".join(text.split()).lower()


def _flat(text: str) -> str:
    """Return the text with at most eight levels of "&amp;amp;", where ftfy removes all of them.

    It removes none from the first line with "<" on.
    """
    end = text.find("<")
    end = len(text) if end < 0 else text.rfind("\n", 0, end) + 1
    return _NESTED.sub(_EIGHT, text[:end]) + text[end:]


def _ends(text: str) -> bool:
    """Whether unescaping ends after at most MOST_LEVELS passes."""
    for _ in range(MOST_LEVELS):
        text, before = _unescape(text), text
        if text == before:
            return True
    return False


def _unescape(text: str) -> str:
    """Apply html.unescape; numbers of thousands of digits, which int() rejects, are shortened first."""
    return html.unescape(_LONG_NUMBER.sub(r"&#\1", text))
