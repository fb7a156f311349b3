"""Formats: the forms in which checkpoints are published, as data: tensor names, side files, and how both are read.

A format belongs to no family: transformers' CLIPModel files hold models of several. Families say which formats their
checkpoints come in. Refuses: facts that neither the files nor the caller tell.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from cjkclip.checkpoints.layouts import Layout
from cjkclip.config import Model
from cjkclip.errors import CjkclipError, FactsError
from cjkclip.text import Tokenizer
from cjkclip.text.files import read_json

Facts = Mapping[str, Any]  # dotted field name of the config -> value
WHOLE = {field.name for field in fields(Model)}  # those without a dot

# what every tower of OpenAI's kind has in common, as config records
CLIP_VIT: dict[str, Any] = {"kind": "vit", "patch_bias": False, "pre_norm": True, "project": True}
CLIP_TEXT: dict[str, Any] = {"kind": "clip", "project": True}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What was found at a path: the tensors under their published names, and the folder of the files beside them."""

    source: str  # the path as the user knows it, for messages
    folder: Path
    tensors: Mapping[str, np.ndarray]

    def json(self, name: str) -> dict[str, Any] | None:
        """A JSON object beside the weights, or None if there is no such file. Raises CheckpointError if damaged."""
        path = self.folder / name
        if not path.is_file():
            return None
        return read_json(path)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What `save` writes beside the weights."""

    config: Model
    tokenizer: Tokenizer | None
    family: str
    release: str | None


class Origin(NamedTuple):
    """The family and release that a file names; None where it names none."""

    family: str | None
    release: str | None


def unnamed(checkpoint: Checkpoint) -> Origin:
    """The origin of published files: they name no family."""
    del checkpoint
    return Origin(None, None)


@dataclass(frozen=True, kw_only=True)
class Format:
    """One published form: the tensor names, and how the facts beside them are read and written."""

    layout: Layout
    read: Callable[[Checkpoint], dict[str, Any]]  # what the files tell of Model.to_dict(); absent = unknown
    tokenizer: Callable[[Checkpoint, Model], Tokenizer | None]
    write: Callable[[Parts, Path], None]  # the side files of `save`
    config_file: str | None = "config.json"  # must lie beside the weights; None: the weights are all there is
    weights_file: str = "model.safetensors"  # the name that `save` gives the weights; its suffix is the container's
    origin: Callable[[Checkpoint], Origin] = unnamed  # what a file says of where it comes from
    model_type: str | None = None  # what config.json must say, where two formats have the same names
    wrapped: bool = False  # `save` writes {"state_dict": {"module." + name: tensor}}, as training programs do


@contextmanager
def as_written(source: str) -> Generator[None, None, None]:
    """Around the reading of side files: what no program of theirs would write becomes FactsError.

    A damaged config.json can hold a text where every reader takes a table. Each of them says what it does not
    read; that a key is not there, or is of another kind, is said here for all of them.
    """
    try:
        yield
    except CjkclipError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise FactsError(
            f"{source}: its config or tokenizer files are damaged, or not of this layout ({what:.300}). "
            "Compare them with those that the model was published with"
        ) from error


def settle(record: dict[str, Any], facts: Facts) -> dict[str, Any]:
    """A config record with dotted facts laid over it.

    >>> settle({"vision": {"act": "gelu"}}, {"vision.heads": 5})
    {'vision': {'act': 'gelu', 'heads': 5}}
    """
    settled = {k: dict(cast(dict[str, Any], v)) if isinstance(v, dict) else v for k, v in record.items()}
    for name, value in facts.items():
        part, _, field = name.partition(".")
        if name in WHOLE:
            settled[name] = value
        elif not field:
            raise FactsError(f"facts state {name!r}, which no config has: expected a dotted name, as 'vision.act'")
        elif isinstance(settled.get(part), dict):
            settled[part][field] = value
        else:
            has = sorted(k for k, v in settled.items() if v)
            raise FactsError(f"facts state {name!r}, but this checkpoint has no {part!r}; it has {has}")
    return settled
