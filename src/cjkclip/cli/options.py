"""The options that several commands share, said once, so that they are called and explained alike."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

import cjkclip


# Enums and not Literal, which typer knows since version 0.19 only.
class Language(StrEnum):
    """Languages that the bundled names and sentences exist in."""

    ZH = "zh"
    ZH_HANT = "zh-Hant"
    JA = "ja"
    KO = "ko"
    EN = "en"


class Kind(StrEnum):
    """How an input is read."""

    AUTO = "auto"
    TEXT = "text"
    PICTURE = "picture"


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="A name of 'cjkclip models', hub id, folder or file. moji has seen drawings of emoji, no photographs.",
    ),
]
Engine = Annotated[
    str,
    typer.Option("--engine", metavar="ENGINE", help="auto, openvino, torch or numpy: what runs the model."),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="PRECISION",
        help="auto, fp32, bf16, int8 (made once for a model, in minutes) or fp16-weights: what it is computed in.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]
Speech = Annotated[Language | None, typer.Option("--language", help="The language of the words.")]
As = Annotated[
    Kind,
    typer.Option("--as", help="What the inputs are. auto: files, and names that end like pictures, are pictures."),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write.")]
Facts = Annotated[
    list[str] | None,
    typer.Option(
        "--fact", metavar="NAME=VALUE", help="Goes before what the files tell, as vision.act=gelu. May be repeated."
    ),
]
Tower = Annotated[
    str | None,
    typer.Option("--image-tower", metavar="MODEL", help="Where image tower and scale come from, in place of its own."),
]


@dataclass(frozen=True, kw_only=True)
class Run:
    """Which model, and what runs it: the options that every command has which encodes pictures and texts."""

    model: Model = "moji"
    engine: Engine = "auto"
    precision: Precision = "auto"

    def load(self) -> "cjkclip.Clip":
        """The model. Raises what `cjkclip.load` raises."""
        return cjkclip.load(self.model, engine=self.engine, precision=self.precision)


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """A command as typer reads it: in place of its parameter `run` stand the fields of `Run`, each an option."""
    signature, fields = inspect.signature(command), inspect.signature(Run).parameters
    if "run" not in signature.parameters:
        return command

    @wraps(command)
    def spread_out(**given: Any) -> None:
        run = Run(**{name: given.pop(name) for name in fields})
        command(**given, run=run)

    listed = [
        each for name, one in signature.parameters.items() for each in (fields.values() if name == "run" else [one])
    ]
    vars(spread_out)["__signature__"] = signature.replace(parameters=listed)
    return spread_out
