"""Download one file from a URL: resume a partial download, and reject a file with a wrong checksum.

A partial download is "NAME.part" in the same directory, and a later download continues it. The file gets its name when
it is complete, so a file with that name is never partial.
"""

import errno
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
from cjkclip.fingerprint import file_digest

WRONG = (
    "{file}: the download has checksum {checksum}, expected {expected}. It was removed from the cache. Load again; if "
    "the error occurs again, a proxy changes the file, or the published file was replaced"
)
Advance = Callable[[int], object]  # called with the number of new bytes; negative if the download starts again


def download(
    url: str, target: Path, *, sha256: str | None, size: int | None, headers: Mapping[str, str], advance: Advance
) -> None:
    """Download `url` to `target` unless that exists. `sha256` and `size` are checked if they are known.

    Only one process at a time may do this: the caller holds a lock.
    Raises HubError for a wrong checksum and a full disk, and the HTTP client's errors.
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
            raise HubError(f"the disk of {part} is full. Free some space, then load again to continue") from error
        raise
    _keep(url, part, target, sha256, size)


def _grow(url: str, part: Path, headers: Mapping[str, str], advance: Advance) -> bool:
    """Append the rest; return True if it is complete, False if the connection broke after some progress."""
    have = _length(part)
    request = {**headers, "Accept-Encoding": "identity", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        with _stream(url, request) as answer:
            if have and answer.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                return True  # there are no more bytes: the checksum decides
            hf_raise_for_status(answer)
            resumed = answer.status_code == HTTPStatus.PARTIAL_CONTENT
            if not resumed:
                advance(-have)
            with part.open("ab" if resumed else "wb") as file:
                for chunk in _chunks(answer):  # written at once, so that an interruption loses little
                    file.write(chunk)
                    advance(len(chunk))
            return True
    except FAILED:
        if _length(part) <= have:
            raise
        return False


@contextmanager
def _stream(url: str, headers: Mapping[str, str]) -> Generator[Any]:
    """Open a response; only the body of an error is read, for huggingface_hub's message."""
    session: Any = get_session()
    options = {"headers": headers, "timeout": constants.HF_HUB_DOWNLOAD_TIMEOUT}
    with session.get(url, **options, stream=True) if REQUESTS else session.stream("GET", url, **options) as answer:
        if answer.status_code >= HTTPStatus.BAD_REQUEST and not REQUESTS:  # requests reads it by itself
            answer.read()
        yield answer


def _chunks(answer: Any) -> Iterator[bytes]:
    """Yield the body of a response."""
    return answer.iter_content(1 << 16) if REQUESTS else answer.iter_bytes()


def _keep(url: str, part: Path, target: Path, sha256: str | None, size: int | None) -> None:
    """Give a complete file its name. Raises HubError, after removing a wrong one."""
    checksum, expected = (file_digest(part), sha256) if sha256 else (f"{_length(part)} bytes", f"{size} bytes")
    if checksum != expected and (sha256 or size is not None):
        part.unlink(missing_ok=True)
        raise HubError(WRONG.format(file=f"{url}: {target.name}", checksum=checksum, expected=expected))
    part.replace(target)


def _room(part: Path, size: int | None) -> None:
    """Raise HubError if the disk has too little free space for the rest."""
    missing = (size or 0) - _length(part)
    free = shutil.disk_usage(part.parent).free
    if missing > free:
        raise HubError(
            f"{missing / 1e6:,.0f} MB remain to be downloaded to {part.parent}, but {free / 1e6:,.0f} MB are free. "
            "Free some space, then load again to continue"
        )


def _length(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
