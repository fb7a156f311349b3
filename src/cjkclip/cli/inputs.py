"""Command line arguments as labels, texts, images and config values."""

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

TextOrPath = str | Path  # a text, or the path of an image


def split_labels(text: str) -> list[str]:
    """Split labels at commas; the full-width and the ideographic comma count too.

    >>> split_labels("猫，犬、鳥, cat")
    ['猫', '犬', '鳥', 'cat']
    """
    return [part.strip() for part in re.split("[,，、､]", text) if part.strip()]


def read_lines(path: Path) -> list[str]:
    r"""Return the stripped lines of a UTF-8 file, including blank ones. '-' is standard input.

    Lines end at \n, \r\n or \r alone: str.splitlines would break texts at U+2028 and at controls. Raises InputError.
    """
    try:
        raw = _standard_input() if str(path) == "-" else path.read_bytes()
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{str(path)!r} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{str(path)!r} is not UTF-8 (byte {error.start}): save it as UTF-8") from error
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text)]
    return lines if lines[-1] else lines[:-1]  # the end of the last line starts no new one


def _standard_input() -> bytes:
    if cast(TextIO | None, sys.stdin) is None:  # closed, as by a shell's <&-
        raise InputError("'-' is standard input, which is closed: pass a file, or pipe the lines in")
    return sys.stdin.buffer.read()


def gather_labels(typed: Sequence[str], files: Sequence[Path]) -> list[str]:
    """Return all labels in order, without duplicates. Each line of a file is one label, even if it has commas."""
    labels = [label for text in typed for label in split_labels(text)]
    return list(dict.fromkeys([*labels, *(line for path in files for line in read_lines(path) if line)]))


def picture_paths(report: Report, words: Sequence[str]) -> list[Path]:
    """Return the image paths; a directory is replaced by its images. Raises InputError for a directory without any."""
    paths: list[Path] = []
    for word in globbed(words):
        require_filled(word)
        paths += find_pictures(Path(word), report.problem) if leads_to_folder(word) else [Path(word)]
    return paths


def globbed(words: Sequence[str]) -> list[str]:
    """Expand wildcards in image names, which Windows leaves to the program."""
    return [each for word in words for each in (_matches(word) if ON_WINDOWS else []) or [word]]


def _matches(word: str) -> list[str]:
    """Expand one word. os and glob are used because pathlib's is_file may raise and its patterns start at no drive."""
    wild = is_picture_name(word) and glob.has_magic(word) and not os.path.isfile(word)  # noqa: PTH113
    return sorted(glob.glob(word)) if wild else []  # noqa: PTH207


def sort_input(word: str, kind: Kind) -> TextOrPath:
    """Return an image as a path, a text unchanged. auto: files and names with an image extension are images."""
    if kind == "picture" or (kind == "auto" and (is_picture_name(word) or is_file(word))):
        return Path(word)
    return word


def require_filled(word: str) -> None:
    """Raise InputError for an empty argument, which as a path would mean the current directory."""
    if not word:
        raise InputError("an argument is empty: pass an image or a directory (is a shell variable unset?)")


def read_facts(typed: Sequence[str]) -> dict[str, Any]:
    """Parse config values from NAME=VALUE. Raises typer.BadParameter.

    >>> read_facts(["vision.act=quick_gelu", "vision.heads=12", "scale=null"])
    {'vision.act': 'quick_gelu', 'vision.heads': 12, 'scale': None}
    """
    facts: dict[str, Any] = {}
    for word in typed:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"--fact {word!r} is not NAME=VALUE; write it as in --fact vision.act=quick_gelu")
        try:
            facts[name] = json.loads(value)
        except json.JSONDecodeError:
            facts[name] = value
    return facts
