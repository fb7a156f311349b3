"""From the parts of a model to a folder, in any layout that can hold it. Knows families and formats, no engine.

Refuses: layouts without a place for a parameter or for the vocabulary, folders whose other files would be read with
what is written, or in its place.
"""

import shutil
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cjkclip.checkpoints import WRAP, Found, layouts, weights
from cjkclip.checkpoints.formats import Checkpoint, Format, Parts
from cjkclip.checkpoints.matching import find_layout
from cjkclip.checkpoints.tokenizers import tokenizer_of
from cjkclip.errors import CheckpointError, InputError, LayoutError, LayoutWarning
from cjkclip.text import Tokenizer

READING = ("cleaning", "style", "max_chars", "lower", "context")  # the rules of a tokenizer that tell one text's ids
# what a reader might find beside files of another layout, and take for theirs
VOCABULARIES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model")


def write(found: Found, folder: Path, layout: str) -> Path:
    """Write a checkpoint in a layout. See `Clip.save`."""
    form = find_layout(layout, found.params)
    tensors = layouts.write(form.layout, found.params)
    _require_scale(form, tensors)
    _require_first(folder, form.weights_file)
    release = found.release.name if found.release else None
    parts = Parts(config=found.config, tokenizer=found.tokenizer, family=found.family.name, release=release)
    with tempfile.TemporaryDirectory() as beside:  # what is refused must not lie among the files of an older model
        form.write(parts, Path(beside))
        there = Checkpoint(source=str(folder), folder=Path(beside), tensors=tensors)
        kept, written = _kept(parts, form, there), sorted(Path(beside).iterdir())
        _require_no_others(folder, Path(beside), kept, partial(tokenizer_of, form, there, found.config))
        folder.mkdir(parents=True, exist_ok=True)
        # first, since they may be refused: what describes an older model must not be exchanged then
        if form.wrapped:
            wrapped = {WRAP + name: array for name, array in tensors.items()}
            weights.write(folder / form.weights_file, wrapped, under="state_dict")
        else:
            weights.write(folder / form.weights_file, tensors)
        for file in written:
            shutil.copyfile(file, folder / file.name)
    _tell_rules(found.tokenizer, kept, layout)
    return folder


def _require_scale(form: Format, tensors: layouts.Arrays) -> None:
    """Raise LayoutError if every file of this layout holds a scale and the model's is a constant."""
    if "logit_scale" in form.layout.marks and "logit_scale" not in tensors:
        raise LayoutError(
            f"layout {form.layout.name!r} has logit_scale in every file, and this model's scale is a constant. "
            "Layout 'cjkclip' keeps it"
        )


def _require_first(folder: Path, file: str) -> None:
    """Raise InputError if `load(folder)` would read other weights than those that are to be written there."""
    there = {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set[str]()
    others = [name for name in weights.weight_files(there | {file}) if name != file]
    if others:
        raise InputError(
            f"{str(folder)!r} holds {others[0]}, which would be read in the place of the {file} that this layout "
            "writes: name a new folder, or remove that file first"
        )


def _require_no_others(folder: Path, beside: Path, kept: Any, again: Callable[[], Any]) -> None:
    """Raise InputError if a vocabulary that lies in `folder` would be read before what was written `beside`."""
    others = [name for name in VOCABULARIES if (folder / name).is_file() and not (beside / name).exists()]
    if kept is None or not others:
        return
    for name in others:
        shutil.copyfile(folder / name, beside / name)
    try:
        read = again()
        same = (read.vocab, read.rules) == (kept.vocab, kept.rules)
    except CheckpointError:
        same = False
    if not same:
        raise InputError(
            f"{str(folder)!r} holds {', '.join(others)} of another model, which would be read with the files that this "
            "layout writes: name a new folder, or remove what is there first"
        )


def _kept(parts: Parts, form: Format, written: Checkpoint) -> Tokenizer | None:
    """The tokenizer that the layout's own reader makes of what was written.

    Raises LayoutError if the symbols of the vocabulary have other ids in it.
    """
    if parts.tokenizer is None:
        return None
    ours: Any = parts.tokenizer
    try:
        kept: Any = tokenizer_of(form, written, parts.config)
        if kept is None or (type(kept) is type(ours) and ours.under(kept.rules).vocab == kept.vocab):
            return kept
        why = "its files give the ids by a rule of their own, and these are others"
    except CheckpointError as error:
        why = str(error)
    raise LayoutError(
        f"layout {form.layout.name!r} cannot hold this model's vocabulary of {ours.vocab_size} ids: {why}. "
        "Layout 'cjkclip' holds every vocabulary"
    )


def _tell_rules(tokenizer: Any, kept: Any, layout: str) -> None:
    """Warn with LayoutWarning at the caller of `Clip.save` if texts will be read by other rules."""
    if tokenizer is None or kept is None:
        return
    rules = [(name, *(getattr(each.rules, name, None) for each in (kept, tokenizer))) for name in READING]
    changed = [f"{name} {theirs!r}, not {ours!r}" for name, theirs, ours in rules if theirs != ours]
    if changed:
        warnings.warn(
            f"layout {layout!r} reads texts by rules of its own ({', '.join(changed)}): some get other ids than this "
            "model's, and other vectors. Layout 'cjkclip' keeps the rules",
            LayoutWarning,
            stacklevel=4,
        )
