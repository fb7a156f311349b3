"""Resolve a model's name once: its family, its release and the path of its files."""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cjkclip.checkpoints import hub
from cjkclip.checkpoints.families import Family, Release, families, find_release
from cjkclip.checkpoints.families import family as family_named
from cjkclip.checkpoints.hub import Where
from cjkclip.checkpoints.weights import OpenFile
from cjkclip.errors import CjkclipError, WeightsError

# endings of weight files and of the files beside them
READ = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5", ".npz", ".json", ".txt", ".model", ".gz")
BUNDLED = Path(__file__).parents[1] / "moji"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model's name, and the results of looking it up."""

    name: str  # as the caller wrote it, for messages
    family: Family | None  # the family that the caller requested, else that of the release; None: any
    release: Release | None
    path: Path  # a directory or a weight file
    content: OpenFile | None = None  # an open weight file, which is read instead of `path`
    where: Where  # the options of the look-up; the image tower and the vocabulary of a release use them too

    @property
    def folder(self) -> Path:
        """The directory of the side files."""
        return self.path if self.path.is_dir() else self.path.parent


def resolve(name: str | Path | OpenFile, where: Where | None = None, *, family: str | None = None) -> Source:
    """Return the source of a release, an alias, a hub name or a path; download its files if they are not local.

    An open weight file has no side files. Raises ModelNotFoundError for an unknown family, and the errors of
    `hub.locate`.
    """
    where = where or Where()
    if not isinstance(name, str | Path):
        wanted = None if family is None else family_named(family)
        nowhere = Path(os.devnull, "weights")  # a path that cannot exist
        return Source(name=type(name).__name__, family=wanted, release=None, path=nowhere, content=name, where=where)
    name = str(name)
    own, release = find_release(name) or (None, None)
    requested = own if family is None else family_named(family)
    path = _path(name, release, where)
    return Source(name=name, family=requested, release=release, path=path, where=where)


@contextmanager
def unchanged(path: Path) -> Generator[None]:
    """Raise WeightsError if the files of a checkpoint change while they are read, as when a program saves there."""
    before = _states(path)
    try:
        yield
    except (CjkclipError, OSError) as error:
        if _states(path) == before:
            raise
        raise WeightsError(_changed(path)) from error
    if _states(path) != before:
        raise WeightsError(_changed(path))


def _states(path: Path) -> list[tuple[str, int, int, int]]:
    """Return the name, inode, size and time of change of the files of a checkpoint."""
    states: list[tuple[str, int, int, int]] = []
    files = [path]
    with suppress(OSError):  # a file, or a directory that cannot be read: the readers say so
        files += [each for each in path.iterdir() if each.suffix in READ]
    for each in files:
        with suppress(OSError):
            stat = each.stat()
            size, time = (0, 0) if each.is_dir() else (stat.st_size, stat.st_mtime_ns)  # a directory's own may change
            states.append((each.name, stat.st_ino, size, time))
    return sorted(states)


def _changed(path: Path) -> str:
    return f"{path}: its files changed while they were read, so they may belong to two models. Load it again"


def with_weights(source: Source) -> Source:
    """Return the source with its weights, which a look-up of only the small files may have left out."""
    if not source.where.small or source.content is not None:
        return source
    where = replace(source.where, small=False)
    whole = source.path.is_file() or hub.complete(source.path)
    return replace(source, path=source.path if whole else _path(source.name, source.release, where), where=where)


def _path(name: str, release: Release | None, where: Where) -> Path:
    if release is not None and release.name == "moji":
        return BUNDLED
    known = [each for owner in families() for r in owner.releases for each in (r.name, *r.aliases)]
    return hub.locate(_hub_name(name, release) if release else name, where, known=known)


def _hub_name(name: str, release: Release) -> str:
    """Return the name of a release on its hub, with the revision in the caller's name."""
    repository = hub.repository(name)
    if repository is None or repository.casefold() != release.name.casefold():
        return release.source
    return name.replace(repository, release.name)
