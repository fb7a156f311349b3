"""What people type, made into labels, texts and pictures.

Refuses: words that are blank, names of pictures that do not exist, label files that are not UTF-8.
"""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from cjkclip.cli.options import Kind
from cjkclip.errors import ImageError, InputError
from cjkclip.gallery.files import find_pictures, is_picture_name

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One thing to be encoded: a text, or the path of a picture."""

    name: str
    picture: Path | None = None


def split_labels(text: str) -> list[str]:
    """Labels between commas; the full-width and the ideographic comma count too.

    >>> split_labels("猫，犬、鳥, cat")
    ['猫', '犬', '鳥', 'cat']
    """
    return [part.strip() for part in re.split("[,，、､]", text) if part.strip()]


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 file that are not blank; '-' is standard input. Raises InputError."""
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def gather_labels(joined: Sequence[str], single: Sequence[str], files: Sequence[Path]) -> list[str]:
    """All labels in the order given, each once."""
    lines = [line for path in files for line in read_lines(path)]
    labels = [label for text in joined for label in split_labels(text)]
    return list(dict.fromkeys([*labels, *(label.strip() for label in single if label.strip()), *lines]))


def sort_inputs(words: Sequence[str], kind: Kind, *, folders: bool) -> list[Asked]:
    """Which inputs are pictures and which are texts; with `folders`, a folder stands for its pictures."""
    asked: list[Asked] = []
    for word in words:
        if kind == "text" or not word:
            asked.append(Asked(name=word))
        elif folders and Path(word).is_dir():
            asked += [Asked(name=str(path), picture=path) for path in find_pictures(Path(word))]
        elif kind == "picture" or is_picture_name(word) or _is_file(word):
            asked.append(Asked(name=word, picture=Path(word)))
        else:
            asked.append(Asked(name=word))
    return asked


def skipping_bad(run: Callable[[list[int]], list[_T]], count: int) -> tuple[list[_T | None], dict[int, str]]:
    """Run over the inputs 0..count-1; leave out those that an ImageError lists, and run again over the rest.

    Returns one result per input, None for the bad ones, and what was wrong with them.
    """
    left, bad = list(range(count)), dict[int, str]()
    results: list[_T | None] = [None] * count
    while left:
        try:
            done = run(left)
        except ImageError as error:
            if not error.problems:
                raise
            bad.update({left[at]: message for at, message in error.problems})
            left = [index for index in left if index not in bad]
            continue
        for index, result in zip(left, done, strict=True):
            results[index] = result
        break
    return results, bad


def _is_file(word: str) -> bool:
    try:
        return Path(word).is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL in it: no file, so a text
        return False
