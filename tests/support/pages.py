"""Program output as a page of the documentation shows it."""

import re


def words(text: str) -> list[str]:
    """Return the words that the shown and the real output must share: no numbers, frames or bars.

    >>> words("│ 소방차  0.31 │ fire engine")
    ['소방차', 'fire', 'engine']
    """
    return re.findall(r"[^\W\d_]{2,}", text)


def is_shown(shown: str, printed: str) -> bool:
    """Whether a page shows what a command prints: the same words, as often, in the same order; nothing shows nothing.

    A line of three dots stands for lines that are left out.

    >>> is_shown("b a", "b 0.3 a"), is_shown("aa bb", "bb aa"), is_shown("aa", "aa aa"), is_shown("", "aa")
    (True, False, False, True)
    >>> is_shown("aa\\n...\\ndd", "aa bb cc dd"), is_shown("bb\\n...", "aa bb"), is_shown("...\\nbb", "aa bb bb")
    (True, False, True)
    """
    if not shown.strip():
        return True
    parts = [words(part) for part in re.split(r"^\.\.\.$", shown, flags=re.MULTILINE)]
    pattern = r"(?: \S+)*?".join("".join(f" {re.escape(word)}" for word in part) for part in parts)
    return re.fullmatch(pattern, "".join(f" {word}" for word in words(printed))) is not None
