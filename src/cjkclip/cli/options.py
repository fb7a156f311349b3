"""The options that several commands share, said once, so that they are called and explained alike."""

from pathlib import Path
from typing import Annotated, Literal

import typer

Language = Literal["zh", "zh-Hant", "ja", "ko", "en"]
Kind = Literal["auto", "text", "picture"]

Model = Annotated[
    str,
    typer.Option("--model", "-m", metavar="MODEL", help="A name of 'cjkclip models', hub id, folder or file."),
]
Engine = Annotated[
    str,
    typer.Option("--engine", metavar="ENGINE", help="auto, openvino, torch or numpy: what runs the model."),
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
    typer.Option("--fact", metavar="NAME=VALUE", help="What a file cannot tell, as vision.act=gelu. May be repeated."),
]
Tower = Annotated[
    str | None,
    typer.Option("--image-tower", metavar="MODEL", help="Where the image tower is, for a model that has only text."),
]
