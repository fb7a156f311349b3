"""Families: one file each. A family is data: its formats, its languages, its releases.

REGISTRY names every family's module; it is imported when a checkpoint is loaded, not with the package.
"""

import importlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from cjkclip.checkpoints import hub
from cjkclip.checkpoints.formats import Checkpoint, Facts, Format
from cjkclip.checkpoints.layouts import homeless, published
from cjkclip.errors import LayoutError, ModelNotFoundError

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


def find_format(checkpoint: Checkpoint, among: Sequence[Family]) -> tuple[Family, Format]:
    """The format that a checkpoint matches best: the fewest tensors without a place, the first of equals.

    Raises LayoutError that says what the file looks like.
    """
    fitting = [(each, form) for each in among for form in each.formats if form.layout.matches(checkpoint.tensors)]
    described = [pair for pair in fitting if _is_described(pair[1], checkpoint)]
    if fitting:
        each, form = min(described or fitting, key=lambda pair: len(homeless(pair[1].layout, checkpoint.tensors)))
        if described:
            return each, form
        raise LayoutError(
            f"{checkpoint.source}: these are tensors of layout {form.layout.name!r}, but {form.config_file} is not "
            "beside them; put it there, or pass the folder that holds both"
        )
    known = [form.layout.name for each in among for form in each.formats]
    raise LayoutError(
        f"{checkpoint.source}: {len(checkpoint.tensors)} tensors of no known layout "
        f"(first: {sorted(checkpoint.tensors)[:3]}); known: {known}"
    )


def _is_described(form: Format, checkpoint: Checkpoint) -> bool:
    """Does the config beside the weights fit the form, if the form needs one?"""
    if form.config_file is None:
        return True
    record = checkpoint.json(form.config_file)
    return record is not None and (form.model_type is None or form.model_type == record.get("model_type"))


def find_layout(name: str, params: Iterable[str]) -> Format:
    """The format of that layout name that has a place for every parameter, or else the one that comes closest.

    Raises LayoutError if there is no layout of that name.
    """
    forms = [form for each in families() for form in each.formats]
    named = [form for form in forms if form.layout.name == name]
    if not named:
        raise LayoutError(f"layout {name!r} does not exist; choose one of {sorted({f.layout.name for f in forms})}")
    params = list(params)
    return max(named, key=lambda form: sum(published(form.layout, p) is not None for p in params))
