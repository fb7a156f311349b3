"""From what a person points at to a list of picture files.

Refuses: a folder that does not exist, cannot be read or holds no picture. Looks into folders below, skips hidden
ones, and does not follow links to folders, so no folder is walked twice.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from cjkclip.errors import InputError

OnFolder = Callable[[str, InputError], None]  # a folder that cannot be read, and why

ENDINGS = frozenset(
    {
        ".avif",
        ".bmp",
        ".gif",
        ".heic",
        ".heif",
        ".ico",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".pbm",
        ".pgm",
        ".png",
        ".pnm",
    }
    | {".ppm", ".qoi", ".tga", ".tif", ".tiff", ".webp"}
)


def is_picture_name(name: str) -> bool:
    """Whether a name ends like that of a picture file.

    >>> is_picture_name("ねこ.JPG"), is_picture_name("ねこ")
    (True, False)
    """
    return Path(name).suffix.lower() in ENDINGS


def find_pictures(folder: Path, on_error: OnFolder | None = None) -> list[Path]:
    """All files in and below `folder` whose names end like pictures, in the order of their names.

    Whether they are pictures is found out when they are read. A folder below that cannot be read is handed to
    `on_error(name, error)` and left out. Raises InputError when there is none, or without `on_error` for that folder.
    """
    return [Path(name) for name in picture_names(folder, on_error)]


def picture_names(folder: Path, on_error: OnFolder | None = None) -> list[str]:
    """The same as text, which takes a quarter of the memory of Path objects."""
    folder = Path(folder)
    _require_folder(folder)

    def refused(error: OSError) -> None:
        name = str(error.filename)
        why = InputError(f"{name!r} cannot be read: {error.strerror or error}")
        if on_error is None or name == str(folder):
            raise why from error
        on_error(name, why)

    found: list[str] = []
    for top, folders, names in os.walk(folder, onerror=refused):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _leads_away(Path(top, name)))
        found += [str(Path(top, name)) for name in names if is_picture_name(name) and not name.startswith(".")]
    if not found:
        raise InputError(f"{str(folder)!r} holds no picture (looked for {' '.join(sorted(ENDINGS))})")
    return sorted(found, key=lambda name: name.replace(os.sep, "\0"))  # what a folder holds comes together


def _leads_away(folder: Path) -> bool:
    """Is it one of Windows' junctions? Not every version of Python knows them for links."""
    junction: int | None = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)
    if junction is None:  # no other system has them, nor a look at every folder to spare
        return False
    try:
        return getattr(folder.lstat(), "st_reparse_tag", 0) == junction
    except OSError:  # walking into it tells why
        return False


def _require_folder(folder: Path) -> None:
    try:
        is_folder = stat.S_ISDIR(folder.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise InputError(f"{str(folder)!r} does not exist: name a folder of pictures") from error
    except OSError as error:
        raise InputError(f"{str(folder)!r} cannot be read: {error.strerror or error}") from error
    if not is_folder:
        raise InputError(f"{str(folder)!r} is a file, not a folder: name a folder of pictures")


def is_folder(word: str) -> bool:
    """Whether a word names a folder. What cannot be a name (nothing, too long, or with a NUL) does not."""
    return stat.S_ISDIR(_mode(word))


def leads_to_folder(word: str) -> bool:
    """The same of an input, one of several: what nobody may look at is told when it is opened."""
    try:
        return is_folder(word)
    except InputError:
        return False


def is_file(word: str) -> bool:
    """Whether a word names a file, likewise."""
    return stat.S_ISREG(_mode(word))


def _mode(word: str) -> int:
    """The kind of what a word names, 0 for nothing. Raises InputError where nobody may look whether it is there."""
    try:
        return Path(word).stat().st_mode if word else 0
    except PermissionError as error:
        raise InputError(f"{word!r} cannot be read: {error.strerror or error}") from error
    except (OSError, ValueError):
        return 0
