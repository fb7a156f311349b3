"""Download snapshots of ModelScope over its HTTP interface into cjkclip's cache.

MODELSCOPE_DOMAIN sets the host, MODELSCOPE_API_TOKEN the token, MODELSCOPE_CACHE the directory of the cache.
A snapshot is assembled in a temporary directory, which is renamed once every file is present and checked.
"""

import hashlib
import os
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from huggingface_hub import constants
from huggingface_hub.utils import WeakFileLock, get_session, hf_raise_for_status

from cjkclip.checkpoints.hub import READABLE, Where, needed
from cjkclip.checkpoints.hub.download import download
from cjkclip.checkpoints.hub.progress import bytes_bar
from cjkclip.checkpoints.hub.reach import Hub, reach, title_of
from cjkclip.errors import HubError, without_secrets
from cjkclip.machine import cache

DOMAIN = "www.modelscope.cn"
REVISION = "master"  # ModelScope's name for the newest revision
OK = 200  # status code inside ModelScope's JSON answers


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of a repository in ModelScope's list. `sha256` is empty if the list has none."""

    name: str
    size: int
    sha256: str


def fetch(repository: str, where: Where, hint: str) -> Path:
    """Return the directory of the snapshot; unchanged files are not downloaded again. See `hub.locate`."""
    revision, home = where.revision or REVISION, _home(repository, where)
    hub = Hub(
        title=f"modelscope:{title_of(repository, where.revision)}",
        offline=where.offline,
        endpoint=endpoint(),
        chosen_by="MODELSCOPE_DOMAIN",
        fetch=lambda: _fetch(repository, revision, home),
        cached=lambda: _cached(revision, home),
        rejection=lambda error, status: _rejection(repository, revision, error, status, hint),
    )
    return reach(hub)


def endpoint() -> str:
    """Return the URL of ModelScope. The variable contains a host name, with or without a scheme."""
    domain = (os.environ.get("MODELSCOPE_DOMAIN") or DOMAIN).rstrip("/")
    return domain if "://" in domain else f"https://{domain}"


def _home(repository: str, where: Where) -> Path:
    """Return the directory of a repository in the cache."""
    chosen = where.cache or os.environ.get("MODELSCOPE_CACHE")
    root = Path(chosen).expanduser() / "cjkclip" if chosen else cache.folder("modelscope")
    # "a--b/c" and "a/b--c" are different repositories; no repository name contains a percent sign
    return root / (quote(repository, safe="") if "--" in repository else repository.replace("/", "--"))


def _fetch(repository: str, revision: str, home: Path) -> Path:
    listing = _listing(repository, revision)
    names = needed(file.name for file in listing)
    if not names:
        raise HubError(
            f"modelscope:{repository} has no readable weights: expected {READABLE}. "
            f"It has: {', '.join(file.name for file in listing[:20]) or 'no files'}"
        )
    files = [file for file in listing if file.name in names]
    digest = hashlib.sha256(repr(files).encode()).hexdigest()[:16]  # identifies the snapshot by its list of files
    snapshot = home / "snapshots" / digest
    if not snapshot.is_dir():
        _assemble(repository, revision, files, snapshot)
    if _cached(revision, home) != snapshot:
        reference = _reference(revision, home)
        reference.parent.mkdir(parents=True, exist_ok=True)
        fresh = reference.with_name(f"{reference.name}.{os.getpid()}")
        fresh.write_text(digest)
        fresh.replace(reference)
    return snapshot


def _assemble(repository: str, revision: str, files: list[File], snapshot: Path) -> None:
    """Download into a temporary directory, and rename it when it is complete."""
    unfinished = snapshot.with_name(f"{snapshot.name}.part")
    unfinished.mkdir(parents=True, exist_ok=True)
    with (
        WeakFileLock(snapshot.with_name(f"{snapshot.name}.lock")),
        bytes_bar(repository, sum(file.size for file in files)) as bar,
    ):
        if snapshot.is_dir():  # another process has finished it
            return
        for file in sorted(files, key=lambda file: file.size):
            query = urlencode({"Revision": revision, "FilePath": file.name})
            url = f"{endpoint()}/api/v1/models/{repository}/repo?{query}"
            target, sha256 = unfinished / file.name, file.sha256 or None
            download(url, target, sha256=sha256, size=file.size, headers=_headers(), advance=bar.update)
        unfinished.rename(snapshot)


def _listing(repository: str, revision: str) -> list[File]:
    """Return the files in the repository's top directory."""
    query = urlencode({"Revision": revision, "Recursive": "False"})
    url = f"{endpoint()}/api/v1/models/{repository}/repo/files?{query}"
    answer = get_session().get(url, headers=_headers(), timeout=constants.HF_HUB_ETAG_TIMEOUT)
    hf_raise_for_status(answer)
    record: dict[str, Any] = answer.json()
    if record.get("Code", OK) != OK:
        raise HubError(f"{endpoint()} rejected {repository} ({record['Code']}): {str(record.get('Message'))[:300]}")
    return [
        File(name=entry["Path"], size=int(entry["Size"]), sha256=str(entry.get("Sha256") or "").lower())
        for entry in record["Data"]["Files"]
        if entry["Type"] != "tree" and Path(entry["Path"]).name == entry["Path"]
    ]


def _headers() -> dict[str, str]:
    token = os.environ.get("MODELSCOPE_API_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _reference(revision: str, home: Path) -> Path:
    return home / "refs" / quote(revision, safe="")


def _cached(revision: str, home: Path) -> Path | str:
    reference = _reference(revision, home)
    if reference.is_file():
        snapshot = home / "snapshots" / reference.read_text()
        if snapshot.is_dir():
            return snapshot
    partial = [*home.glob("snapshots/*.part")]
    return f"the cache contains only a part of it ({partial[0]})" if partial else f"it is not in the cache ({home})"


def _rejection(repository: str, revision: str, error: Exception, status: int, hint: str) -> str:
    """Return the message for a request that ModelScope rejected."""
    if status == HTTPStatus.NOT_FOUND:
        return (
            f"{endpoint()} has no repository {repository!r} with a revision {revision!r}, or it is private ({status}). "
            f"Check the spelling; for a private repository set MODELSCOPE_API_TOKEN. {hint}".strip()
        )
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return (
            f"{endpoint()} does not show {repository} ({status}). Set MODELSCOPE_API_TOKEN to your token, or check "
            "its current value"
        )
    why = without_secrets(str(error))[:300]
    return f"{endpoint()} rejected {repository} ({status}): {why}. Try again later, or pass a local directory"
