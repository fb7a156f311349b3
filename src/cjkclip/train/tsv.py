"""Read a user's training pairs: a UTF-8 file with `image<TAB>caption` on each line. C = 3 channels, S pixels a side.

An image may appear on several lines, with one caption each, and a caption with several images: all are right answers.
Paths are relative to the file. Each image is decoded once before training starts, so that every bad line is reported
with its number.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cjkclip.arrays import UInt8
from cjkclip.config import Image
from cjkclip.errors import ImageError, InputError
from cjkclip.image import load_pixels, open_picture
from cjkclip.machine.threads import on_every_core
from cjkclip.train.data import Corpus, Rows, Thing

SHOWN = 10  # problems listed in a message


@dataclass(frozen=True, kw_only=True)
class Files:
    """Images that are opened when a batch needs them, preprocessed by the rules of a model."""

    paths: tuple[Path, ...]
    rules: Image

    def read(self, rows: Rows) -> UInt8[np.ndarray, "n 3 S S"]:
        """Return the images of these rows. Raises ImageError for one that became unreadable after the check."""
        indices: list[int] = rows.tolist()
        pixels = load_pixels([self.paths[row] for row in indices], self.rules)
        mean, std = (np.array(v, np.float32)[:, None, None] for v in (self.rules.mean, self.rules.std))
        return ((pixels * std + mean) * 255).round().clip(0, 255).astype(np.uint8)


def read_pairs(path: str | Path) -> list[tuple[Path, str]]:
    """Read (path, caption) pairs from a TSV file and decode every image once. Raises InputError listing bad lines."""
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; expected a text file of image<TAB>caption lines") from error
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"{path}: not a UTF-8 text file ({error}); save it as UTF-8") from error
    pairs: dict[int, tuple[Path, str]] = {}
    problems: dict[int, str] = {}
    for number, line in enumerate(lines, start=1):
        fields = [field.strip() for field in line.rstrip("\r").split("\t")]
        if fields == [""]:
            continue
        if len(fields) != 2 or not all(fields):
            problems[number] = f"{len(fields)} fields, expected image<TAB>caption, neither empty"
        else:
            pairs[number] = path.parent / fields[0], fields[1]
    bad = _unreadable(list(dict.fromkeys(picture for picture, _ in pairs.values())))
    problems |= {number: bad[picture] for number, (picture, _) in pairs.items() if picture in bad}
    good = [pair for pair in pairs.values() if pair[0] not in bad]
    if problems or not good:
        listed = [f"line {number}: {problems[number]}" for number in sorted(problems)[:SHOWN]]
        listed += [f"... and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise InputError(f"{path}: {len(good)} good pairs, {len(problems)} bad lines: correct the file", listed=listed)
    return good


def _unreadable(pictures: Sequence[Path]) -> dict[Path, str]:
    """Return the error message of every unreadable image. Images are decoded on all cores, and then freed."""

    def look(picture: Path) -> str | None:
        try:
            open_picture(picture)
        except ImageError as error:
            return str(error)
        return None

    bad: dict[Path, str] = {}
    for picture, why in zip(pictures, on_every_core(look, pictures, "cjkclip-pictures"), strict=True):
        if why is not None:
            bad[picture] = why
    return bad


def corpus_of(pairs: Sequence[tuple[Path, str]], rules: Image) -> Corpus:
    """Return a corpus with one thing per image path, which has all captions of that path."""
    captions: dict[Path, list[int]] = {}
    numbers: dict[str, int] = {}
    for picture, caption in pairs:
        captions.setdefault(picture, []).append(numbers.setdefault(caption, len(numbers)))
    things = [
        Thing(looks=((row,),), captions=tuple(texts), weights=(1.0,) * len(texts))
        for row, texts in enumerate(captions.values())
    ]
    return Corpus(Files(paths=tuple(captions), rules=rules), things, list(numbers))
