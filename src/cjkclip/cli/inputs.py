"""What people type, made into labels, texts, pictures and models.

Refuses: folders without pictures, label files that are not UTF-8, facts without a value.
"""

import glob
import json
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO, cast

import typer

from cjkclip.cli.options import Kind
from cjkclip.cli.report import Report
from cjkclip.cli.streams import ON_WINDOWS
from cjkclip.errors import InputError
from cjkclip.gallery.files import find_pictures, is_file, is_picture_name, leads_to_folder

Asked = str | Path  # one thing to be encoded: a text, or the path of a picture


def split_labels(text: str) -> list[str]:
    """Labels between commas; the full-width and the ideographic comma count too.

    >>> split_labels("猫，犬、鳥, cat")
    ['猫', '犬', '鳥', 'cat']
    """
    return [part.strip() for part in re.split("[,，、､]", text) if part.strip()]


def read_lines(path: Path) -> list[str]:
    r"""The lines of a UTF-8 file, blank ones too, each without the space around it; '-' is standard input.

    They end at \n, \r\n or \r alone: str.splitlines would break texts at U+2028 and at controls. Raises InputError.
    """
    try:
        raw = _typed() if str(path) == "-" else path.read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    return lines if lines[-1] else lines[:-1]  # what follows the last end of a line is no line


def _typed() -> bytes:
    if cast(TextIO | None, sys.stdin) is None:  # closed, as by a shell's <&-
        raise InputError("'-' is standard input, which is closed: name a file, or pipe the lines in")
    return sys.stdin.buffer.read()


def gather_labels(typed: Sequence[str], files: Sequence[Path]) -> list[str]:
    """All labels in the order given, each once. Lines of a file are whole labels, commas and all; blank ones none."""
    labels = [label for text in typed for label in split_labels(text)]
    return list(dict.fromkeys([*labels, *(line for path in files for line in read_lines(path) if line)]))


def picture_paths(report: Report, words: Sequence[str]) -> list[Path]:
    """The pictures named; a folder stands for all in it. Raises InputError for a folder without any."""
    paths: list[Path] = []
    for word in globbed(words):
        require_filled(word)
        paths += find_pictures(Path(word), report.problem) if leads_to_folder(word) else [Path(word)]
    return paths


def globbed(words: Sequence[str]) -> list[str]:
    """Words, and names of pictures with wildcards as a shell spreads them, which Windows leaves to programs."""
    return [each for word in words for each in (_matches(word) if ON_WINDOWS else []) or [word]]


def _matches(word: str) -> list[str]:
    """By os and glob, since pathlib's is_file may raise and its patterns do not begin at a drive."""
    wild = is_picture_name(word) and glob.has_magic(word) and not os.path.isfile(word)  # noqa: PTH113
    return sorted(glob.glob(word)) if wild else []  # noqa: PTH207


def sort_input(word: str, kind: Kind) -> Asked:
    """A picture as a path, a text as it is. auto: files and picture-like names are pictures."""
    if kind == "picture" or (kind == "auto" and (is_picture_name(word) or is_file(word))):
        return Path(word)
    return word


def require_filled(word: str) -> None:
    """Raise InputError for an empty argument, which as a path would mean the current folder."""
    if not word:
        raise InputError("an argument is empty: name a picture or a folder; is a variable of the shell not set?")


def read_facts(typed: Sequence[str]) -> dict[str, Any]:
    """Facts from NAME=VALUE. Raises typer.BadParameter.

    >>> read_facts(["vision.act=quick_gelu", "vision.heads=12", "scale=null"])
    {'vision.act': 'quick_gelu', 'vision.heads': 12, 'scale': None}
    """
    facts: dict[str, Any] = {}
    for word in typed:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"--fact {word!r} is not NAME=VALUE, as in --fact vision.act=quick_gelu")
        try:
            facts[name] = json.loads(value)
        except json.JSONDecodeError:
            facts[name] = value
    return facts
