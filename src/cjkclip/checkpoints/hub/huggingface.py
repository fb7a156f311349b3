"""Download snapshots of Hugging Face's hub into huggingface_hub's own cache; no second cache exists.

huggingface_hub downloads, and reads HF_ENDPOINT, HF_HOME, HF_TOKEN and HF_HUB_OFFLINE. The weights are downloaded last,
so a snapshot with weights is complete. Checksums are compared once after a download, and a wrong file is removed.
"""

import glob
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

from huggingface_hub import (
    HfApi,
    ModelInfo,
    constants,
    errors,
    snapshot_download,  # pyright: ignore[reportUnknownVariableType]
    try_to_load_from_cache,
)

from cjkclip.checkpoints.hub import READABLE, SMALL, Where, complete, needed
from cjkclip.checkpoints.hub.download import WRONG
from cjkclip.checkpoints.hub.progress import Bar, Hidden, files_silent
from cjkclip.checkpoints.hub.reach import Hub, reach, title_of
from cjkclip.errors import HubError, without_secrets
from cjkclip.fingerprint import file_digest


def fetch(repository: str, where: Where, hint: str) -> Path:
    """Return the directory of the snapshot; cached files are not downloaded again. See `hub.locate`."""
    revision = where.revision
    hub = Hub(
        title=title_of(repository, revision),
        offline=where.offline,
        endpoint=constants.ENDPOINT,
        chosen_by="HF_ENDPOINT",
        fetch=lambda: _fetch(repository, where),
        cached=lambda: _cached(repository, where),
        rejection=lambda error, status: _rejection(repository, revision, error, status, hint),
    )
    return reach(hub)


def fetch_file(repository: str, name: str, where: Where) -> Path:
    """Return one small file of a repository, without its model."""

    def snapshot(*, cached: bool) -> Path:
        with files_silent():
            return Path(
                snapshot_download(
                    repository,
                    cache_dir=where.cache,
                    local_files_only=cached,
                    tqdm_class=Hidden,
                    allow_patterns=name,
                    token=where.token,
                )
            )

    def fetch() -> Path:
        files = [each.rfilename for each in HfApi().model_info(repository, token=where.token).siblings or ()]
        if name not in files:
            raise HubError(f"{repository} has no file {name!r}. Its files: {constants.ENDPOINT}/{repository}/tree/main")
        return snapshot(cached=False) / name

    def cached() -> Path | str:
        try:
            file = snapshot(cached=True) / name
        except errors.LocalEntryNotFoundError:
            file = Path(_home(where))
        return file if file.is_file() else f"it is not in the cache ({_home(where)})"

    hub = Hub(
        title=f"{name} of {repository}",
        offline=where.offline,
        endpoint=constants.ENDPOINT,
        chosen_by="HF_ENDPOINT",
        fetch=fetch,
        cached=cached,
        rejection=lambda error, status: _rejection(repository, None, error, status, ""),
    )
    return reach(hub)


def upload(
    folder: Path, repository: str, *, token: str | bool | None = None, private: bool | None = None, **options: Any
) -> str:
    """Upload a directory to a repository, which is created if necessary; return the URL of the commit.

    options are those of huggingface_hub's upload_folder. Raises its errors.
    """
    api: Any = HfApi(token=token)
    full: str = api.create_repo(repository, private=private, exist_ok=True).repo_id
    return str(api.upload_folder(repo_id=full, folder_path=folder, **options).commit_url)


def _fetch(repository: str, where: Where) -> Path:
    revision, cache, token = where.revision, where.cache, where.token
    info = HfApi().model_info(repository, revision=revision, files_metadata=True, token=token)
    files = [each.rfilename for each in info.siblings or ()]
    names = [name for name in files if SMALL.fullmatch(name)] if where.small else needed(files)
    if not names:
        raise HubError(
            f"{repository} has no readable weights: expected {READABLE}. It has: {', '.join(files[:20]) or 'no files'}"
        )
    places = {name: try_to_load_from_cache(repository, name, cache_dir=cache, revision=info.sha) for name in names}
    new = [name for name, place in places.items() if not isinstance(place, str)]
    small = [glob.escape(name) for name in names if SMALL.fullmatch(name)]
    with files_silent():
        options: dict[str, Any] = {"cache_dir": cache, "token": token}
        snapshot_download(repository, revision=revision, allow_patterns=small, tqdm_class=Hidden, **options)
    every = [glob.escape(name) for name in names]
    bar = Bar if new else Hidden
    with files_silent():
        folder = Path(
            cast(str, snapshot_download(repository, revision=info.sha, allow_patterns=every, tqdm_class=bar, **options))
        )
    _check(info, folder, new)
    return folder


def _check(info: ModelInfo, folder: Path, new: list[str]) -> None:
    """Compare the checksums of the new files. Raises HubError after removing a wrong one."""
    expected = {each.rfilename: each.lfs.sha256 for each in info.siblings or () if each.lfs is not None}
    for name in (name for name in new if name in expected):
        link = folder / name
        checksum = file_digest(link)
        if checksum != expected[name]:
            blob = link.resolve()
            link.unlink()
            blob.unlink(missing_ok=True)
            raise HubError(WRONG.format(file=f"{info.id}: {name}", checksum=checksum, expected=expected[name]))


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
        return f"it is not in the cache ({_home(where)})"
    if where.small and any(SMALL.fullmatch(each.name) for each in folder.iterdir()):
        return folder
    return folder if complete(folder) else f"the cache contains only a part of it ({folder})"


def _rejection(repository: str, revision: str | None, error: Exception, status: int, hint: str) -> str:
    """Return the message for a request that the hub rejected."""
    hub = constants.ENDPOINT
    login = "log in with 'hf auth login' or HF_TOKEN"
    if isinstance(error, errors.GatedRepoError):
        return f"{repository} requires consent. Agree to its terms at {hub}/{repository}, then {login}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no revision {revision!r}. Its revisions: {hub}/{repository}/commits/main"
    if isinstance(error, errors.RepositoryNotFoundError) or status == HTTPStatus.NOT_FOUND:
        return (
            f"{hub} has no repository {repository!r}, or it is private ({status}), and {Path.cwd()} has no directory "
            f"of that name. Check the spelling; for a private repository {login}. {hint}".strip()
        )
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return (
            f"{hub} does not show {repository} ({status}): it is private or does not exist. Check the spelling, then "
            f"{login}, or check the current token. {hint}".strip()
        )
    why = without_secrets(str(error))[:300]
    return f"{hub} rejected {repository} ({status}): {why}. Try again later, or pass a local directory"
