"""Snapshots of ModelScope, over its plain HTTP interface, in a cache of our own.

MODELSCOPE_DOMAIN names another host, MODELSCOPE_API_TOKEN is sent, MODELSCOPE_CACHE says where the cache lies.
A snapshot is put together in a folder beside its own and takes its name when every file is there and checked.
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
from cjkclip.checkpoints.hub.reach import Source, reach, said
from cjkclip.errors import HubError
from cjkclip.machine import cache

DOMAIN = "www.modelscope.cn"
REVISION = "master"  # ModelScope's name for the newest
OK = 200  # its answers carry a code of their own, too


@dataclass(frozen=True, kw_only=True)
class File:
    """One file of a repository, as ModelScope lists it. An empty `sha256` is one that it does not tell."""

    name: str
    size: int
    sha256: str


def fetch(repository: str, where: Where, hint: str) -> Path:
    """The snapshot's folder; what did not change is not fetched again. See `hub.locate`."""
    asked, home = where.revision or REVISION, _home(repository, where)
    source = Source(
        named=f"modelscope:{said(repository, where.revision)}",
        offline=where.offline,
        endpoint=endpoint(),
        chosen_by="MODELSCOPE_DOMAIN",
        fetch=lambda: _fetch(repository, asked, home),
        cached=lambda: _cached(asked, home),
        refusal=lambda error, status: _refusal(repository, asked, error, status, hint),
    )
    return reach(source)


def endpoint() -> str:
    """Where ModelScope is asked. The variable holds a host's name; a scheme before it is kept."""
    domain = (os.environ.get("MODELSCOPE_DOMAIN") or DOMAIN).rstrip("/")
    return domain if "://" in domain else f"https://{domain}"


def _home(repository: str, where: Where) -> Path:
    """The folder of a repository in the cache."""
    chosen = where.cache or os.environ.get("MODELSCOPE_CACHE")
    root = Path(chosen).expanduser() / "cjkclip" if chosen else cache.folder("modelscope")
    # "a--b/c" and "a/b--c" are two repositories; a percent sign is in the name of none
    return root / (quote(repository, safe="") if "--" in repository else repository.replace("/", "--"))


def _fetch(repository: str, revision: str, home: Path) -> Path:
    listed = _listing(repository, revision)
    wanted = needed(file.name for file in listed)
    if not wanted:
        raise HubError(
            f"modelscope:{repository} has no weights that can be read here: expected {READABLE}. "
            f"It has: {', '.join(file.name for file in listed[:20]) or 'no files'}"
        )
    files = [file for file in listed if file.name in wanted]
    mark = hashlib.sha256(repr(files).encode()).hexdigest()[:16]  # what the files are tells which snapshot it is
    snapshot = home / "snapshots" / mark
    if not snapshot.is_dir():
        _assemble(repository, revision, files, snapshot)
    if _cached(revision, home) != snapshot:
        reference = _reference(revision, home)
        reference.parent.mkdir(parents=True, exist_ok=True)
        fresh = reference.with_name(f"{reference.name}.{os.getpid()}")
        fresh.write_text(mark)
        fresh.replace(reference)
    return snapshot


def _assemble(repository: str, revision: str, files: list[File], snapshot: Path) -> None:
    """Download into a folder of another name, and rename it when it is whole."""
    unfinished = snapshot.with_name(f"{snapshot.name}.part")
    unfinished.mkdir(parents=True, exist_ok=True)
    with (
        WeakFileLock(snapshot.with_name(f"{snapshot.name}.lock")),
        bytes_bar(repository, sum(file.size for file in files)) as bar,
    ):
        if snapshot.is_dir():  # another process was first
            return
        for file in sorted(files, key=lambda file: file.size):
            query = urlencode({"Revision": revision, "FilePath": file.name})
            url = f"{endpoint()}/api/v1/models/{repository}/repo?{query}"
            target, sha256 = unfinished / file.name, file.sha256 or None
            download(url, target, sha256=sha256, size=file.size, headers=_headers(), advance=bar.update)
        unfinished.rename(snapshot)


def _listing(repository: str, revision: str) -> list[File]:
    """The files in the repository's top folder."""
    query = urlencode({"Revision": revision, "Recursive": "False"})
    url = f"{endpoint()}/api/v1/models/{repository}/repo/files?{query}"
    answer = get_session().get(url, headers=_headers(), timeout=constants.HF_HUB_ETAG_TIMEOUT)
    hf_raise_for_status(answer)
    told: dict[str, Any] = answer.json()
    if told.get("Code", OK) != OK:
        raise HubError(f"{endpoint()} refused {repository} ({told['Code']}): {str(told.get('Message'))[:300]}")
    return [
        File(name=entry["Path"], size=int(entry["Size"]), sha256=str(entry.get("Sha256") or "").lower())
        for entry in told["Data"]["Files"]
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
    begun = [*home.glob("snapshots/*.part")]
    return f"the cache holds only a part of it ({begun[0]})" if begun else f"the cache does not hold it ({home})"


def _refusal(repository: str, revision: str, error: Exception, status: int, hint: str) -> str:
    """What ModelScope's refusal means and what to do about it."""
    if status == HTTPStatus.NOT_FOUND:
        return (
            f"{endpoint()} has no repository {repository!r} with a revision {revision!r}, or it is private ({status}). "
            f"Check the spelling; for a private one set MODELSCOPE_API_TOKEN. {hint}".strip()
        )
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return (
            f"{endpoint()} does not show {repository} ({status}): set MODELSCOPE_API_TOKEN to a token of yours, or "
            "check the one that is set"
        )
    return f"{endpoint()} refused {repository} ({status}): {str(error)[:300]}. Try again later, or pass a folder's path"
