"""Snapshots of Hugging Face's hub, in huggingface_hub's own cache: there is no second one.

It downloads, and honours HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE. Added here: weights come last, so that a
snapshot with weights is whole; checksums are compared once, after a download; what is wrong leaves the cache.
"""

import glob
from http import HTTPStatus
from pathlib import Path

from huggingface_hub import (
    HfApi,
    ModelInfo,
    constants,
    errors,
    snapshot_download,  # pyright: ignore[reportUnknownVariableType]
    try_to_load_from_cache,
)

from cjkclip.checkpoints.hub import READABLE, SMALL, Where, complete, needed
from cjkclip.checkpoints.hub.download import WRONG, digest
from cjkclip.checkpoints.hub.progress import Bar, Hidden, files_silent
from cjkclip.checkpoints.hub.reach import Source, reach, said
from cjkclip.errors import HubError


def fetch(repository: str, where: Where, hint: str) -> Path:
    """The snapshot's folder; files that the cache has are not fetched again. See `hub.locate`."""
    revision = where.revision
    source = Source(
        named=said(repository, revision),
        offline=where.offline,
        endpoint=constants.ENDPOINT,
        chosen_by="HF_ENDPOINT",
        fetch=lambda: _fetch(repository, where),
        cached=lambda: _cached(repository, where),
        refusal=lambda error, status: _refusal(repository, revision, error, status, hint),
    )
    return reach(source)


def fetch_file(repository: str, name: str, where: Where) -> Path:
    """One small file of a repository, without its model."""

    def snapshot(*, cached: bool) -> Path:
        return Path(
            snapshot_download(
                repository, cache_dir=where.cache, local_files_only=cached, tqdm_class=Hidden, allow_patterns=name
            )
        )

    def fetched() -> Path:
        has = [each.rfilename for each in HfApi().model_info(repository).siblings or ()]
        if name not in has:
            raise HubError(f"{repository} has no file {name!r}: see {constants.ENDPOINT}/{repository}/tree/main")
        return snapshot(cached=False) / name

    def found() -> Path | str:
        try:
            file = snapshot(cached=True) / name
        except errors.LocalEntryNotFoundError:
            file = Path(_home(where))
        return file if file.is_file() else f"the cache does not hold it ({_home(where)})"

    source = Source(
        named=f"{name} of {repository}",
        offline=where.offline,
        endpoint=constants.ENDPOINT,
        chosen_by="HF_ENDPOINT",
        fetch=fetched,
        cached=found,
        refusal=lambda error, status: _refusal(repository, None, error, status, ""),
    )
    return reach(source)


def _fetch(repository: str, where: Where) -> Path:
    revision, cache = where.revision, where.cache
    info = HfApi().model_info(repository, revision=revision, files_metadata=True)
    files = [each.rfilename for each in info.siblings or ()]
    wanted = [name for name in files if SMALL.fullmatch(name)] if where.small else needed(files)
    if not wanted:
        raise HubError(
            f"{repository} has no weights that can be read here: expected {READABLE}. "
            f"It has: {', '.join(files[:20]) or 'no files'}"
        )
    had = {name: try_to_load_from_cache(repository, name, cache_dir=cache, revision=info.sha) for name in wanted}
    new = [name for name, place in had.items() if not isinstance(place, str)]
    small = [glob.escape(name) for name in wanted if SMALL.fullmatch(name)]
    with files_silent():
        snapshot_download(repository, revision=revision, cache_dir=cache, allow_patterns=small, tqdm_class=Hidden)
    every = [glob.escape(name) for name in wanted]
    bar = Bar if new else Hidden
    with files_silent():
        folder = Path(
            snapshot_download(repository, revision=info.sha, cache_dir=cache, allow_patterns=every, tqdm_class=bar)
        )
    _check(info, folder, new)
    return folder


def _check(info: ModelInfo, folder: Path, new: list[str]) -> None:
    """Compare the checksums of what was downloaded just now. Raises HubError, after removing what is wrong."""
    told = {each.rfilename: each.lfs.sha256 for each in info.siblings or () if each.lfs is not None}
    for name in (name for name in new if name in told):
        link = folder / name
        found = digest(link)
        if found != told[name]:
            blob = link.resolve()
            link.unlink()
            blob.unlink(missing_ok=True)
            raise HubError(WRONG.format(file=f"{info.id}: {name}", found=found, told=told[name]))


def _home(where: Where) -> str:
    return where.cache or constants.HF_HUB_CACHE


def _cached(repository: str, where: Where) -> Path | str:
    try:
        folder = Path(
            snapshot_download(
                repository, revision=where.revision, cache_dir=where.cache, local_files_only=True, allow_patterns=[]
            )
        )
    except errors.LocalEntryNotFoundError:
        return f"the cache does not hold it ({_home(where)})"
    if where.small and any(SMALL.fullmatch(each.name) for each in folder.iterdir()):
        return folder
    return folder if complete(folder) else f"the cache holds only a part of it ({folder})"


def _refusal(repository: str, revision: str | None, error: Exception, status: int, hint: str) -> str:
    """What the hub's refusal means and what to do about it."""
    hub = constants.ENDPOINT
    login = "log in with 'hf auth login' or HF_TOKEN"
    if isinstance(error, errors.GatedRepoError):
        return f"{repository} asks for consent: agree to its terms at {hub}/{repository}, then {login}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no revision {revision!r}: see {hub}/{repository}/commits"
    if isinstance(error, errors.RepositoryNotFoundError) or status == HTTPStatus.NOT_FOUND:
        return (
            f"{hub} has no repository {repository!r}, or it is private ({status}), and there is no folder of "
            f"that name in {Path.cwd()} either. Check the spelling; for a private one {login}. {hint}".strip()
        )
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return (
            f"{hub} does not show {repository} ({status}): it is private, or not there. Check the spelling, "
            f"then {login}, or check the token that you have set. {hint}".strip()
        )
    return f"{hub} refused {repository} ({status}): {str(error)[:300]}. Try again later, or pass a folder's path"
