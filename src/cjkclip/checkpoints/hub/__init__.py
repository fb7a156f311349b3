"""A model's name -> a path: a folder or file here, a hub repository's snapshot, ModelScope's, or a URL's file.

Only what loading needs is fetched: the small files, and one set of weights. Nothing half fetched is ever returned.
What fetches lies in the modules below, and is imported with the hub client when a name is no path.
Refuses: names that are no path, no "org/name" and no URL, repositories without weights in a form that we read.
"""

import difflib
import json
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

from cjkclip.errors import ModelNotFoundError

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
READABLE = "safetensors, pytorch_model.bin, flax_model.msgpack, tf_model.h5 or one .pt file alone"
PROCESSORS = {"preprocessor_config.json", "processor_config.json"}  # beside every whole CLIP of transformers
# Configurations and vocabularies, in the repository's top folder; not the indices of weights in other forms.
SMALL = re.compile(r"[^/]+(?<!\.index)\.json|vocab\.txt|merges\.txt|[^/]+\.model|[^/]+\.txt\.gz")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
URL = re.compile(r"https?://[^\s#]+", re.ASCII)
FILE_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".json", ".msgpack", ".h5", ".npz")
MODELSCOPE = "modelscope:"

SILENT: ContextVar[bool] = ContextVar("SILENT", default=False)


@dataclass(frozen=True, kw_only=True)
class Where:
    """Which snapshot of a repository, and where it may come from."""

    revision: str | None = None
    cache: str | None = None  # a folder to use in place of the source's own cache
    offline: bool = False  # ask the cache alone
    small: bool = False  # configurations and vocabularies will do (of Hugging Face's hub; elsewhere weights come too)


def locate(name: str, where: Where | None = None, *, known: Iterable[str] = ()) -> Path:
    """The folder or file that `name` stands for; `known` are the names to suggest when it is none.

    `name` is a path, "org/name" on the hub (also "hf-hub:org/name"), "modelscope:org/name", each also with
    "@revision", or "https://.../file.pt#sha256=...". A path that exists wins. When a hub cannot be reached, a complete
    snapshot in the cache will do; when it refuses, it will not.
    Raises ModelNotFoundError for a name that is none of these, HubError when the hub cannot be reached and
    the cache does not help, when it refuses, when a checksum is wrong, or when the repository holds no model.
    """
    where, here = where or Where(), _here(name)
    if here is not None:
        if where.revision is not None:
            raise ModelNotFoundError(f"{here} is a path on this machine, which has no revision {where.revision!r}")
        return here
    known = list(known)
    try:
        return _fetch(name, where, near(name, known))
    except ModelNotFoundError as error:
        raise ModelNotFoundError(f"{error}. {suggest(name, known)}".removesuffix(". ")) from error


def repository(name: str) -> str | None:
    """The repository of Hugging Face's hub that a name states, bare; None where it states another place.

    >>> repository("hf-hub:org/clip@v2"), repository("modelscope:org/clip")
    ('org/clip', None)
    """
    plain = name.removeprefix("hf-hub:").partition("@")[0]
    return plain if REPOSITORY.fullmatch(plain) and not plain.endswith(FILE_SUFFIXES) else None


def file(repository: str, name: str, where: Where | None = None) -> Path:
    """One small file of a repository on the hub: a vocabulary that several models share. Raises HubError."""
    from cjkclip.checkpoints.hub import huggingface

    return huggingface.fetch_file(repository, name, where or Where())


def suggest(name: str, known: Iterable[str]) -> str:
    """A sentence with the names nearest to `name`, or all of them if none is near. To end an error message.

    >>> suggest("vit-b32", ["ViT-B/32", "RN50"])
    "Did you mean 'ViT-B/32'?"
    >>> suggest("zzz", ["ViT-B/32", "RN50"])
    "Known names: 'RN50', 'ViT-B/32'."
    """
    every = sorted(known)
    return near(name, every) or (f"Known names: {', '.join(repr(each) for each in every)}." if every else "")


def near(name: str, known: Iterable[str]) -> str:
    """The sentence with the names nearest to `name`, or nothing.

    >>> near("vit-b/23", ["ViT-B/32", "RN50"]), near("zzz", ["RN50"])
    ("Did you mean 'ViT-B/32'?", '')
    """
    by_lower = {each.lower(): each for each in sorted(known)}
    found = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(repr(by_lower[each]) for each in found)}?" if found else ""


def needed(files: Iterable[str]) -> list[str]:
    """Which of a repository's files loading needs; empty if there are no weights that we read.

    >>> needed(["README.md", "config.json", "model.safetensors", "pytorch_model.bin"])
    ['config.json', 'model.safetensors']
    """
    names = sorted(files)
    for pattern in _order(set(names)):
        weights = [name for name in names if re.fullmatch(pattern, name)]
        if len(weights) == 1 or (weights and pattern != WEIGHTS[-1]):
            return sorted({*weights, *(name for name in names if SMALL.fullmatch(name))})
    return []


def complete(folder: Path) -> bool:
    """Whether a folder holds weights that we read, with every part that their index names."""
    wanted = needed(each.name for each in folder.iterdir() if each.is_file())
    try:
        indices = [json.loads((folder / name).read_bytes()) for name in wanted if name.endswith(".index.json")]
        parts = {part for index in indices for part in index["weight_map"].values()}
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):  # a damaged index names none
        return False
    return bool(wanted) and parts <= set(wanted)


@contextmanager
def silence() -> Generator[None]:
    """No progress bars of downloads inside, for output that a program reads."""
    token = SILENT.set(True)
    try:
        yield
    finally:
        SILENT.reset(token)


def _order(names: set[str]) -> list[str]:
    """`WEIGHTS`; open_clip's whole model first, where it lies beside timm's image encoder."""
    timm = names >= {"config.json", "open_clip_config.json"} and not names & PROCESSORS
    return sorted(WEIGHTS, key=lambda pattern: timm and not pattern.startswith("open_clip"))


def _here(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None
    except (OSError, RuntimeError):  # too long for a path, or the home of nobody
        return None


def _fetch(name: str, where: Where, hint: str) -> Path:
    if URL.match(name):
        from cjkclip.checkpoints.hub import url

        return url.fetch(name, where)
    repository, revision = _parse(name, where.revision)
    where = replace(where, revision=revision)
    if name.startswith(MODELSCOPE):
        from cjkclip.checkpoints.hub import modelscope

        return modelscope.fetch(repository, where, hint)
    from cjkclip.checkpoints.hub import huggingface

    return huggingface.fetch(repository, where, hint)


def _parse(name: str, revision: str | None) -> tuple[str, str | None]:
    """The repository and the revision that a name of a hub states."""
    bare = name.removeprefix("hf-hub:").removeprefix(MODELSCOPE)
    plain, inside = repository(bare), bare.partition("@")[2]
    if plain is not None:
        if inside and revision not in {None, inside}:
            raise ModelNotFoundError(f"{name!r} names revision {inside!r}, but revision={revision!r} was asked for")
        return plain, inside or revision
    if bare != name:
        raise ModelNotFoundError(
            f"{name!r} is no hub name: expected 'org/name' or 'org/name@revision' behind the colon"
        )
    if re.search(r"[\\/]|^~", name) or name.endswith(FILE_SUFFIXES):
        raise ModelNotFoundError(f"there is no file or folder {name!r} (seen from {Path.cwd()})")
    raise ModelNotFoundError(
        f"{name!r} is no model: expected a folder, a file, or a hub name such as "
        "'OFA-Sys/chinese-clip-vit-base-patch16'"
    )
