"""`cjkclip convert`: a model written in another layout, whole or not at all.

Refuses: a folder that holds something; a layout that has no place for the model, or whose files would say something
else of it. What is written is moved to its place at the end.
"""

from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.table import Table

import cjkclip
from cjkclip import checkpoints
from cjkclip.checkpoints.hub import Where
from cjkclip.checkpoints.weights import find
from cjkclip.checkpoints.weights.replace import new_folder
from cjkclip.cli.inputs import read_facts
from cjkclip.cli.options import Facts, Json, Tower
from cjkclip.cli.screen import SOME_FAILED, Report, cell, safe
from cjkclip.cli.verify import record, show
from cjkclip.config import unknown
from cjkclip.errors import InputError, LayoutError, ModelNotFoundError
from cjkclip.verify import compare

Source = Annotated[str, typer.Argument(metavar="MODEL", help="A name of 'cjkclip models', hub id, folder or file.")]
Target = Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder for the converted model.")]
Layout = Annotated[
    str,
    typer.Option("--layout", metavar="LAYOUT", help="cjkclip, transformers, openai, open_clip, cn_clip, ..."),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the model that FOLDER holds.")]
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

    A layout keeps its own rules for pictures and text: --verify shows what they change.

    Example: cjkclip convert ViT-B-32.pt converted/ --layout transformers --verify
    """
    facts, same = read_facts(fact or []), True
    with Report("convert", as_json=json) as report:
        folder = _room(folder, force)
        clip = cjkclip.load(model, facts=facts, image_tower=image_tower, precision="fp32")
        for source in (model, image_tower or model):
            home = checkpoints.resolve(source, Where(offline=True)).path.resolve()  # it has just been loaded from there
            if any(_is_same(folder, each) for each in (home, *home.parents)):
                raise InputError(f"{str(folder)!r} holds the model that is converted: name another folder")
        lacks = _write(clip, folder, layout, force)
        if lacks:
            report.note(f"layout {layout!r} does not keep every fact; state them: load(..., facts={lacks!r})")
        report.answer |= {"model": model, "folder": str(folder), "layout": layout, "facts": lacks, **_written(folder)}
        report.show(f"{safe(model)} written to {safe(str(folder))} in layout {safe(layout)}", _table(folder))
        if verify:
            found = compare(clip, cjkclip.load(folder, facts=lacks, precision="fp32"))
            same = found.same
            report.answer["verified"] = record(found)
            show(report, found)
    if not same:
        raise typer.Exit(SOME_FAILED)


def _is_same(one: Path, other: Path) -> bool:
    """Do two paths lead to one place? Their letters may differ where the disk does not mind."""
    return one == other or (one.exists() and other.exists() and one.samefile(other))


def _room(folder: Path, force: bool) -> Path:
    """The folder's own path. Raises InputError unless it may be written; see `_require_room`."""
    try:
        folder = folder.resolve()
        _require_room(folder, force)
    except (OSError, RuntimeError) as error:  # a link that leads to itself is a RuntimeError
        raise InputError(f"{str(folder)!r} cannot be written: {error}") from error
    return folder


def _require_room(folder: Path, force: bool) -> None:
    """Raise InputError unless the folder may be written, and replaced without a loss that nobody meant."""
    if not folder.parent.is_dir():
        raise InputError(f"{str(folder)!r}: there is no folder {str(folder.parent)!r}, make it first")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not force:
        raise InputError(f"{str(folder)!r} is there already: name a new folder, or pass --force to replace it")
    try:
        find(folder)
    except ModelNotFoundError as error:
        raise InputError(f"{error}: --force replaces a model's folder and nothing else") from error
    if any(entry.is_dir() for entry in folder.iterdir()):
        raise InputError(f"{str(folder)!r} holds other folders: --force replaces a model's folder and nothing else")


def _write(clip: "cjkclip.Clip", folder: Path, layout: str, force: bool) -> dict[str, Any]:
    """Write the folder, whole or not at all; returns the facts that the layout does not keep."""
    with new_folder(folder, instead=True) as part:
        clip.save(part, layout)
        lacks = _lacking(clip, checkpoints.stored_config(part), layout)
        _require_room(folder, force)  # once more: another program may have written there in the meantime
    return lacks


def _lacking(clip: "cjkclip.Clip", told: dict[str, Any], layout: str) -> dict[str, Any]:
    """The facts that the files do not tell. Raises LayoutError if they tell others than the model's."""
    ours = clip.config.to_dict()
    wrong = [f"{name} {told[name]!r}, not {ours[name]!r}" for name in ("embed", "scale") if told[name] != ours[name]]
    for part in ("vision", "text"):
        true, said = (_plain(record[part] or {}) for record in (ours, told))
        other = [name for name in true if name in said and said[name] != true[name]]
        wrong += [f"{part}.{name} {said[name]!r}, not {true[name]!r}" for name in other]
    if wrong:
        raise LayoutError(f"layout {layout!r} cannot hold this model: its files would say {', '.join(wrong)}")
    return {name: ours[part][field] for name in unknown(told) for part, _, field in [name.partition(".")]}


def _plain(tower: dict[str, Any]) -> dict[str, Any]:
    """A tower's record. Two ways to say that the last id is the end of a text are one, and so are list and tuple."""
    tower = {name: tuple(cast(list[Any], value)) if isinstance(value, list) else value for name, value in tower.items()}
    last = tower.get("vocab", 0) - 1
    if tower.get("pool") == "largest-id" or (tower.get("pool") == "first-eot" and tower["eot"] == last):
        return tower | {"pool": "largest-id", "eot": last}
    return tower


def _written(folder: Path) -> dict[str, Any]:
    return {"files": [{"name": path.name, "bytes": path.stat().st_size} for path in sorted(folder.iterdir())]}


def _table(folder: Path) -> Table:
    table = Table(box=None, padding=(0, 3, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    for file in _written(folder)["files"]:
        table.add_row(cell(file["name"]), f"{file['bytes']:,} bytes")
    return table
