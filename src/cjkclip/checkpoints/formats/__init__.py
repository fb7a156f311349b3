"""Formats of published checkpoints as data: tensor names, and functions that read and write the side files.

Several families may share a format, such as transformers' CLIPModel files. A family lists the formats of its
checkpoints.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from cjkclip.checkpoints.layouts import Layout
from cjkclip.config import Model
from cjkclip.errors import CjkclipError, FactsError
from cjkclip.text import Tokenizer
from cjkclip.text.files import read_json

Interpolation = Literal["half-pixel", "align-corners", "antialias"]  # kinds of bicubic interpolation in torch
Facts = Mapping[str, Any]  # dotted field name of the config -> value
WHOLE = {field.name for field in fields(Model)}  # facts without a dot

# Config fields that all towers of OpenAI's architecture share.
CLIP_VIT: dict[str, Any] = {"kind": "vit", "patch_bias": False, "pre_norm": True, "project": True}
CLIP_TEXT: dict[str, Any] = {"kind": "clip", "project": True}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A checkpoint as it is stored: tensors under their published names, and the directory of the side files."""

    source: str  # the path as the caller wrote it, for messages
    folder: Path
    tensors: Mapping[str, np.ndarray]

    def json(self, name: str) -> dict[str, Any] | None:
        """Return a JSON side file, or None if it does not exist. Raises CheckpointError if it is damaged."""
        path = self.folder / name
        if not path.is_file():
            return None
        return read_json(path)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """The parts of a model that `save` writes beside the weights."""

    config: Model
    tokenizer: Tokenizer | None
    family: str
    release: str | None
    identity: str  # of the weights; see `fingerprint.identity`


class Origin(NamedTuple):
    """The family and release that a file contains; None if it contains none."""

    family: str | None
    release: str | None


def unnamed(checkpoint: Checkpoint) -> Origin:
    """Return the origin of published files, which contain no family."""
    del checkpoint
    return Origin(None, None)


@dataclass(frozen=True, kw_only=True)
class Format:
    """One published form: its layout, and the functions for its side files."""

    layout: Layout
    read: Callable[[Checkpoint], dict[str, Any]]  # the part of Model.to_dict() that the files contain; absent = unknown
    tokenizer: Callable[[Checkpoint, Model], Tokenizer | None]
    write: Callable[[Parts, Path], None]  # the side files of `save`
    config_file: str | None = "config.json"  # required beside the weights; None: the format has no config
    weights_file: str = "model.safetensors"  # the file name in `save`; its suffix chooses the container
    origin: Callable[[Checkpoint], Origin] = unnamed  # the family and release that a file contains
    positions: Interpolation = "half-pixel"  # how the original fits the position table to another image size
    model_types: tuple[str | None, ...] = ()  # accepted in config.json (None: without one); empty: all of them
    wrapped: bool = False  # `save` writes {"state_dict": {"module." + name: tensor}}, as training programs do


@contextmanager
def as_written(source: str) -> Generator[None, None, None]:
    """Turn errors from reading damaged side files into FactsError.

    A damaged config.json can contain a string where the readers expect a table. Each reader rejects the values that it
    does not support; missing keys and wrong types are handled here for all readers.
    """
    try:
        yield
    except CjkclipError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise FactsError(
            f"{source}: its config or tokenizer files are damaged or of another layout ({reason:.300}). Download the "
            "published files again"
        ) from error


def settle(record: dict[str, Any], facts: Facts) -> dict[str, Any]:
    """Return a config record whose values are overridden by the dotted facts.

    >>> settle({"vision": {"act": "gelu"}}, {"vision.heads": 5})
    {'vision': {'act': 'gelu', 'heads': 5}}
    """
    values = {k: dict(cast(dict[str, Any], v)) if isinstance(v, dict) else v for k, v in record.items()}
    for name, value in facts.items():
        part, _, field = name.partition(".")
        if name in WHOLE:
            values[name] = value
        elif not field:
            raise FactsError(f"facts contain {name!r}, expected a dotted config field such as 'vision.act'")
        elif isinstance(values.get(part), dict):
            values[part][field] = value
        else:
            present = sorted(k for k, v in values.items() if v)
            raise FactsError(f"facts contain {name!r}, but this checkpoint has no {part!r}. Use one of {present}")
    return values
