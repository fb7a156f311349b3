"""Find a model's files, or load the model, from the options of other packages' loaders.

Unknown options raise OptionError; loading raises the errors of `cjkclip.load`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from cjkclip import checkpoints, engines
from cjkclip.checkpoints import Source, Where
from cjkclip.clip import Clip
from cjkclip.errors import OptionError

PLACES = (
    "revision",
    "cache_dir",
    "local_files_only",
    "token",
    "use_auth_token",
)  # options for the snapshot of a repository and its place
IGNORED = ("trust_remote_code", "use_fast")  # without effect: no code is run, and only one tokenizer exists
# Options of transformers' from_pretrained, with the values that change nothing. Other values raise OptionError.
IDLE: dict[str, tuple[Any, ...]] = {
    "force_download": (False, None),
    "proxies": (None,),
    "subfolder": ("", None),
    "variant": (None,),
    "from_tf": (False, None),
    "from_flax": (False, None),
    "from_slow": (False, None),
    "resume_download": (False, None),
    "local_dir": (None,),
    "mirror": (None,),
    "gguf_file": (None,),
    "backend": (None, "tokenizers", "pil"),
}
SAVE_IDLE: dict[str, tuple[Any, ...]] = {"push_to_hub": (False,)}  # the same of save_pretrained
SPREAD = ("auto", "balanced", "balanced_low_0", "sequential")  # device maps that spread a model: here one device
LONGEST = 4096  # characters of a path
LOAD = (*PLACES, "family", "image_tower", "facts")  # options of `cjkclip.load`


def require_known(options: Mapping[str, Any], names: Sequence[str], owner: str) -> None:
    """Raise OptionError if an option is not one of `names`."""
    if unknown := sorted(set(options) - set(names)):
        raise OptionError(
            f"{owner} has no option {', '.join(map(repr, unknown))}: remove it or use one of {', '.join(sorted(names))}"
        )


def without_idle(options: Mapping[str, Any], owner: str, idle: Mapping[str, tuple[Any, ...]] = IDLE) -> dict[str, Any]:
    """Return the options without those of `idle`. Raises OptionError for one of them that would change something."""
    for name, value in options.items():
        if name in idle and value not in idle[name]:
            raise OptionError(
                f"{owner} supports {name} only as {' or '.join(map(repr, idle[name]))}, got {value!r}: leave it out"
            )
    return {name: value for name, value in options.items() if name not in idle}


def require_idle(options: Mapping[str, Any], owner: str, idle: Mapping[str, tuple[Any, ...]]) -> None:
    """Raise OptionError for an option that is not one of `idle`, or would change something."""
    require_known(without_idle(options, owner, idle), (), owner)


def resolve_source(name: str | Path, options: Mapping[str, Any], *, small: bool = False) -> Source:
    """Resolve the name of a checkpoint. small: the files beside the weights are enough."""
    return checkpoints.resolve(name, replace(where(options, name), small=small), family=options.get("family"))


def load_clip(
    name: str | Path | Source,
    options: Mapping[str, Any],
    *,
    engine: str = "auto",
    precision: str = "auto",
    device: Any = None,
) -> Clip:
    """Load a model as `cjkclip.load` does. device: None, a name, a torch device, or the number of a GPU."""
    source = name if isinstance(name, Source) else resolve_source(name, options)
    found = checkpoints.read(source, image_tower=options.get("image_tower"), facts=options.get("facts"))
    return Clip(found, engines.choose(engine, precision, _device(device)))


def one_device(device_map: Any, owner: str) -> Any:
    """Return the device that a device_map names for the whole model: "auto", a name, a number, a device or None.

    Raises OptionError for several devices, since these models are small and never divided.
    """
    if isinstance(device_map, Mapping):
        devices = {str(device): device for device in cast(Mapping[str, Any], device_map).values()}
        if len(devices) != 1:
            raise OptionError(
                f"{owner}: device_map names {len(devices)} devices, expected one, since the model is not divided: "
                "pass device_map='auto' or device_map={'': 'cpu'}"
            )
        device_map = next(iter(devices.values()))
    return "auto" if device_map in SPREAD else device_map


def where(options: Mapping[str, Any], name: str | Path) -> Where:
    """Return the snapshot and the cache that the options request. A local path has no revisions, as in transformers."""
    cache = options.get("cache_dir")
    local = Path(name).expanduser().exists() if len(str(name)) < LONGEST else False
    token = options.get("token")
    return Where(
        revision=None if local else options.get("revision"),
        token=options.get("use_auth_token") if token is None else token,
        cache=None if cache is None else str(Path(cache).expanduser()),
        offline=bool(options.get("local_files_only")),
    )


def _device(device: Any) -> str:
    """Return a device by its name in `cjkclip.load`; -1 is the CPU, as in transformers' pipelines."""
    if device is None:
        return "auto"
    if isinstance(device, int):
        return "cpu" if device < 0 else f"cuda:{device}"
    return str(device)
