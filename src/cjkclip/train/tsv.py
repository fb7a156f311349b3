"""A user's pairs: a text file with one `picture<TAB>caption` a line, UTF-8. C = 3 channels, S pixels a side.

A picture may stand on several lines, one caption each, and a caption beside several pictures: all are right answers.
Paths are relative to the file. Refuses: lines without exactly one tab, empty fields, pictures that cannot be read;
every problem is told with its line number before any training starts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cjkclip.arrays import UInt8
from cjkclip.config import Image
from cjkclip.errors import InputError
from cjkclip.image import load_pixels
from cjkclip.train.data import Corpus, Rows, Thing

SHOWN = 10  # problems that a message lists


@dataclass(frozen=True, kw_only=True)
class Files:
    """Pictures opened when they are drawn, prepared by a model's own rules at `size` pixels."""

    paths: tuple[Path, ...]
    rules: Image

    def read(self, rows: Rows) -> UInt8[np.ndarray, "n 3 S S"]:
        """The pictures of these rows. Raises ImageError for one that has gone bad since it was checked."""
        chosen: list[int] = rows.tolist()
        pixels = load_pixels([self.paths[row] for row in chosen], self.rules)
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (self.rules.mean, self.rules.std))
        return ((pixels * std + mean) * 255).round().clip(0, 255).astype(np.uint8)


def read_pairs(path: str | Path) -> list[tuple[Path, str]]:
    """The pairs of a TSV file. Raises InputError that lists the bad lines."""
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected a text file of picture<TAB>caption lines") from error
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"{path}: not a UTF-8 text file ({error}); save it as UTF-8") from error
    pairs: list[tuple[Path, str]] = []
    problems: list[str] = []
    for number, line in enumerate(lines, start=1):
        fields = [field.strip() for field in line.rstrip("\r").split("\t")]
        if fields == [""]:
            continue
        if len(fields) != 2 or not all(fields):
            problems.append(f"line {number}: {len(fields)} fields, expected picture<TAB>caption, neither empty")
        elif not (path.parent / fields[0]).is_file():
            problems.append(f"line {number}: no file {fields[0]!r} beside {path.name}")
        else:
            pairs.append((path.parent / fields[0], fields[1]))
    if problems or not pairs:
        more = [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise InputError(
            f"{path}: {len(pairs)} good pairs, {len(problems)} bad lines", listed=[*problems[:SHOWN], *more]
        )
    return pairs


def corpus_of(pairs: Sequence[tuple[Path, str]], rules: Image) -> Corpus:
    """Things by picture: all captions of a path belong to one thing. Raises InputError for pictures of no use."""
    captions: dict[Path, list[int]] = {}
    numbers: dict[str, int] = {}
    for picture, caption in pairs:
        captions.setdefault(picture, []).append(numbers.setdefault(caption, len(numbers)))
    things = [
        Thing(looks=((row,),), captions=tuple(texts), weights=(1.0,) * len(texts))
        for row, texts in enumerate(captions.values())
    ]
    return Corpus(Files(paths=tuple(captions), rules=rules), things, list(numbers))
