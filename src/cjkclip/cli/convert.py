"""`cjkclip convert`: write a model in another layout, completely or not at all.

The files are written to a temporary directory, which is moved to its place at the end.
"""

from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.table import Table

import cjkclip
from cjkclip import answers, checkpoints
from cjkclip.answers import records
from cjkclip.checkpoints.hub import Where
from cjkclip.checkpoints.weights import find
from cjkclip.checkpoints.weights.replace import new_folder
from cjkclip.cli.inputs import read_facts
from cjkclip.cli.options import Facts, Json, Tower
from cjkclip.cli.report import Report, cell
from cjkclip.cli.streams import SOME_FAILED, safe
from cjkclip.cli.verify import show
from cjkclip.config import unknown
from cjkclip.errors import InputError, LayoutError, ModelNotFoundError
from cjkclip.verify import compare

Source = Annotated[
    str, typer.Argument(metavar="MODEL", help="A name from 'cjkclip models', hub id, directory or file.")
]
Target = Annotated[Path, typer.Argument(metavar="FOLDER", help="A new directory for the converted model.")]
Layout = Annotated[
    str,
    typer.Option(
        "--layout", metavar="LAYOUT", help="Target layout: cjkclip, transformers, openai, open_clip, cn_clip, ..."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the model in FOLDER.")]
Verify = Annotated[bool, typer.Option("--verify", help="Load the result and compare it with MODEL.")]


def convert(
    model: Source,
    folder: Target,
    *,
    layout: Layout,
    image_tower: Tower = None,
    fact: Facts = None,
    force: Force = False,
    verify: Verify = False,
    json: Json = False,
) -> None:
    """Write a model in another layout, if that layout can hold it.

    A layout may have its own rules for images and text: --verify shows the difference.

    Example: cjkclip convert ViT-B-32.pt converted/ --layout transformers --verify
    """
    facts, same = read_facts(fact or []), True
    with Report("convert", as_json=json) as report:
        folder = _room(folder, force)
        clip = cjkclip.load(model, facts=facts, image_tower=image_tower, precision="fp32")
        for source in (model, image_tower or model):
            home = checkpoints.resolve(source, Where(offline=True)).path.resolve()  # loaded just now
            if any(_is_same(folder, each) for each in (home, *home.parents)):
                raise InputError(f"{str(folder)!r} contains the model to convert: pass another directory")
        missing = _write(clip, folder, layout, force)
        if missing:
            report.note(f"layout {layout!r} does not store every config value; pass them: load(..., facts={missing!r})")
        report.answer = answer = answers.convert_answer(model, folder, layout, missing)
        report.show(f"{safe(model)} written to {safe(str(folder))} in layout {safe(layout)}", _table(answer["files"]))
        if verify:
            result = compare(clip, cjkclip.load(folder, facts=missing, precision="fp32"))
            same = result.same
            answer["verified"] = answers.comparison(result)
            show(report, result)
    if not same:
        raise typer.Exit(SOME_FAILED)


def _is_same(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same place, also on a disk that ignores case."""
    return one == other or (one.exists() and other.exists() and one.samefile(other))


def _room(folder: Path, force: bool) -> Path:
    """Return the resolved path. Raises InputError if it must not be written; see `_require_room`."""
    try:
        folder = folder.resolve()
        _require_room(folder, force)
    except (OSError, RuntimeError) as error:  # a link to itself raises RuntimeError
        raise InputError(f"{str(folder)!r} cannot be written: {error}") from error
    return folder


def _require_room(folder: Path, force: bool) -> None:
    """Raise InputError unless the directory may be written and contains only a model to replace."""
    if not folder.parent.is_dir():
        raise InputError(f"{str(folder)!r}: the directory {str(folder.parent)!r} does not exist; create it first")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not force:
        raise InputError(f"{str(folder)!r} already exists: pass a new directory, or --force to replace it")
    try:
        find(folder)
    except ModelNotFoundError as error:
        raise InputError(f"{error}. --force only replaces the directory of a model; pass a new directory") from error
    if any(entry.is_dir() for entry in folder.iterdir()):
        raise InputError(f"{str(folder)!r} contains directories, so --force does not replace it; pass a new directory")


def _write(clip: "cjkclip.Clip", folder: Path, layout: str, force: bool) -> dict[str, Any]:
    """Write the directory, completely or not at all; returns the config values that the layout does not store."""
    with new_folder(folder, "remove") as part:
        clip.save(part, layout)
        missing = _lacking(clip, checkpoints.stored_config(part), layout)
        _require_room(folder, force)  # again, because another program may have written there in the meantime
    return missing


def _lacking(clip: "cjkclip.Clip", stored: dict[str, Any], layout: str) -> dict[str, Any]:
    """Return the config values that the files lack. Raises LayoutError if the files contradict the model."""
    ours = clip.config.to_dict()
    wrong = [
        f"{name} {stored[name]!r}, not {ours[name]!r}" for name in ("embed", "scale") if stored[name] != ours[name]
    ]
    for part in ("vision", "text"):
        own, new = (_plain(record[part] or {}) for record in (ours, stored))
        other = [name for name in own if name in new and new[name] != own[name]]
        wrong += [f"{part}.{name} {new[name]!r}, not {own[name]!r}" for name in other]
    if wrong:
        raise LayoutError(
            f"layout {layout!r} cannot hold this model: its files would have {', '.join(wrong)}. Use --layout cjkclip"
        )
    return {name: ours[part][field] for name in unknown(stored) for part, _, field in [name.partition(".")]}


def _plain(tower: dict[str, Any]) -> dict[str, Any]:
    """Normalise a tower's record: lists become tuples, and the two names for pooling at the last id become one."""
    tower = {name: tuple(cast(list[Any], value)) if isinstance(value, list) else value for name, value in tower.items()}
    last = tower.get("vocab", 0) - 1
    if tower.get("pool") == "largest-id" or (tower.get("pool") == "first-eot" and tower["eot"] == last):
        return tower | {"pool": "largest-id", "eot": last}
    return tower


def _table(files: list[records.FileRecord]) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    for file in files:
        table.add_row(cell(file["name"]), f"{file['bytes']:,} bytes")
    return table
