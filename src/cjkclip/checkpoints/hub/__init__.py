"""Turn a model's name into a path: of a local directory or file, a snapshot of a hub, or the file of a URL.

Only the files that loading needs are downloaded: the small files, and one set of weights. An incomplete download is
never returned. The other modules and the hub client are imported if a name is not a local path.
"""

import difflib
import json
import re
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path

from cjkclip.errors import ModelNotFoundError, without_secrets

# The first of these that a repository has is downloaded; a directory is searched in the same order.
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
    r"(?!optimizer|scheduler|scaler|rng_state)[^/]+\.(pt|pth)",  # only if there is exactly one
)
SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
READABLE = "safetensors, pytorch_model.bin, flax_model.msgpack, tf_model.h5 or a single .pt file"
PROCESSORS = {"preprocessor_config.json", "processor_config.json"}  # side files of every CLIP of transformers
# Configs and vocabularies in the repository's top directory; not the indices of weights in other containers.
SMALL = re.compile(r"[^/]+(?<!\.index)\.json|vocab\.txt|merges\.txt|[^/]+\.model|[^/]+\.txt\.gz")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
URL = re.compile(r"https?://[^\s#]+", re.ASCII)
FILE_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".json", ".msgpack", ".h5", ".npz")
MODELSCOPE = "modelscope:"
MODULES = "modules.json"  # sentence-transformers' list of the parts of a model
MOST_MODULES = 1 << 16  # bytes of it
MOST_NAME = 4096  # characters, as in a path

SILENT: ContextVar[bool] = ContextVar("SILENT", default=False)


@dataclass(frozen=True, kw_only=True)
class Where:
    """Which snapshot of a repository to use, and from where."""

    revision: str | None = None
    cache: str | None = None  # a directory to use instead of the hub's own cache
    offline: bool = False  # use only the cache
    token: str | bool | None = field(default=None, repr=False)  # of Hugging Face; None: the token of the login
    small: bool = False  # configs and vocabularies are enough (Hugging Face only; other hubs download the weights too)


def locate(name: str, where: Where | None = None, *, known: Iterable[str] = ()) -> Path:
    """Return the directory or file of `name`; an error suggests the nearest of the `known` names.

    `name` is a path, "org/name" on the hub (also "hf-hub:org/name") or "modelscope:org/name", both also with
    "@revision", or "https://.../file.pt#sha256=...". An existing path is used first. If a hub cannot be reached, a
    complete snapshot in the cache is used, but not if the hub rejects the request.
    Raises ModelNotFoundError for any other name. Raises HubError if the hub cannot be reached and the cache has no
    complete snapshot, if the hub rejects the request, if a checksum is wrong, or if the repository has no model.
    """
    where, here = where or Where(), _here(name)
    if here is not None:
        if where.revision is not None:
            raise ModelNotFoundError(
                f"{here} is a local path, which has no revision {where.revision!r}. Remove revision="
            )
        return here
    known = list(known)
    if len(name) > MOST_NAME:
        start = without_secrets(name)[:60]
        raise ModelNotFoundError(
            f"{start!r}... is not a model: it has {len(name):,} characters, expected a name of at most {MOST_NAME}"
        )
    try:
        return _fetch(name, where, near(name, known))
    except ModelNotFoundError as error:
        raise ModelNotFoundError(f"{error}. {suggest(name, known)}".removesuffix(". ")) from error


def repository(name: str) -> str | None:
    """Return the repository in a name of Hugging Face's hub; None for other names.

    >>> repository("hf-hub:org/clip@v2"), repository("modelscope:org/clip")
    ('org/clip', None)
    """
    plain = name.removeprefix("hf-hub:").partition("@")[0]
    return plain if REPOSITORY.fullmatch(plain) and not plain.endswith(FILE_SUFFIXES) else None


def file(repository: str, name: str, where: Where | None = None) -> Path:
    """Download one small file of a hub repository: a vocabulary that several models share. Raises HubError."""
    from cjkclip.checkpoints.hub import huggingface

    return huggingface.fetch_file(repository, name, where or Where())


def suggest(name: str, known: Iterable[str]) -> str:
    """Return the last sentence of an error message: the names nearest to `name`, or all of them if none is near.

    >>> suggest("vit-b32", ["ViT-B/32", "RN50"])
    "Did you mean 'ViT-B/32'?"
    >>> suggest("zzz", ["ViT-B/32", "RN50"])
    "Known names: 'RN50', 'ViT-B/32'."
    """
    every = sorted(known)
    return near(name, every) or (f"Known names: {', '.join(repr(each) for each in every)}." if every else "")


def near(name: str, known: Iterable[str]) -> str:
    """Return the sentence with the names nearest to `name`, or an empty string.

    >>> near("vit-b/23", ["ViT-B/32", "RN50"]), near("zzz", ["RN50"])
    ("Did you mean 'ViT-B/32'?", '')
    """
    by_lower = {each.lower(): each for each in sorted(known)}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    return f"Did you mean {' or '.join(repr(by_lower[each]) for each in matches)}?" if matches else ""


