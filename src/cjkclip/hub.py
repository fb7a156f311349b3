"""A model's name -> a path: a folder or file here, or the snapshot of a hub repository.

huggingface_hub downloads and caches; it honours HF_ENDPOINT, HF_HOME, HF_TOKEN, HF_HUB_OFFLINE, and there is
no second cache. Only what loading needs is fetched: the small files, and one set of weights.
Refuses: names that are no path and no "org/name", repositories without weights in a form that we read.
"""

import difflib
import glob
import re
from collections.abc import Iterable
from http import HTTPStatus
from pathlib import Path
from typing import cast

from cjkclip.errors import HubError, ModelNotFoundError

# The first of these that a repository has is fetched, in the order in which a folder is searched.
WEIGHTS = (
    r"model\.safetensors",
    r"model\.safetensors\.index\.json|model-\d{5}-of-\d{5}\.safetensors",
    r"pytorch_model\.bin",
    r"pytorch_model\.bin\.index\.json|pytorch_model-\d{5}-of-\d{5}\.bin",
    r"open_clip_model\.safetensors",
    r"open_clip_pytorch_model\.bin",
    r"flax_model\.msgpack",
    r"flax_model\.msgpack\.index\.json|flax_model-\d{5}-of-\d{5}\.msgpack",
    r"tf_model\.h5",
    r"(?!optimizer|scheduler|scaler|rng_state)[^/]+\.(pt|pth)",  # only if there is but one
)
# Configurations and vocabularies, in the repository's top folder; not the indices of weights in other forms.
SMALL = re.compile(r"[^/]+(?<!\.index)\.json|vocab\.txt|merges\.txt|[^/]+\.model|[^/]+\.txt\.gz")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
FILE_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".json", ".msgpack", ".h5", ".npz")


def locate(name: str, *, revision: str | None = None, cache: str | None = None, offline: bool = False) -> Path:
    """The folder or file that `name` stands for.

    `name` is a path, or "org/name", "hf-hub:org/name", "org/name@revision" on the hub. A path that exists
    wins. When the hub cannot be reached, a snapshot in the cache will do; when it refuses, it will not.
    `cache` is a folder to use in place of huggingface_hub's own; `offline` asks the cache alone.
    Raises ModelNotFoundError for a name that is none of these, HubError when the hub cannot be reached and
    the cache does not help, when it refuses, or when the repository holds no model.
    """
    here = _here(name)
    if here is not None:
        if revision is not None:
            raise ModelNotFoundError(f"{here} is a path on this machine, which has no revision {revision!r}")
        return here
    repository, revision = _parse(name, revision)
    return _fetch(repository, revision, cache, offline)


def suggest(name: str, known: Iterable[str]) -> str:
    """A sentence with the names nearest to `name`, or all of them if none is near. To end an error message.

    >>> suggest("vit-b32", ["ViT-B/32", "RN50"])
    "Did you mean 'ViT-B/32'?"
    >>> suggest("zzz", ["ViT-B/32", "RN50"])
    "Known names: 'RN50', 'ViT-B/32'."
    """
    by_lower = {each.lower(): each for each in sorted(known)}
    near = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    if near:
        return f"Did you mean {' or '.join(repr(by_lower[each]) for each in near)}?"
    return f"Known names: {', '.join(repr(each) for each in by_lower.values())}." if by_lower else ""


def needed(files: Iterable[str]) -> list[str]:
    """Which of a repository's files loading needs; empty if there are no weights that we read.

    >>> needed(["README.md", "config.json", "model.safetensors", "pytorch_model.bin"])
    ['config.json', 'model.safetensors']
    """
    names = sorted(files)
    for pattern in WEIGHTS:
        weights = [name for name in names if re.fullmatch(pattern, name)]
        if len(weights) == 1 or (weights and pattern != WEIGHTS[-1]):
            return sorted({*weights, *(name for name in names if SMALL.fullmatch(name))})
    return []


