"""From a name to the checked parts of a model. Knows families and formats, no engine.

Refuses: names that are nothing, tensors left over or missing, facts that nobody tells.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cjkclip import parameters
from cjkclip.checkpoints import hub, layouts, weights
from cjkclip.checkpoints.families import Family, Release, families
from cjkclip.checkpoints.families import family as family_named
from cjkclip.checkpoints.formats import Checkpoint, Facts, Format, as_written, settle
from cjkclip.checkpoints.hub import Where
from cjkclip.checkpoints.matching import find_format
from cjkclip.checkpoints.source import BUNDLED, Source, resolve, with_weights
from cjkclip.checkpoints.tokenizers import tokenizer_of
from cjkclip.config import Model, unknown
from cjkclip.errors import FactsError, LayoutError
from cjkclip.parameters import shapes, spare
from cjkclip.text import Tokenizer

__all__ = ["BUNDLED", "Found", "Source", "Where", "read", "resolve", "told"]

SEEN = ("vision", "image", "scale")  # parts of a config that are the image source's: so are facts of them
WRAP = "module."  # before every name in the files of torch's parallel training
WRAPS = (
    re.compile(rf"{re.escape(WRAP)}(?P<name>.+)"),
    re.compile(r"(?P<layer>[^/]+)/[^/]+/(?P<name>(?P=layer)/.+):0"),  # Keras: layer, model, and the variable's own name
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A checkpoint, read and checked: parameters under canonical names, as they were stored."""

    config: Model
    params: dict[str, np.ndarray]
    tokenizer: Tokenizer | None
    family: Family
    release: Release | None
    folder: Path | None = (
        None  # of the side files, the text tower's if two sources were joined; None: not read from files
    )


def read(source: Source, *, image_tower: str | None = None, facts: Facts | None = None) -> Found:
    """Read and check a checkpoint. See `cjkclip.load` for the arguments and the errors."""
    facts = facts or {}
    tower = image_tower or (source.release.image_tower if source.release else None)
    if tower is None:
        return _read(source, facts=facts, without="")
    seen = {fact: value for fact, value in facts.items() if fact.partition(".")[0] in SEEN}
    rest = {fact: value for fact, value in facts.items() if fact not in seen}
    text = _read(source, facts=rest, without="vision")
    own = replace(source.where, revision=None, small=False)  # the revision is that of the text
    return _joined(text, _read(resolve(tower, own), facts=seen, without="text"), tower)


def _read(source: Source, *, facts: Facts, without: str) -> Found:
    """One source; `without` names a tower that is left aside."""
    source = with_weights(source)
    release, among = source.release, (source.family,) if source.family else families()
    checkpoint = _open(source.path, source.name)
    owner, form = find_format(checkpoint, among)
    with as_written(checkpoint.source):
        origin = form.origin(checkpoint)
        if origin.family is not None:
            owner = family_named(origin.family)
            release = next((r for r in owner.releases if r.name == origin.release), None)
        record = form.read(checkpoint) | ({without: None} if without else {})
        config = _config(settle(record, {**(release.facts if release else {}), **facts}), checkpoint.source)
    params = _params(form, checkpoint, without)
    parameters.check(params, shapes(config), checkpoint.source, spare(config))
    tokenizer = tokenizer_of(form, checkpoint, config)
    if tokenizer is None and config.text is not None and release is not None and release.vocabulary is not None:
        vocabulary = hub.file(*release.vocabulary, replace(source.where, revision=None))
        tokenizer = tokenizer_of(form, replace(checkpoint, folder=vocabulary.parent), config)
    folder = checkpoint.folder
    return Found(config=config, params=params, tokenizer=tokenizer, family=owner, release=release, folder=folder)


def _joined(text: Found, image: Found, source: str) -> Found:
    """The text tower of one checkpoint with the image tower, the scale and the picture rules of another."""
    ours, theirs = text.config, image.config
    if theirs.vision is None or theirs.embed != ours.embed:
        raise LayoutError(
            f"image_tower={source!r} has features {theirs.embed} wide{'' if theirs.vision else ' and no image tower'}; "
            f"the text tower's are {ours.embed} wide: take the tower that it was trained against"
        )
    if theirs.scale is None and "logit_scale" not in image.params:
        raise FactsError(
            f"image_tower={source!r} holds no logit_scale, and the scale is the image tower's: state what multiplies a "
            "cosine, load(..., facts={'scale': 100.0})"
        )
    config = replace(ours, vision=theirs.vision, image=theirs.image, scale=theirs.scale)
    params = image.params | {name: array for name, array in text.params.items() if name != "logit_scale"}
    parameters.check(params, shapes(config), source, spare(config))
    return replace(text, config=config, params=params)


def told(folder: Path) -> dict[str, Any]:
    """What the files of a folder tell of `Model.to_dict()`: no release and no caller adds to it."""
    checkpoint = _open(folder, str(folder))
    with as_written(checkpoint.source):
        return find_format(checkpoint, families())[1].read(checkpoint)


def _open(path: Path, source: str) -> Checkpoint:
    file = weights.find(path) if path.is_dir() else path
    return Checkpoint(source=source, folder=file.parent, tensors=_unwrapped(weights.read(file)))


def _unwrapped(tensors: weights.Tensors) -> weights.Tensors:
    """Without what torch's parallel wrappers, or Keras, put around every name."""
    for wrap in WRAPS:
        found = {name: wrap.fullmatch(name) for name in tensors}
        if found and all(found.values()):
            return weights.Tensors((match["name"], tensors[name]) for name, match in found.items() if match)
    return tensors


def _config(record: Mapping[str, Any], source: str) -> Model:
    lacks = unknown(record)
    if lacks:
        stated = ", ".join(f"{name!r}: {kind}" for name, kind in lacks.items())
        raise FactsError(
            f"{source}: neither its files nor a release record tell {', '.join(lacks)}. They cannot be read off the "
            f"weights, and a wrong guess gives wrong numbers. State them: load(..., facts={{{stated}}})"
        )
    try:
        return Model.from_dict(record)
    except FactsError as error:
        raise FactsError(f"{source}: {error}") from error


def _params(form: Format, checkpoint: Checkpoint, without: str) -> dict[str, np.ndarray]:
    """Canonical parameters. Some files of open_clip hold the scale in shape (1,), which transformers would refuse."""
    whole = layouts.read(form.layout, checkpoint.tensors, checkpoint.source)
    if "logit_scale" in whole and whole["logit_scale"].shape == (1,):
        whole["logit_scale"] = whole["logit_scale"].reshape(())
    return {name: array for name, array in whole.items() if not (without and name.startswith(without + "."))}
