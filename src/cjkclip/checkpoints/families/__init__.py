"""Families: one file each. A family is data: its formats, its languages, its releases.

REGISTRY names every family's module; it is imported when a checkpoint is loaded, not with the package.
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
    """A published checkpoint: where it lies, and what only its provenance tells."""

    name: str  # the hub id, the name of a bundled model, or that of a file at `url`
    aliases: tuple[str, ...]
    layout: str  # of the files that `load` fetches
    licence: str
    languages: tuple[str, ...]
    note: str  # one line for `cjkclip models`
    facts: Facts  # laid under what the caller states, over what the files tell
    # what its authors measured, in percent; empty if we know of nothing
    scores: Mapping[str, float] = field(default_factory=lambda: NONE_KNOWN)
    vocabulary: tuple[str, str] | None = None  # repository and file, if the release has none beside its weights
    image_tower: str | None = None  # where the image tower comes from, if the release holds only text
    url: str | None = None  # a single file's, with "#sha256=" and its checksum, if it was published on no hub

    @property
    def source(self) -> str:
        """What `hub.locate` finds it by."""
        return self.url or self.name


@dataclass(frozen=True, kw_only=True)
class Family:
    """What belongs together."""

    name: str
    formats: tuple[Format, ...]
    languages: tuple[str, ...]
    templates: Mapping[str, tuple[str, ...]]  # language -> sentences for labels; a language without any: the bare label
    releases: tuple[Release, ...]


def family(name: str) -> Family:
    """A family by name. Raises ModelNotFoundError."""
    if name not in REGISTRY:
        raise ModelNotFoundError(f"family {name!r} does not exist; choose one of {sorted(REGISTRY)}")
    return cast(Family, importlib.import_module(REGISTRY[name]).FAMILY)


def families() -> tuple[Family, ...]:
    """Every family of the registry."""
    return tuple(family(name) for name in REGISTRY)


def find_release(name: str) -> tuple[Family, Release] | None:
    """The release with this name or alias (upper and lower case count as the same), or None.

    "hf-hub:" before a hub id and "@revision" behind it change nothing. ModelScope's ids are given to other owners, so
    they name no release.
    """
    wanted, stated = name.casefold(), (hub.repository(name) or name).casefold()
    for each in families():
        for release in each.releases:
            known = release.name.casefold()
            if stated == known or wanted in {known, *(alias.casefold() for alias in release.aliases)}:
                return each, release
    return None
