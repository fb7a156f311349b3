"""Where cjkclip keeps what it can make again: safe to delete at any time.

Hugging Face's downloads lie in huggingface_hub's own cache, not here.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

DAY = 86_400  # seconds


def folder(*parts: str) -> Path:
    """A folder of the cache, `~/.cache/cjkclip` or `$XDG_CACHE_HOME/cjkclip`; it need not exist.

    For a user without a home it is a path at which nothing can be made, so that each use is an OSError.
    """
    place = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        return place.expanduser().joinpath("cjkclip", *parts)
    except RuntimeError:  # no home folder can be told
        return Path(os.devnull, "cjkclip", *parts)


def remembered(file: Path) -> bytes | None:
    """What `remember` wrote, or None. Using it keeps it from being forgotten."""
    try:
        found = file.read_bytes()
    except OSError:
        return None
    used(file)
    return found


def used(entry: Path) -> None:
    """Keep a file or folder from being forgotten, if the cache can be written."""
    with contextlib.suppress(OSError):
        os.utime(entry)


def remember(file: Path, content: bytes, most: int) -> None:
    """Write whole or not at all, then forget the files of this kind that were not used for longest, all but `most`.

    A cache that cannot be written costs time and nothing else.
    """
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            fresh.write_bytes(content)
            fresh.replace(file)
        finally:
            fresh.unlink(missing_ok=True)  # half of a file, if the disk is full
        forget(file.parent.glob(f"*{file.suffix}*"), most)  # what a program that was killed left, too


def forget(entries: Iterable[Path], most: int) -> None:
    """Delete the files and folders that were not used for longest, all but `most`. Raises OSError.

    Hidden ones are unfinished: those of a day ago are of programs that were killed, and go too.
    """
    oldest_first = sorted((path.stat().st_mtime, path) for path in entries)
    kept = [path for _, path in oldest_first if not path.name.startswith(".")]
    left = [path for age, path in oldest_first if path.name.startswith(".") and age < time.time() - DAY]
    for old in [*kept[:-most], *left]:
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink()
