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
from cjkclip.checkpoints.families import Family, Release, families, find_format, find_release
from cjkclip.checkpoints.families import family as family_named
from cjkclip.checkpoints.formats import Checkpoint, Facts, Format, as_written, settle
from cjkclip.checkpoints.hub import Where
from cjkclip.config import Model, Text, unknown
from cjkclip.errors import FactsError, LayoutError
from cjkclip.parameters import shapes, spare
from cjkclip.text import Tokenizer
from cjkclip.text.bpe import Bpe

BUNDLED = Path(__file__).parents[1] / "moji"
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


def read(
    name: str,
    *,
    family: str | None = None,
    image_tower: str | None = None,
    facts: Facts | None = None,
    where: Where | None = None,
) -> Found:
    """Find, read and check a checkpoint. See `cjkclip.load` for the arguments and the errors."""
    facts, where = facts or {}, where or Where()
    known = find_release(name)
    tower = image_tower or (known[1].image_tower if known else None)
    if tower is None:
        return _read(name, family=family, where=where, facts=facts, without="")
    seen = {fact: value for fact, value in facts.items() if fact.partition(".")[0] in SEEN}
    rest = {fact: value for fact, value in facts.items() if fact not in seen}
    text = _read(name, family=family, where=where, facts=rest, without="vision")
    own = replace(where, revision=None)  # the revision is that of the text
    return _joined(text, _read(tower, family=None, where=own, facts=seen, without="text"), tower)


def _read(name: str, *, family: str | None, where: Where, facts: Facts, without: str) -> Found:
    """One source; `without` names a tower that is left aside."""
    known = find_release(name)
    release = known[1] if known else None
    checkpoint = _open(locate(name, where), name)
    owner, form = find_format(checkpoint, _candidates(family, known[0] if known else None))
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
        vocabulary = hub.file(*release.vocabulary, replace(where, revision=None))
        tokenizer = tokenizer_of(form, replace(checkpoint, folder=vocabulary.parent), config)
    return Found(config=config, params=params, tokenizer=tokenizer, family=owner, release=release)


def _candidates(asked: str | None, known: Family | None) -> tuple[Family, ...]:
    """The families a checkpoint may be of: the one that was asked for, the release's own, or any."""
    if asked is not None:
        return (family_named(asked),)
    return families() if known is None else (known,)


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


def locate(name: str, where: Where) -> Path:
    """The folder or file of a release, an alias, a hub name or a path. Raises as `hub.locate` does."""
    found = find_release(name)
    if found is not None and found[1].name == "moji":
        return BUNDLED
    known = [n for each in families() for r in each.releases for n in (r.name, *r.aliases)]
    return hub.locate(_source(name, found[1]) if found else name, where, known=known)


def _source(name: str, release: Release) -> str:
    """What the hub knows a release by; a revision that its name was given with stays."""
    stated = hub.repository(name)
    if stated is None or stated.casefold() != release.name.casefold():
        return release.source
    return name.replace(stated, release.name)


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


def tokenizer_of(form: Format, checkpoint: Checkpoint, config: Model) -> Tokenizer | None:
    """What a format makes of the files beside the weights. Raises FactsError if it and the text tower do not fit."""
    with as_written(checkpoint.source):
        tokenizer = form.tokenizer(checkpoint, config)
    if tokenizer is not None and config.text is not None and tokenizer.vocab_size > config.text.vocab:
        raise FactsError(
            f"{checkpoint.source}: its tokenizer has {tokenizer.vocab_size} ids, the text tower {config.text.vocab}: "
            "they do not belong together"
        )
    if tokenizer is not None and config.text is not None and tokenizer.context > config.text.context:
        raise FactsError(
            f"{checkpoint.source}: its tokenizer makes rows of {tokenizer.context} ids, the text tower reads "
            f"{config.text.context}: they do not belong together"
        )
    if isinstance(tokenizer, Bpe) and isinstance(config.text, Text):
        _require_end(config.text, tokenizer, checkpoint.source)
    return tokenizer


def _require_end(text: Text, tokenizer: Bpe, source: str) -> None:
    """Raise FactsError unless the id that a text is read at is that of the end token."""
    last = tokenizer.vocab_size - 1
    where, instead = "the largest id", "an ordinary word there"
    if text.pool == "first-eot":
        where, instead = f"the first id {text.eot}", "that id where a text has it, else the start"
    if tokenizer.eot != (last if text.pool == "largest-id" else text.eot):
        raise FactsError(
            f"{source}: its config pools text at {where}, but its tokenizer's end token has id {tokenizer.eot} of 0 to "
            f"{last}: the original reads {instead}. To read the end token: "
            f"load(..., facts={{'text.pool': 'first-eot', 'text.eot': {tokenizer.eot}}})"
        )
