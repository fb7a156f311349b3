"""The options that several commands share, with the same names and help texts everywhere."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

import cjkclip


# These are enums because typer supports Literal only since version 0.19.
class Language(StrEnum):
    """Languages of the bundled names and of the prompt templates."""

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
        help="A name from 'cjkclip models', hub id, directory or file. moji was trained on emoji drawings, not photos.",
    ),
]
Engine = Annotated[
    str,
    typer.Option("--engine", metavar="ENGINE", help="Engine that runs the model: auto, openvino, torch or numpy."),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="PRECISION",
        help="Numeric precision: auto, fp32, bf16, int8 (quantises once, takes minutes) or fp16-weights.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option("--threads", metavar="N", min=1, help="Threads. Default: the cores that this process may use."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for other programs.")]
Speech = Annotated[
    Language | None,
    typer.Option("--language", help="Language of the texts. Default: search guesses it; classify uses plain labels."),
]
As = Annotated[
    Kind,
    typer.Option(
        "--as", help="How to read the inputs. auto: existing files and names with an image extension are images."
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write.")]
Facts = Annotated[
    list[str] | None,
    typer.Option(
        "--fact", metavar="NAME=VALUE", help="Set or override a config value, e.g. vision.act=gelu. Repeatable."
    ),
]
Tower = Annotated[
    str | None,
    typer.Option("--image-tower", metavar="MODEL", help="Use the image tower and logit scale of this model instead."),
]


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Model, engine, precision and threads: the options of every command that encodes images or texts."""

    model: Model = "moji"
    engine: Engine = "auto"
    precision: Precision = "auto"
    threads: Threads = None

    def load(self) -> "cjkclip.Clip":
        """Load the model. Raises what `cjkclip.load` raises."""
        return cjkclip.load(self.model, engine=self.engine, precision=self.precision, threads=self.threads)


def spread(command: Callable[..., None]) -> Callable[..., None]:
    """Return the command as typer reads it: the fields of `ModelOptions` replace its parameter `run`."""
    signature, fields = inspect.signature(command), inspect.signature(ModelOptions).parameters
    if "run" not in signature.parameters:
        return command

    @wraps(command)
    def spread_out(**values: Any) -> None:
        run = ModelOptions(**{name: values.pop(name) for name in fields})
        command(**values, run=run)

    parameters = [
        each for name, one in signature.parameters.items() for each in (fields.values() if name == "run" else [one])
    ]
    vars(spread_out)["__signature__"] = signature.replace(parameters=parameters)
    return spread_out
