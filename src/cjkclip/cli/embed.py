"""`cjkclip embed`: vectors of pictures and texts, in a file."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

import cjkclip
from cjkclip.cli.inputs import Asked, is_folder, picture_paths, read_lines, sort_inputs, worded
from cjkclip.cli.options import As, Engine, Json, Kind, Model, Out
from cjkclip.cli.screen import Report, safe
from cjkclip.errors import ImageError, InputError
from cjkclip.gallery import Gallery

ENDINGS = (".npz", ".npy", ".safetensors")
LONGEST_NAME = 300  # of the names in .npz, which all take as much room as the longest

Inputs = Annotated[
    list[str] | None,
    typer.Argument(metavar="INPUT", help="Picture files, folders of pictures, or texts."),
]
Lines = Annotated[
    list[Path] | None,
    typer.Option("--lines", metavar="FILE", help="A UTF-8 file with one text per line; - is standard input."),
]
Fast = Annotated[bool, typer.Option("--fast", help="Decode large JPEG files at a fraction of their size.")]


def embed(
    out: Out,
    inputs: Inputs = None,
    *,
    lines: Lines = None,
    kind: As = "auto",
    model: Model = "moji",
    engine: Engine = "auto",
    fast: Fast = False,
    json: Json = False,
) -> None:
    """Turn pictures and texts into unit vectors, one row each, and write them to a file.

    FILE.safetensors is a gallery for 'cjkclip search --in'.
    FILE.npz holds names and vectors for NumPy, FILE.npy the vectors alone.
    Inputs that cannot be used are left out and reported.

    Example: cjkclip embed photos/ --out photos.safetensors
    """
    if out.suffix not in ENDINGS:
        raise typer.BadParameter(f"--out {str(out)!r} must end in one of {' '.join(ENDINGS)}")
    if not inputs and not lines:
        raise typer.BadParameter("nothing to embed: name pictures, folders or texts, or pass --lines FILE")
    with Report("embed", as_json=json) as report:
        asked = [*_expand(inputs or [], kind), *(line for path in lines or [] for line in read_lines(path))]
        if not out.parent.is_dir():
            raise InputError(f"--out {str(out)!r}: there is no folder {str(out.parent)!r}, make it first")
        clip = cjkclip.load(model, engine=engine)
        vectors = _vectors(report, clip, asked, fast)
        good = [int(i) for i in np.flatnonzero(np.isfinite(vectors).all(axis=1))]
        if not good:
            raise InputError("nothing is left to embed: see above")
        names = [str(asked[i]) for i in good]
        _write(out, names, vectors[good], clip.fingerprint)
        shape = {"rows": len(good), "width": vectors.shape[1], "names": names}
        report.answer |= {"model": model, "fingerprint": clip.fingerprint, "out": str(out), **shape}
        report.show(f"{len(good)} rows of {vectors.shape[1]} numbers written to {safe(str(out))}")


def _expand(inputs: list[str], kind: Kind) -> list[Asked]:
    """With auto, a folder stands for the pictures in it."""
    if kind != "auto":
        return sort_inputs(inputs, kind)
    expanded: list[Asked] = []
    for word in inputs:
        expanded += picture_paths([word]) if is_folder(word) else sort_inputs([word], kind)
    return expanded


def _vectors(report: Report, clip: "cjkclip.Clip", asked: list[Asked], fast: bool) -> np.ndarray:
    """One row per input; NaN where it could not be used."""
    vectors = np.full((len(asked), clip.embed_dim), np.nan, dtype=np.float32)
    texts = {i: one for i, one in enumerate(asked) if isinstance(one, str) and worded(report, one)}
    if texts:
        vectors[list(texts)] = clip.encode_text(list(texts.values()))
    pictures = {i: one for i, one in enumerate(asked) if isinstance(one, Path)}
    paths = list(pictures.values())

    def heard(index: int, error: ImageError) -> None:
        report.problem(str(paths[index]), error)

    if paths:
        with report.progress("reading pictures", len(paths)) as progress:
            vectors[list(pictures)] = clip.encode_image(paths, exact=not fast, on_error=heard, progress=progress)
    return vectors


def _write(out: Path, names: list[str], vectors: np.ndarray, fingerprint: str) -> None:
    if out.suffix == ".safetensors":
        Gallery(names, vectors, fingerprint=fingerprint).save(out)
        return
    try:
        if out.suffix == ".npy":
            np.save(out, vectors, allow_pickle=False)
        else:
            short = np.array([name[:LONGEST_NAME] for name in names])
            np.savez(out, vectors=vectors, names=short, fingerprint=np.array(fingerprint))
    except OSError as error:
        raise InputError(f"{str(out)!r} cannot be written: {error.strerror or error}") from error
