"""One file from a URL, whole or not at all: resumed where it broke off, and kept only if its checksum is right.

What has come so far waits in "NAME.part" beside the file, and a later download goes on behind it. The file gets its
name when it is complete, so whoever finds the name finds the file.
"""

import errno
import hashlib
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

from huggingface_hub import constants
from huggingface_hub.utils import get_session, hf_raise_for_status

from cjkclip.checkpoints.hub.reach import FAILED, REQUESTS
from cjkclip.errors import HubError

WRONG = (
    "{file}: what was downloaded has checksum {found}, expected {told}. It is removed from the cache: load again; if "
    "that does not help, something on the way changes the file, or it is not the one that was published"
)
Advance = Callable[[int], object]  # takes how many bytes have come; a negative number when they are fetched anew


def download(
    url: str, target: Path, *, sha256: str | None, size: int | None, headers: Mapping[str, str], advance: Advance
) -> None:
    """Put what lies at `url` at `target`, unless it is there. `sha256` and `size` are compared where they are known.

    Only one process may do so at a time: the caller holds a lock.
    Raises HubError for a wrong checksum and a full disk, and what the HTTP client raises for the rest.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    if target.is_file():
        advance(target.stat().st_size)
        return
    advance(_length(part))
    try:
        _room(part, size)
        while size is None or _length(part) < size:
            if _grow(url, part, headers, advance):
                break
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise HubError(f"the disk that holds {part} is full: make room, then load again to go on") from error
        raise
    _keep(url, part, target, sha256, size)


def digest(path: Path) -> str:
    """The sha256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _grow(url: str, part: Path, headers: Mapping[str, str], advance: Advance) -> bool:
    """Append what is still to come; True when that was all, False when the connection broke but brought some of it."""
    have = _length(part)
    asked = {**headers, "Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        with _stream(url, asked) as answer:
            if have and answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return True  # nothing is behind what we have: the checksum decides
            hf_raise_for_status(answer)
            goes_on = answer.status_code == HTTPStatus.PARTIAL_CONTENT
            if not goes_on:
                advance(-have)
            with part.open("ab" if goes_on else "wb") as file:
                for chunk in _chunks(answer):  # as they come, so that little is lost when this stops
                    file.write(chunk)
                    advance(len(chunk))
            return True
    except FAILED:
        if _length(part) <= have:
            raise
        return False


@contextmanager
def _stream(url: str, headers: Mapping[str, str]) -> Generator[Any]:
    """A response whose body is still to be read, unless it reports an error: huggingface_hub's message quotes that."""
    session: Any = get_session()
    asked = {"headers": headers, "timeout": constants.HF_HUB_DOWNLOAD_TIMEOUT}
    with session.get(url, **asked, stream=True) if REQUESTS else session.stream("GET", url, **asked) as answer:
        if answer.status_code >= HTTPStatus.BAD_REQUEST and not REQUESTS:  # requests reads it by itself
            answer.read()
        yield answer


def _chunks(answer: Any) -> Iterator[bytes]:
    """The body of a response."""
    return answer.iter_content(1 << 16) if REQUESTS else answer.iter_bytes()


def _keep(url: str, part: Path, target: Path, sha256: str | None, size: int | None) -> None:
    """Give a complete file its name. Raises HubError, after removing a wrong one."""
    found, told = (digest(part), sha256) if sha256 else (f"{_length(part)} bytes", f"{size} bytes")
    if found != told and (sha256 or size is not None):
        part.unlink(missing_ok=True)
        raise HubError(WRONG.format(file=url, found=found, told=told))
    part.replace(target)


def _room(part: Path, size: int | None) -> None:
    """Raises HubError when the disk cannot hold what is still to come."""
    missing = (size or 0) - _length(part)
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise HubError(
            f"{missing / 1e6:,.0f} MB are still to be downloaded to {part.parent}, and {free / 1e6:,.0f} MB are free: "
            "make room, then load again to go on"
        )


def _length(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
