"""Writing a file, or a new folder, whole or not at all."""

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cjkclip.errors import InputError, WeightsError


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """A file to write beside `path`, moved there at the end, so that no reader ever meets half a file.

    Nothing is left behind when the writing fails. Raises WeightsError if the disk refuses, or Windows, which replaces
    no file that a program has mapped, as a loaded model has.
    """
    beside = path.parent / _unused()
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        held = ": is it loaded by a program?" if isinstance(error, PermissionError) and os.name == "nt" else ""
        raise WeightsError(f"{path} cannot be written: {error}{held}") from error
    finally:
        with suppress(OSError):  # what cannot be made cannot be unlinked either
            beside.unlink(missing_ok=True)


def require_place(folder: Path) -> None:
    """Raise InputError unless a new folder can be written there. Tried out, but nothing is left behind."""
    with _aside(folder) as part:
        if folder.exists() and (not folder.is_dir() or {*folder.iterdir()} != {part}):
            raise InputError(f"{str(folder)!r} is there already: name a new folder, nothing is overwritten")
        (part / folder.name).touch()


@contextmanager
def new_folder(folder: Path, *, instead: bool = False) -> Generator[Path]:
    """A folder to fill, whose files are moved to `folder` at the end; its parents are made.

    What `folder` holds stays, or goes when the filling is done if the new one comes `instead`. Nothing is left behind
    when the filling fails. Raises InputError if the disk refuses, or if one of the files has come to be there in the
    meantime: then it names the place where all of them are.
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
        if there := [file.name for file in files if (folder / file.name).exists()]:
            kept = part.rename(part.with_name(f"unmoved-{os.urandom(8).hex()}"))
            raise InputError(f"{str(folder)!r} holds {', '.join(there)} by now: what was made is in {str(kept)!r}")
        for file in files:
            file.rename(folder / file.name)


def _exchange(folder: Path, part: Path) -> None:
    """Put `part` in the place of `folder`, which is whole until then, and again if that fails."""
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{str(folder)!r} is protected against writing")
    old = folder.rename(folder.with_name(_unused()))
    try:
        part.rename(folder)
    finally:
        if not folder.exists():  # whatever stopped it, Ctrl-C too
            old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _aside(folder: Path, *, inside: bool = True) -> Generator[Path]:
    """A folder beside `folder`, or in it if it is there, for that may be all that can be written. Gone at the end."""
    made: list[Path] = []
    try:
        place = folder if inside and folder.exists() else folder.parent
        part = place / _unused()
        made = [each for each in (part, *part.parents) if not each.exists()]
        part.mkdir(parents=True)
        yield part
    except OSError as error:
        raise InputError(f"{str(folder)!r} cannot be written ({error}): name another folder") from error
    finally:
        for each in made[:1]:
            shutil.rmtree(each, ignore_errors=True)
        for each in made[1:]:
            with suppress(OSError):  # it holds something now
                each.rmdir()


def _unused() -> str:
    """A name of something unfinished, short however long that of the finished one is."""
    return f".{os.urandom(8).hex()}.part"
