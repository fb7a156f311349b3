"""The options that several commands share, said once, so that they are called and explained alike."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Language = Literal["zh", "zh-Hant", "ja", "ko", "en"]
Kind = Literal["auto", "text", "picture"]
Design = Literal["noto", "fluent"]

Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", metavar="MODEL", help="A model's name, hub id, folder or file ('cjkclip models')."
    ),
]
Engine = Annotated[
    str, typer.Option("--engine", metavar="ENGINE", help="What runs the model: auto picks the best.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, for machines.")]
Speech = Annotated[Language | None, typer.Option("--language", help="The language of the words.")]
As = Annotated[
    Kind,
    typer.Option(
        "--as", help="What the inputs are. auto: a file, or a name with a picture's ending, is a picture."
    ),
]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where to write.")]