def _here(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None
    except (OSError, RuntimeError):  # too long for a path, or the home of nobody
        return None


def _parse(name: str, revision: str | None) -> tuple[str, str | None]:
    plain, _, inside = name.removeprefix("hf-hub:").partition("@")
    if REPOSITORY.fullmatch(plain) and not plain.endswith(FILE_SUFFIXES):
        if inside and revision not in {None, inside}:
            raise ModelNotFoundError(f"{name!r} names revision {inside!r}, but revision={revision!r} was asked for")
        return plain, inside or revision
    if re.search(r"[\\/]|^~", name) or name.endswith(FILE_SUFFIXES):
        raise ModelNotFoundError(f"there is no file or folder {name!r} (seen from {Path.cwd()})")
    raise ModelNotFoundError(
        f"{name!r} is no model: expected a folder, a file, or a hub name such as "
        "'OFA-Sys/chinese-clip-vit-base-patch16'"
    )


def _fetch(repository: str, revision: str | None, cache: str | None, offline: bool) -> Path:
    """Download what is needed; files that the cache has are not fetched again."""
    from huggingface_hub import HfApi, errors

    # Without a connection huggingface_hub raises what its HTTP library does: the base of its own error.
    failed = cast(type[Exception], errors.HfHubHTTPError.__bases__[0])
    try:
        if offline:
            raise errors.OfflineModeIsEnabled
        info = HfApi().model_info(repository, revision=revision)
        files = [each.rfilename for each in info.siblings or ()]
        wanted = [glob.escape(name) for name in needed(files)]
        if not wanted:
            raise HubError(
                f"{repository} has no weights that can be read here: expected safetensors, pytorch_model.bin, "
                f"flax_model.msgpack, tf_model.h5 or one .pt file alone. It has: {', '.join(files[:20]) or 'no files'}"
            )
        return _snapshot(repository, revision, wanted, cache, local_files_only=False)
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise HubError(_refusal(repository, revision, error, status)) from error
        return _cached(repository, revision, error, f"the hub has a fault ({status})", cache)
    except errors.OfflineModeIsEnabled as error:
        why = "only local files were asked for" if offline else "HF_HUB_OFFLINE is set"
        return _cached(repository, revision, error, why, cache)
    except errors.HFValidationError as error:
        raise ModelNotFoundError(f"{repository!r} cannot be a hub name: {str(error)[:200]}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise HubError(f"what answers for {repository} is no hub ({error!r:.200}); check HF_ENDPOINT") from error
    except (OSError, failed) as error:
        why = f"it could not be fetched ({type(error).__name__}: {str(error)[:200]})"
        return _cached(repository, revision, error, why, cache)


def _snapshot(
    repository: str, revision: str | None, wanted: list[str], cache: str | None, *, local_files_only: bool
) -> Path:
    from huggingface_hub import snapshot_download  # pyright: ignore[reportUnknownVariableType]

    folder = snapshot_download(
        repository, revision=revision, cache_dir=cache, allow_patterns=wanted, local_files_only=local_files_only
    )
    return Path(folder)


def _cached(repository: str, revision: str | None, error: BaseException, why: str, cache: str | None) -> Path:
    """The snapshot in the cache, or HubError that says `why` it was not fetched."""
    from huggingface_hub import constants, errors

    try:
        folder = _snapshot(repository, revision, [], cache, local_files_only=True)
        if needed(each.name for each in folder.iterdir() if each.is_file()):
            return folder
        found = f"the cache holds only a part of it ({folder})"
    except errors.LocalEntryNotFoundError:
        found = f"the cache does not hold it ({cache or constants.HF_HUB_CACHE})"
    named = repository if revision is None else f"{repository} (revision {revision})"
    raise HubError(
        f"{named}: {why}, and {found}. Load it once with the network on (HF_HUB_OFFLINE unset; the hub is "
        f"{constants.ENDPOINT}), or copy its files here and pass the folder's path"
    ) from error


def _refusal(repository: str, revision: str | None, error: Exception, status: int) -> str:
    """What the hub's refusal means and what to do about it."""
    from huggingface_hub import constants, errors

    hub = constants.ENDPOINT
    login = "log in with 'hf auth login' or HF_TOKEN"
    if isinstance(error, errors.GatedRepoError):
        return f"{repository} asks for consent: agree to its terms at {hub}/{repository}, then {login}"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{repository} has no revision {revision!r}: see {hub}/{repository}/commits"
    if isinstance(error, errors.RepositoryNotFoundError) or status == HTTPStatus.NOT_FOUND:
        return (
            f"{hub} has no repository {repository!r}, or it is private ({status}), and there is no folder of "
            f"that name in {Path.cwd()} either. Check the spelling; for a private one {login}"
        )
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return (
            f"{hub} does not show {repository} ({status}): it is private, or not there. Check the spelling, "
            f"then {login}, or check the token that you have set"
        )
    return f"{hub} refused {repository} ({status}): {str(error)[:300]}. Try again later, or pass a folder's path"
