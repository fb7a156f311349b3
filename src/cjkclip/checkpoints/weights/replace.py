"""Write a file or a new directory completely or not at all."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cjkclip.errors import InputError, WeightsError


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """Open a file beside `path` and move it there at the end, so that no reader sees a partial file.

    If writing fails, nothing is left behind. Raises WeightsError on an error of the disk, or on Windows if a program
    has the old file memory-mapped, as a loaded model does.
    """
    beside = path.parent / _unused()
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        mapped = (
            ". Close the program that has loaded it" if isinstance(error, PermissionError) and os.name == "nt" else ""
        )
        raise WeightsError(f"{path} cannot be written: {error}{mapped}") from error
    finally:
        with suppress(OSError):  # a file that could not be created cannot be removed
            beside.unlink(missing_ok=True)


def require_place(folder: Path) -> None:
    """Raise InputError unless a new directory can be written at `folder`. Tries it, and leaves no file behind."""
    with _aside(folder) as part:
        if folder.exists() and (not folder.is_dir() or {*folder.iterdir()} != {part}):
            raise InputError(f"{str(folder)!r} already exists and is not overwritten. Pass a new directory")
        (part / folder.name).touch()


@contextmanager
def new_folder(folder: Path, *, instead: bool = False) -> Generator[Path]:
    """Yield a temporary directory, and move its files to `folder` at the end; parents are created.

    Files already in `folder` stay, or are removed at the end with `instead`. If filling fails, nothing is left behind.
    Raises InputError on an error of the disk, or if another program has written one of the files to `folder`; the
    message then contains the directory with the new files.
    """
    with _aside(folder, inside=not instead) as part:
        yield part
        if instead and folder.exists():
            _exchange(folder, part)
            return
        if not folder.is_dir():
            part.rename(folder)
            return
        files = sorted(part.iterdir())
        if present := [file.name for file in files if (folder / file.name).exists()]:
            place = part.rename(part.with_name(f"unmoved-{os.urandom(8).hex()}"))
            raise InputError(
                f"{str(folder)!r} now contains {', '.join(present)}, which another program wrote. The new files are in "
                f"{str(place)!r}"
            )
        for file in files:
            file.rename(folder / file.name)


def _exchange(folder: Path, part: Path) -> None:
    """Replace `folder` by `part`; if that fails, `folder` is put back."""
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{str(folder)!r} is write-protected")
    old = folder.rename(folder.with_name(_unused()))
    try:
        part.rename(folder)
    finally:
        if not folder.exists():  # after any failure, Ctrl-C too
            old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _aside(folder: Path, *, inside: bool = True) -> Generator[Path]:
    """Yield a temporary directory in `folder` if it exists (its parent may be read-only), else beside it."""
    created: list[Path] = []
    try:
        place = folder if inside and folder.exists() else folder.parent
        part = place / _unused()
        created = [each for each in (part, *part.parents) if not each.exists()]
        part.mkdir(parents=True)
        yield part
    except OSError as error:
        raise InputError(f"{str(folder)!r} cannot be written ({error}). Pass another directory") from error
    finally:
        for each in created[:1]:
            shutil.rmtree(each, ignore_errors=True)
        for each in created[1:]:
            with suppress(OSError):  # another program has written into it
                each.rmdir()


def _unused() -> str:
    """Return a name for an unfinished file; it is short even if the final name is long."""
    return f".{os.urandom(8).hex()}.part"
