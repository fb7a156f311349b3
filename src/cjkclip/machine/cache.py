"""The cache of cjkclip on disk. Its files can be computed again, so it is safe to delete at any time.

Downloads from Hugging Face are in huggingface_hub's own cache, not here.
"""

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path

DAY = 86_400  # seconds


def folder(*parts: str) -> Path:
    """Return a directory of the cache, `~/.cache/cjkclip` or `$XDG_CACHE_HOME/cjkclip`; it need not exist.

    For a user without a home directory it is a path that cannot be created, so that each use raises OSError.
    """
    root = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        return root.expanduser().joinpath("cjkclip", *parts)
    except RuntimeError:  # the home directory is unknown
        return Path(os.devnull, "cjkclip", *parts)


def remembered(file: Path) -> bytes | None:
    """Return the content that `remember` wrote, or None, and mark the file as used."""
    try:
        content = file.read_bytes()
    except OSError:
        return None
    used(file)
    return content


def used(entry: Path) -> None:
    """Mark a file or directory as used now, so that others are deleted first. Does nothing in a read-only cache."""
    with contextlib.suppress(OSError):
        os.utime(entry)


def remember(file: Path, content: bytes, most: int) -> None:
    """Write a file completely or not at all, then delete the least recently used files of its kind, down to `most`.

    If the cache cannot be written, the content is computed again next time.
    """
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        fresh = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            fresh.write_bytes(content)
            fresh.replace(file)
        finally:
            fresh.unlink(missing_ok=True)  # an incomplete file, if the disk is full
        forget(file.parent.glob(f"*{file.suffix}*"), most)  # files of killed programs too


def forget(entries: Iterable[Path], most: int) -> None:
    """Delete the least recently used files and directories, down to `most`. Raises OSError.

    Hidden ones are unfinished; if they are older than a day, their program was killed, and they are deleted too.
    """
    oldest_first = sorted((path.stat().st_mtime, path) for path in entries)
    finished = [path for _, path in oldest_first if not path.name.startswith(".")]
    abandoned = [path for age, path in oldest_first if path.name.startswith(".") and age < time.time() - DAY]
    for old in [*finished[:-most], *abandoned]:
        if old.is_dir():
            shutil.rmtree(old)
        else:
            old.unlink()
