"""Find image files in and below a directory, and check whether a path is a file or a directory.

Hidden directories are skipped and links to directories are not followed, so no directory is walked twice.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path

from cjkclip.errors import InputError

OnFolder = Callable[[str, InputError], None]  # a directory that cannot be read, and the reason

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
    """Whether a name has the extension of an image file.

    >>> is_picture_name("ねこ.JPG"), is_picture_name("ねこ")
    (True, False)
    """
    return Path(name).suffix.lower() in ENDINGS


def find_pictures(folder: Path, on_error: OnFolder | None = None) -> list[Path]:
    """Return all files in and below `folder` that have an image extension, in the order of their names.

    The files are not opened. A directory below that cannot be read is passed to `on_error(name, error)` and left out;
    without `on_error` its InputError is raised. Raises InputError if `folder` cannot be read or no file remains.
    """
    return [Path(name) for name in picture_names(folder, on_error)]


def picture_names(folder: Path, on_error: OnFolder | None = None) -> list[str]:
    """Return the same as strings, which take a quarter of the memory of Path objects."""
    folder = Path(folder)
    _require_folder(folder)

    def failed(error: OSError) -> None:
        name = str(error.filename)
        reason = InputError(f"{name!r} cannot be read: {error.strerror or error}")
        if on_error is None or name == str(folder):
            raise reason from error
        on_error(name, reason)

    paths: list[str] = []
    for top, folders, names in os.walk(folder, onerror=failed):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _leads_away(Path(top, name)))
        paths += [str(Path(top, name)) for name in names if is_picture_name(name) and not name.startswith(".")]
    if not paths:
        raise InputError(f"{str(folder)!r} contains no image file (extensions: {' '.join(sorted(ENDINGS))})")
    return sorted(paths, key=lambda name: name.replace(os.sep, "\0"))  # the files of a directory stay together


def _leads_away(folder: Path) -> bool:
    """Whether a directory is a Windows junction, which not every version of Python treats as a link."""
    junction: int | None = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", None)
    if junction is None:  # not Windows: save a call of lstat per directory
        return False
    try:
        return getattr(folder.lstat(), "st_reparse_tag", 0) == junction
    except OSError:  # walking into it reports the reason
        return False


def _require_folder(folder: Path) -> None:
    try:
        is_folder = stat.S_ISDIR(folder.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise InputError(f"{str(folder)!r} does not exist: pass a directory of images") from error
    except OSError as error:
        raise InputError(f"{str(folder)!r} cannot be read: {error.strerror or error}") from error
    if not is_folder:
        raise InputError(f"{str(folder)!r} is a file: pass a directory of images")


def is_folder(word: str) -> bool:
    """Whether `word` names a directory. An impossible name (empty, too long, or with a NUL) names none."""
    return stat.S_ISDIR(_mode(word))


def leads_to_folder(word: str) -> bool:
    """Whether one of several inputs names a directory. If it may not be accessed, opening it reports the error."""
    try:
        return is_folder(word)
    except InputError:
        return False


def is_file(word: str) -> bool:
    """Whether `word` names a file."""
    return stat.S_ISREG(_mode(word))


def _mode(word: str) -> int:
    """Return the mode of a path, 0 if nothing exists there. Raises InputError if it may not be accessed."""
    try:
        return Path(word).stat().st_mode if word else 0
    except PermissionError as error:
        raise InputError(f"{word!r} cannot be read: {error.strerror or error}") from error
    except (OSError, ValueError):
        return 0
