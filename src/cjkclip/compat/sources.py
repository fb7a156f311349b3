"""A model's files, or the model, by the options that other packages' loaders take.

Refuses: options that nobody reads; what `cjkclip.load` refuses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from cjkclip import checkpoints, engines
from cjkclip.checkpoints import Source, Where
from cjkclip.clip import Clip
from cjkclip.errors import OptionError

PLACES = ("revision", "cache_dir", "local_files_only")  # which snapshot of a repository, and where it may come from
IGNORED = ("trust_remote_code", "use_fast")  # taken and mean nothing: no code is run, and there is one tokenizer
LOAD = (*PLACES, "family", "image_tower", "facts")  # of `cjkclip.load`


def known(options: Mapping[str, Any], names: Sequence[str], owner: str) -> None:
    """OptionError if there is an option that nobody reads."""
    if unknown := sorted(set(options) - set(names)):
        raise OptionError(
            f"{owner} knows no option {', '.join(map(repr, unknown))}; it knows {', '.join(sorted(names))}"
        )


def resolved(name: str | Path, options: Mapping[str, Any], *, small: bool = False) -> Source:
    """The source of a name. small: the files beside the weights are enough."""
    return checkpoints.resolve(name, replace(where(options), small=small), family=options.get("family"))


def loaded(
    name: str | Path | Source,
    options: Mapping[str, Any],
    *,
    engine: str = "auto",
    precision: str = "auto",
    device: Any = None,
) -> Clip:
    """The model of a name or source, as `cjkclip.load` makes it. device: None, a name, a torch device, or a number."""
    source = name if isinstance(name, Source) else resolved(name, options)
    found = checkpoints.read(source, image_tower=options.get("image_tower"), facts=options.get("facts"))
    return Clip(found, engines.choose(engine, precision, _device(device)))


def where(options: Mapping[str, Any]) -> Where:
    """Which snapshot a caller asks for, and where it may come from."""
    cache = options.get("cache_dir")
    return Where(
        revision=options.get("revision"),
        cache=None if cache is None else str(Path(cache).expanduser()),
        offline=bool(options.get("local_files_only")),
    )


def _device(device: Any) -> str:
    """A device as `cjkclip.load` names it; -1 is the CPU, as in transformers' pipelines."""
    if device is None:
        return "auto"
    if isinstance(device, int):
        return "cpu" if device < 0 else f"cuda:{device}"
    return str(device)
