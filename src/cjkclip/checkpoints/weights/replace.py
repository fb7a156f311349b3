"""Write a file or a directory completely or not at all, whatever ends the program meanwhile.

Unfinished entries have names of their own (`.<digits>.<process>.part`) beside the final one, and are locked while they
are written. The next write beside them deletes those of killed programs.
"""

import ctypes
import os
import re
import shutil
import sys
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal

from cjkclip.errors import InputError, WeightsError

Present = Literal["refuse", "overwrite", "remove"]
_PART = re.compile(r"\.[0-9a-f]{16}\.(?P<process>[0-9]+)\.part")
_OLD = ".{}.old"  # the name of a directory between two renames, where the system cannot exchange two
_MINUTE = 60.0


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """Open a file beside `path` and move it there at the end, so that no reader sees a partial file.

    If writing fails, nothing is left behind. Raises WeightsError on an error of the disk, or on Windows if a program
    has the old file memory-mapped, as a loaded model does.
    """
    _sweep(path.parent)
    beside = path.parent / _unused()
    try:
        with beside.open("xb") as file, _locked(beside):
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
        if folder.exists() and (not folder.is_dir() or {*folder.iterdir()} - {part}):
            raise InputError(f"{str(folder)!r} already exists and is not overwritten. Pass a new directory")
        (part / folder.name).touch()


@contextmanager
def new_folder(folder: Path, present: Present = "refuse") -> Generator[Path]:
    """Yield a temporary directory that takes the place of `folder` at the end, in one step; parents are created.

    Other files in `folder` stay. present: what becomes of files in `folder` that have the name of a new one: "refuse"
    them, or "overwrite" them; "remove" removes all files. If filling fails, or the program is killed, `folder` is as
    before. Where no step exchanges two directories (the working directory, a mount point, a parent that is read-only),
    the files move one by one, config.json last.

    Raises InputError on an error of the disk, or if another program has written one of the files to `folder`; the
    message then contains the directory with the new files.
    """
    if _PART.fullmatch(folder.name):  # it is the directory of an outer call, and takes its place as a whole
        yield folder
        return
    folder = folder.resolve()
    _put_back(folder)
    with _aside(folder) as part:
        yield part
        _require_free(folder, part, present)
        if not folder.exists():
            part.rename(folder)
        elif part.parent == folder:
            _move(part, folder, present)
        else:
            if present != "remove":
                _carry(folder, part)
            shutil.copymode(folder, part)
            _exchange(folder, part)


def _require_free(folder: Path, part: Path, present: Present) -> None:
    """Raise InputError if files of the same names are in `folder` and must stay."""
    names = [file.name for file in sorted(part.iterdir()) if (folder / file.name).exists()]
    if names and present == "refuse":
        place = part.rename(part.with_name(f"unmoved-{os.urandom(8).hex()}"))
        raise InputError(
            f"{str(folder)!r} now contains {', '.join(names)}, which another program wrote. The new files are in "
            f"{str(place)!r}"
        )


def _carry(folder: Path, part: Path) -> None:
    """Put the other files of `folder` into `part` too, as links to the same files where the disk can."""
    for entry in folder.iterdir():
        if (part / entry.name).exists() or _PART.fullmatch(entry.name):
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, part / entry.name, symlinks=True, copy_function=_link)
        else:
            _link(str(entry), str(part / entry.name))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a disk without hard links
        shutil.copy2(source, target, follow_symlinks=False)


def _move(part: Path, folder: Path, present: Present) -> None:
    """Move the files of `part` one by one into `folder`, which contains it."""
    new = sorted(part.iterdir(), key=lambda file: (file.name == "config.json", file.name))
    if present == "remove":
        for old in {*folder.iterdir()} - {part, *(folder / file.name for file in new)}:
            old.unlink()
    for file in new:
        file.replace(folder / file.name)


def _exchange(folder: Path, part: Path) -> None:
    """Exchange two directories: in one step where the system can, else in two, which `_put_back` can undo."""
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{str(folder)!r} is write-protected")
    if _swapped(folder, part):
        shutil.rmtree(part, ignore_errors=True)  # the old directory
        return
    old = folder.rename(folder.with_name(_OLD.format(folder.name)))
    try:
        part.rename(folder)
    finally:
        if not folder.exists():  # after any failure, Ctrl-C too
            old.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _put_back(folder: Path) -> None:
    """Undo an exchange in two steps that was killed between them."""
    old = folder.with_name(_OLD.format(folder.name))
    if old.is_dir() and not folder.exists():
        old.rename(folder)


def _swapped(one: Path, two: Path) -> bool:
    """Exchange two directories in one step, or return False. Linux and macOS have a system call for it."""
    library = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    names = os.fsencode(one), os.fsencode(two)
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        return library.renamex_np(*names, 2) == 0  # RENAME_SWAP
    if hasattr(library, "renameat2"):
        return library.renameat2(-100, names[0], -100, names[1], 2) == 0  # AT_FDCWD, RENAME_EXCHANGE
    return False


@contextmanager
def _aside(folder: Path) -> Generator[Path]:
    """Yield a temporary directory beside `folder`, or in it if only that can take its place file by file."""
    created: list[Path] = []
    try:
        inside = folder.is_dir() and (_is_busy(folder) or not os.access(folder.parent, os.W_OK))
        place = folder if inside else folder.parent
        part = place / _unused()
        created = [each for each in (part, *part.parents) if not each.exists()]
        part.mkdir(parents=True)
        with _locked(part):
            _sweep(place)
            yield part
    except OSError as error:
        raise InputError(f"{str(folder)!r} cannot be written ({error}). Pass another directory") from error
    finally:
        for each in created[:1]:
            shutil.rmtree(each, ignore_errors=True)
        for each in created[1:]:
            with suppress(OSError):  # another program has written into it
                each.rmdir()


def _is_busy(folder: Path) -> bool:
    """Whether the directory is a mount point, or this program works in it: it must stay the same directory."""
    here = None
    with suppress(OSError):  # the working directory was deleted
        here = Path.cwd()
    return folder.is_mount() or (here is not None and here.is_relative_to(folder))


def _unused() -> str:
    """Return a name for an unfinished entry; it is short even if the final name is long."""
    return f".{os.urandom(8).hex()}.{os.getpid()}.part"


@contextmanager
def _locked(path: Path) -> Generator[None]:
    """Lock an unfinished entry, so that no other program sweeps it. Does nothing on Windows."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    number = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # a disk without locks
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(number)


def _sweep(folder: Path) -> None:
    """Delete the unfinished entries of killed programs in a directory."""
    with suppress(OSError):  # it does not exist yet, or another program sweeps it
        for entry in _unfinished(folder):
            if _is_abandoned(entry):
                if entry.is_dir():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink()


def _unfinished(folder: Path) -> Iterable[Path]:
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if _PART.fullmatch(entry.name)]


def _is_abandoned(entry: Path) -> bool:
    """Whether no program writes an entry: it is not locked, and its process is gone or has not written for a minute."""
    match = _PART.fullmatch(entry.name)
    recent = time.time() - entry.stat().st_mtime < _MINUTE
    if sys.platform == "win32":
        return not recent
    import fcntl

    if match is None or (recent and _is_alive(int(match["process"]))):
        return False
    number = os.open(entry, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(number)
    return True


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's; a number that no process has
        return True
    return True
