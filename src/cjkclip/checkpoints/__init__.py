"""Read a model's parts by its name, and check them. Imports families and formats, no engine.

A checkpoint with unknown names, missing tensors or missing facts is rejected; a model is never loaded partially.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np

from cjkclip import parameters
from cjkclip.checkpoints import hub, layouts, weights
from cjkclip.checkpoints.families import Family, Release, families
from cjkclip.checkpoints.families import family as family_named
from cjkclip.checkpoints.formats import Checkpoint, Facts, Format, as_written, settle
from cjkclip.checkpoints.hub import Where
from cjkclip.checkpoints.matching import common_prefix, find_format
from cjkclip.checkpoints.positions import at_size
from cjkclip.checkpoints.source import BUNDLED, Source, resolve, unchanged, with_weights
from cjkclip.checkpoints.tokenizers import tokenizer_of
from cjkclip.config import Model, unknown
from cjkclip.errors import FactsError, LayoutError, WeightsError
from cjkclip.machine.mapped import MappedFile, files, let_go_of
from cjkclip.parameters import shapes, spare
from cjkclip.text import Tokenizer, check_context
from cjkclip.text.files import read_json

__all__ = ["BUNDLED", "Found", "ReadOptions", "Source", "Where", "check_options", "read", "resolve", "stored_config"]

IMAGE_PARTS = ("vision", "image", "scale")  # config parts of the image source, which gets their facts too
MOST_SCALE = 80.0  # largest logarithm of the scale: above it float32 overflows
WRAP = "module."  # prefix of every name in files of torch's parallel training
EXAMPLES = {"act": "quick_gelu", "eps": 1e-5, "pool": "largest-id"}
WRAPS = (
    re.compile(rf"{re.escape(WRAP)}(?P<name>.+)"),
    re.compile(r"(?P<layer>[^/]+)/[^/]+/(?P<name>(?P=layer)/.+):0"),  # Keras: layer, model, and the variable's own name
)


@dataclass(frozen=True, kw_only=True)
class Found:
    """A checkpoint that was read and checked: parameters with canonical names, in their stored types."""

    config: Model
    params: dict[str, np.ndarray]
    tokenizer: Tokenizer | None
    family: Family
    release: Release | None
    # directory of the side files, the text tower's if two sources were joined; None: not read from files
    folder: Path | None = None

    @property
    def files(self) -> list[MappedFile]:
        """The memory-mapped files that parameters are views of; see `machine.mapped.steady`."""
        return files(self.params.values())

    @cached_property
    def logit_scale(self) -> float:
        """The factor of the cosines: exp(logit_scale), else config.scale, else 1 for a single tower. WeightsError."""
        if "logit_scale" not in self.params:
            return self.config.scale or 1.0
        logarithm = float(self.params["logit_scale"].astype(np.float64).reshape(()))
        if not abs(logarithm) < MOST_SCALE:
            advice = "training caps it at 4.61. If the file contains the scale itself, replace it by its logarithm"
            raise WeightsError(f"logit_scale is {logarithm:.4g}, expected the logarithm of a scale: {advice}")
        return float(np.exp(logarithm))


class ReadOptions(TypedDict, total=False):
    """The options of `read`, which `cjkclip.load` passes on. See there."""

    image_tower: str | Path | None
    facts: Facts | None
    image_size: int | None
    context: int | None
    mapped: bool


def check_options(options: Mapping[str, Any]) -> None:
    """Raise TypeError for a name that is no option of `read`, before anything is downloaded."""
    if unknown_names := sorted(options.keys() - ReadOptions.__annotations__.keys()):
        accepted = ", ".join(("engine", "precision", "device", "family", "revision", *ReadOptions.__annotations__))
        raise TypeError(f"load() has no option {', '.join(map(repr, unknown_names))}: use one of {accepted}")


def read(
    source: Source,
    *,
    image_tower: str | Path | None = None,
    facts: Facts | None = None,
    image_size: int | None = None,
    context: int | None = None,
    mapped: bool = True,
) -> Found:
    """Read and check a checkpoint. See `cjkclip.load` for the arguments and the errors."""
    facts = facts or {}
    tower = image_tower or (source.release.image_tower if source.release else None)
    if tower is None:
        return _with_context(_read(source, facts=facts, without="", image_size=image_size, mapped=mapped), context)
    image_facts = {fact: value for fact, value in facts.items() if fact.partition(".")[0] in IMAGE_PARTS}
    text_facts = {fact: value for fact, value in facts.items() if fact not in image_facts}
    text = _with_context(_read(source, facts=text_facts, without="vision", mapped=mapped), context)
    where = replace(source.where, revision=None, small=False)  # the revision belongs to the text's repository
    image = _read(resolve(tower, where), facts=image_facts, without="text", image_size=image_size, mapped=mapped)
    return _joined(text, image, str(tower))


def _read(source: Source, *, facts: Facts, without: str, image_size: int | None = None, mapped: bool = True) -> Found:
    """Read one source; `without` is a tower to leave out. Raises WeightsError if its files change meanwhile."""
    source = with_weights(source)
    with unchanged(source.path):
        found = _read_files(source, facts, without, image_size)
        return found if mapped else replace(found, params=dict(map(_copied, found.params.items())))


def _copied(item: tuple[str, np.ndarray]) -> tuple[str, np.ndarray]:
    """Return a parameter with its own memory, and hand back the pages of its file."""
    name, array = item
    copy = np.array(array)
    let_go_of(array)
    return name, copy


def _read_files(source: Source, facts: Facts, without: str, image_size: int | None) -> Found:
    release, among = source.release, (source.family,) if source.family else families()
    checkpoint = _open(source.path, source.name, source.content)
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
    if image_size is not None:
        config, params = at_size(config, params, image_size, form.positions)
    tokenizer = tokenizer_of(form, checkpoint, config)
    if tokenizer is None and config.text is not None and release is not None and release.vocabulary is not None:
        vocabulary = hub.file(*release.vocabulary, replace(source.where, revision=None))
        tokenizer = tokenizer_of(form, replace(checkpoint, folder=vocabulary.parent), config)
    folder = checkpoint.folder
    return Found(config=config, params=params, tokenizer=tokenizer, family=owner, release=release, folder=folder)


def _with_context(found: Found, context: int | None) -> Found:
    """Return the checkpoint with a tokenizer whose rows have `context` ids. Raises FactsError if that cannot be."""
    if context is None:
        return found
    text, tokenizer = found.config.text, cast(Any, found.tokenizer)
    if text is None or tokenizer is None:
        raise FactsError(f"context={context!r}, but this checkpoint has no texts to read: leave context out")
    check_context(context, text.context)
    return replace(found, tokenizer=tokenizer.under(replace(tokenizer.rules, context=context)))


def _joined(text: Found, image: Found, source: str) -> Found:
    """Join the text tower of one checkpoint with the image tower, scale and preprocessing of another."""
    ours, theirs = text.config, image.config
    if theirs.vision is None or theirs.embed != ours.embed:
        lack = "" if theirs.vision else " and no image tower"
        raise LayoutError(
            f"image_tower={source!r} has embeddings of width {theirs.embed}{lack}; the text tower has width "
            f"{ours.embed}. Pass the image tower that the text tower was trained with"
        )
    if theirs.scale is None and "logit_scale" not in image.params:
        raise FactsError(
            f"image_tower={source!r} has no logit_scale. Pass the factor of the cosine similarities, "
            'for example: load(..., facts={"scale": 100.0})'
        )
    config = replace(ours, vision=theirs.vision, image=theirs.image, scale=theirs.scale)
    params = image.params | {name: array for name, array in text.params.items() if name != "logit_scale"}
    parameters.check(params, shapes(config), source, spare(config))
    return replace(text, config=config, params=params)


def stored_config(folder: Path) -> dict[str, Any]:
    """Return the part of `Model.to_dict()` that the files contain, without facts of a release or the caller."""
    checkpoint = _open(folder, str(folder))
    with as_written(checkpoint.source):
        return find_format(checkpoint, families())[1].read(checkpoint)


def _open(path: Path, source: str, content: weights.OpenFile | None = None) -> Checkpoint:
    if content is not None:
        return Checkpoint(source=source, folder=path, tensors=_unwrapped(weights.read_file(content, source)))
    file = weights.find(hub.model_folder(path)) if path.is_dir() else path
    _require_no_adapter(file, source)
    return Checkpoint(source=source, folder=file.parent, tensors=_unwrapped(weights.read(file)))


def _require_no_adapter(file: Path, source: str) -> None:
    """Raise LayoutError for the file of a LoRA adapter, with the name of its base model."""
    record = file.with_name("adapter_config.json")
    if file.name.startswith("adapter_model.") and record.is_file():
        config = read_json(record)
        base, kind = config.get("base_model_name_or_path"), str(config.get("peft_type", "LORA"))[:20]
        merge = f"PeftModel.from_pretrained(model, {str(file.parent)!r}).merge_and_unload().save_pretrained('merged')"
        raise LayoutError(
            f"{source}: this is a {kind} adapter of {base!r:.200}, not a whole model. Merge it with peft, and load the "
            f"directory 'merged': {merge}"
        )


def _unwrapped(tensors: weights.Tensors) -> weights.Tensors:
    """Remove what wrappers of torch or Keras add to every name: "module.", "model.", "_orig_mod." and so on."""
    for wrap in WRAPS:
        matches = {name: wrap.fullmatch(name) for name in tensors}
        if matches and all(matches.values()):
            tensors = weights.Tensors((match["name"], tensors[name]) for name, match in matches.items() if match)
            break
    if prefix := common_prefix(tensors):
        return weights.Tensors((name.removeprefix(prefix), tensor) for name, tensor in tensors.items())
    return tensors


def _config(record: Mapping[str, Any], source: str) -> Model:
    missing = unknown(record)
    if missing:
        fields = ", ".join(f"{name} ({kind})" for name, kind in missing.items())
        facts = json.dumps({name: _example(record, name) for name in missing})
        raise FactsError(
            f"{source}: the checkpoint does not say {fields}, and the weights do not show it. A wrong value gives "
            f"wrong numbers. Pass it, for example: load(..., facts={facts})"
        )
    try:
        return Model.from_dict(record)
    except FactsError as error:
        raise FactsError(f"{source}: {error}") from error


def _example(record: Mapping[str, Any], name: str) -> Any:
    """Return a likely value of a config field for the error message: 64-wide heads, OpenAI's activation."""
    part, _, field = name.partition(".")
    return max(1, record[part].get("width", 64) // 64) if field == "heads" else EXAMPLES.get(field, "...")


def _params(form: Format, checkpoint: Checkpoint, without: str) -> dict[str, np.ndarray]:
    """Return the canonical parameters. Some open_clip files store logit_scale with shape (1,)."""
    params = layouts.read(form.layout, checkpoint.tensors, checkpoint.source)
    if "logit_scale" in params and params["logit_scale"].shape == (1,):
        params["logit_scale"] = params["logit_scale"].reshape(())
    return {name: array for name, array in params.items() if not (without and name.startswith(without + "."))}
