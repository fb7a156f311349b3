"""Write a model to a directory, in any layout that can hold it. Imports families and formats, no engine.

Other files in the directory must not be read together with the new ones, or instead of them.
"""

import shutil
import tempfile
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from cjkclip.checkpoints import WRAP, Found, layouts, weights
from cjkclip.checkpoints.formats import Checkpoint, Format, Parts
from cjkclip.checkpoints.matching import complete_layouts, find_layout
from cjkclip.checkpoints.tokenizers import tokenizer_of
from cjkclip.checkpoints.weights.replace import new_folder
from cjkclip.errors import CheckpointError, InputError, LayoutError, LayoutWarning
from cjkclip.fingerprint import identity
from cjkclip.text import Tokenizer

RULES = ("cleaning", "style", "max_chars", "lower", "context")  # tokenizer rules that change the ids of a text
# Vocabularies of other layouts, which a reader could use by mistake.
VOCABULARIES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "merges.txt", "spiece.model")


def write(model: Found, folder: Path, layout: str) -> Path:
    """Write a checkpoint in a layout. See `Clip.save`."""
    form = find_layout(layout, model.params)
    with _or_those_that_fit(model):
        tensors = layouts.write(form.layout, model.params)
        _require_scale(form, tensors)
    _require_first(folder, form.weights_file)
    parts = _parts(model, identity(tensors))
    with new_folder(folder, "overwrite") as part:
        with _or_those_that_fit(model):
            form.write(parts, part)
        written = Checkpoint(source=str(folder), folder=part, tensors=tensors)
        tokenizer = _read_back(parts, form, written)
        _require_no_others(folder, part, tokenizer, partial(tokenizer_of, form, written, model.config))
        if form.wrapped:
            wrapped = {WRAP + name: array for name, array in tensors.items()}
            weights.write(part / form.weights_file, wrapped, under="state_dict")
        else:
            weights.write(part / form.weights_file, tensors)
    _warn_of_rules(model.tokenizer, tokenizer, layout)
    return folder


def _parts(model: Found, weights_identity: str = "") -> Parts:
    release, family = model.release.name if model.release else None, model.family.name
    return Parts(
        config=model.config, tokenizer=model.tokenizer, family=family, release=release, identity=weights_identity
    )


@contextmanager
def _or_those_that_fit(model: Found) -> Generator[None]:
    """Add the layouts that fit to the LayoutError of one that does not."""
    try:
        yield
    except LayoutError as error:
        raise LayoutError(f"{error}. Layouts that fit this model: {', '.join(_fitting(model))}") from error


def _fitting(model: Found) -> list[str]:
    """Return the names of the layouts that can hold this model."""
    names: list[str] = []
    with tempfile.TemporaryDirectory() as beside:
        for form in complete_layouts(model.params):
            with suppress(LayoutError):  # the names fit, but the config does not
                form.write(_parts(model), Path(beside))
                names.append(form.layout.name)
    return sorted(set(names))


def _require_scale(form: Format, tensors: layouts.Arrays) -> None:
    """Raise LayoutError if this layout requires logit_scale and the model's scale is a constant."""
    if "logit_scale" in form.layout.marks and "logit_scale" not in tensors:
        raise LayoutError(
            f"layout {form.layout.name!r} requires logit_scale, but this model's scale is a constant. Use layout "
            "'cjkclip', which keeps it"
        )


def _require_first(folder: Path, file: str) -> None:
    """Raise InputError if `load(folder)` would read other weights than the new ones."""
    present = {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set[str]()
    others = [name for name in weights.weight_files(present | {file}) if name != file]
    if others:
        raise InputError(
            f"{str(folder)!r} already contains {others[0]}; load() would read that instead of the new {file}. Use an "
            f"empty directory or delete {others[0]}"
        )


def _require_no_others(folder: Path, beside: Path, tokenizer: Any, again: Callable[[], Any]) -> None:
    """Raise InputError if a vocabulary in `folder` would be read instead of the new one in `beside`."""
    others = [name for name in VOCABULARIES if (folder / name).is_file() and not (beside / name).exists()]
    if tokenizer is None or not others:
        return
    for name in others:
        shutil.copyfile(folder / name, beside / name)
    try:
        read = again()
        same = (read.vocab, read.rules) == (tokenizer.vocab, tokenizer.rules)
    except CheckpointError:
        same = False
    for name in others:
        (beside / name).unlink()
    if not same:
        raise InputError(
            f"{str(folder)!r} already contains {', '.join(others)} of another model; load() would read that instead of "
            "the new vocabulary. Use an empty directory or delete these files"
        )


def _read_back(parts: Parts, form: Format, written: Checkpoint) -> Tokenizer | None:
    """Return the tokenizer that the layout's own reader builds from the new files.

    Raises LayoutError if tokens of the vocabulary have other ids there.
    """
    if parts.tokenizer is None:
        return None
    ours: Any = parts.tokenizer
    try:
        theirs: Any = tokenizer_of(form, written, parts.config)
        if theirs is None or (type(theirs) is type(ours) and ours.under(theirs.rules).vocab == theirs.vocab):
            return theirs
        why = "its files have a fixed rule for token ids, and this vocabulary has other ids"
    except CheckpointError as error:
        why = str(error)
    raise LayoutError(
        f"layout {form.layout.name!r} cannot hold this model's vocabulary of {ours.vocab_size} ids: {why}. Use layout "
        "'cjkclip', which can hold every vocabulary"
    )


def _warn_of_rules(ours: Any, theirs: Any, layout: str) -> None:
    """Warn with LayoutWarning at the caller of `Clip.save` if the layout tokenizes texts by other rules."""
    if ours is None or theirs is None:
        return
    rules = [(name, *(getattr(each.rules, name, None) for each in (theirs, ours))) for name in RULES]
    changed = [f"{name} {new!r}, not {own!r}" for name, new, own in rules if new != own]
    if changed:
        warnings.warn(
            f"layout {layout!r} tokenizes texts by its own rules ({', '.join(changed)}): some texts get other token "
            "ids and embeddings than with this model. Use layout 'cjkclip', which keeps the rules",
            LayoutWarning,
            stacklevel=4,
        )
