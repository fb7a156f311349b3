"""The families, one file each. A family is data: formats, languages, prompt templates, releases.

REGISTRY lists every family's module. The modules are imported when a checkpoint is loaded, not with the package.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from cjkclip.checkpoints import hub
from cjkclip.checkpoints.formats import Facts, Format
from cjkclip.errors import ModelNotFoundError

REGISTRY: dict[str, str] = {
    "moji": "cjkclip.checkpoints.families.moji",
    "openai": "cjkclip.checkpoints.families.openai",
    "chinese": "cjkclip.checkpoints.families.chinese",
    "rinna": "cjkclip.checkpoints.families.rinna",
    "koclip": "cjkclip.checkpoints.families.koclip",
    "taiyi": "cjkclip.checkpoints.families.taiyi",
}


NONE_KNOWN: Mapping[str, float] = {}


@dataclass(frozen=True, kw_only=True)
class Release:
    """A published checkpoint: its name or URL, and the facts that its files do not contain."""

    name: str  # the hub id, the name of a bundled model, or that of a file at `url`
    aliases: tuple[str, ...]
    layout: str  # of the files that `load` downloads
    licence: str
    languages: tuple[str, ...]
    note: str  # one line for `cjkclip models`
    facts: Facts  # override the values of the files; the caller's facts override both
    # published by its authors, in percent; empty if unknown
    scores: Mapping[str, float] = field(default_factory=lambda: NONE_KNOWN)
    vocabulary: tuple[str, str] | None = None  # repository and file, if it is not beside the weights
    image_tower: str | None = None  # the model with the image tower, if the release contains only text
    url: str | None = None  # of a single file with "#sha256=" and its checksum, if it is on no hub

    @property
    def source(self) -> str:
        """The name that `hub.locate` accepts."""
        return self.url or self.name


@dataclass(frozen=True, kw_only=True)
class Family:
    """Formats, languages, prompt templates and releases that belong together."""

    name: str
    formats: tuple[Format, ...]
    languages: tuple[str, ...]
    templates: Mapping[str, tuple[str, ...]]  # language -> prompt templates; a language without any: plain labels
    releases: tuple[Release, ...]


def family(name: str) -> Family:
    """Return a family by name. Raises ModelNotFoundError."""
    if name not in REGISTRY:
        raise ModelNotFoundError(f"family {name!r} does not exist. Use one of {sorted(REGISTRY)}, or leave family out")
    return cast(Family, importlib.import_module(REGISTRY[name]).FAMILY)


def families() -> tuple[Family, ...]:
    """Return every family of the registry."""
    return tuple(family(name) for name in REGISTRY)


def find_release(name: str) -> tuple[Family, Release] | None:
    """Return the release with this name or alias and its family, or None. Case is ignored.

    A hub id may have "hf-hub:" before it and "@revision" after it. ModelScope's ids may have other owners, so they
    never match a release.
    """
    folded, repository = name.casefold(), (hub.repository(name) or name).casefold()
    for each in families():
        for release in each.releases:
            own = release.name.casefold()
            if repository == own or folded in {own, *(alias.casefold() for alias in release.aliases)}:
                return each, release
    return None