def needed(files: Iterable[str]) -> list[str]:
    """Return the files of a repository that loading needs; empty if it has no readable weights.

    >>> needed(["README.md", "config.json", "model.safetensors", "pytorch_model.bin"])
    ['config.json', 'model.safetensors']
    """
    names = sorted(files)
    if MODULES in names and (inside := _inside(names)):
        return inside
    for pattern in _order(set(names)):
        weights = [name for name in names if re.fullmatch(pattern, name)]
        if len(weights) == 1 or (weights and pattern != WEIGHTS[-1]):
            return sorted({*weights, *(name for name in names if SMALL.fullmatch(name))})
    return []


def _inside(names: Sequence[str]) -> list[str]:
    """Return the files of the one directory with a model in a repository of sentence-transformers, and its list."""
    folders = sorted({name.partition("/")[0] for name in names if name.count("/") == 1})
    parts = {each: needed(name.partition("/")[2] for name in names if name.startswith(f"{each}/")) for each in folders}
    found = [[f"{each}/{name}" for name in part] for each, part in parts.items() if "config.json" in part]
    return sorted([MODULES, *found[0]]) if len(found) == 1 else []


def model_folder(folder: Path) -> Path:
    """Return the directory of the CLIP in a directory of sentence-transformers; other directories as they are.

    Raises ModelNotFoundError if its modules.json lists no CLIP.
    """
    try:
        if not (folder / MODULES).is_file():
            return folder
    except OSError:  # a directory that cannot be read: the reader of the weights says so
        return folder
    try:
        modules = json.loads((folder / MODULES).read_bytes()[:MOST_MODULES])
        kinds = {str(module["type"]).rpartition(".")[2]: str(module["path"]) for module in modules}
    except (OSError, ValueError, RecursionError, LookupError, TypeError) as error:
        raise ModelNotFoundError(f"{folder / MODULES} is damaged ({error!s:.100}). Download it again") from error
    place = kinds.get("CLIPModel", kinds.get("Transformer"))  # of versions before 6, and from 6 on
    if place is None or {"Pooling", "Dense"} & kinds.keys():
        raise ModelNotFoundError(
            f"{folder} is a model of sentence-transformers with the modules {sorted(kinds)}, not a CLIP. Pass the "
            "directory of a CLIP"
        )
    if place and place != Path(place).name:
        raise ModelNotFoundError(f"{folder / MODULES}: its model is in {place!r:.100}, expected a directory beside it")
    return folder / place


def complete(folder: Path) -> bool:
    """Whether a directory contains readable weights, with every shard of their index."""
    folder = model_folder(folder)
    names = needed(each.name for each in folder.iterdir() if each.is_file())
    try:
        indices = [json.loads((folder / name).read_bytes()) for name in names if name.endswith(".index.json")]
        parts = {part for index in indices for part in index["weight_map"].values()}
    except (OSError, ValueError, RecursionError, LookupError, TypeError, AttributeError):  # a damaged index lists none
        return False
    shards = {name for name in names if SHARD.search(name)}  # an interrupted download may lack their index
    return bool(names) and shards <= parts <= set(names)


@contextmanager
def silence() -> Generator[None]:
    """Hide the progress bars of downloads inside the block, for output that programs read."""
    token = SILENT.set(True)
    try:
        yield
    finally:
        SILENT.reset(token)


def _order(names: set[str]) -> list[str]:
    """Return `WEIGHTS`, with open_clip's files first if the repository also contains timm's image encoder."""
    timm = names >= {"config.json", "open_clip_config.json"} and not names & PROCESSORS
    return sorted(WEIGHTS, key=lambda pattern: timm and not pattern.startswith("open_clip"))


def _here(name: str) -> Path | None:
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None
    except (OSError, RuntimeError):  # too long for a path, or the home directory of an unknown user
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
    """Return the repository and the revision in a name of a hub."""
    bare = name.removeprefix("hf-hub:").removeprefix(MODELSCOPE)
    plain, inside = repository(bare), bare.partition("@")[2]
    if plain is not None:
        if inside and revision not in {None, inside}:
            raise ModelNotFoundError(
                f"{name!r} contains revision {inside!r}, but revision={revision!r} was passed. Pass only one of them"
            )
        return plain, inside or revision
    if bare != name:
        raise ModelNotFoundError(
            f"{name!r} is not a hub name. Expected 'org/name' or 'org/name@revision' after the colon"
        )
    if re.search(r"[\\/]|^~", name) or name.endswith(FILE_SUFFIXES):
        raise ModelNotFoundError(f"there is no file or directory {name!r} (current directory: {Path.cwd()})")
    raise ModelNotFoundError(
        f"{name!r} is not a model. Expected a directory, a file, or a hub name such as "
        "'OFA-Sys/chinese-clip-vit-base-patch16'"
    )
