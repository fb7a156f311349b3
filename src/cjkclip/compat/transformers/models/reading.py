"""Read the checkpoint of a model and the options of from_pretrained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cjkclip import checkpoints
from cjkclip.checkpoints import Found
from cjkclip.compat.sources import one_device, without_idle
from cjkclip.compat.transformers.configs.configuration import config_record, places
from cjkclip.compat.transformers.models.headless import without_head
from cjkclip.errors import OptionError

# Options of from_pretrained without effect: code of a checkpoint never runs, and weights are always memory-mapped.
HARMLESS = ("use_safetensors", "low_cpu_mem_usage", "weights_only")
# Options of from_pretrained and save_pretrained with the values that change nothing. Other values raise OptionError.
IDLE: dict[str, tuple[Any, ...]] = {
    "ignore_mismatched_sizes": (False, None),
    "output_loading_info": (False, None),
    "return_unused_kwargs": (False, None),
    "_fast_init": (True, False, None),
    **dict.fromkeys(("state_dict", "quantization_config", "offload_folder", "offload_state_dict"), (None, False)),
    **dict.fromkeys(("max_memory", "tp_plan", "tp_size", "device_mesh", "key_mapping"), (None,)),
    **dict.fromkeys(
        ("adapter_kwargs", "generation_config", "_commit_hash", "load_in_8bit", "load_in_4bit"), (None, False)
    ),
}


def read_checkpoint(
    name: str | Path, options: Mapping[str, Any], owner: str
) -> tuple[Found, dict[str, Any] | None, dict[str, Any]]:
    """Read a checkpoint; return it, its config.json (None if facts override it), and the other options.

    owner: the class of the call, for messages. Raises the errors of cjkclip.load, and OptionError.
    """
    rest = without_idle({n: v for n, v in options.items() if n not in HARMLESS}, f"{owner}.from_pretrained", IDLE)
    where, rest = places(rest, name, owner)
    rest["device_map"] = _device(rest.get("device_map"), owner)
    family, tower, facts = (rest.pop(n, None) for n in ("family", "image_tower", "facts"))
    tower = None if tower is None else str(tower)
    source = checkpoints.resolve(name, where, family=family)
    found = without_head(source) if family is tower is facts is None else None
    found = found or checkpoints.read(source, image_tower=tower, facts=facts)
    return found, None if facts or found.folder is None else config_record(str(name), found.folder), rest


def _device(value: Any, owner: str) -> torch.device:
    """Return the one device of a device_map. Raises OptionError for several, or one that torch does not know."""
    name = one_device(value, owner)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    name = f"cuda:{name}" if isinstance(name, int) else name
    try:
        device = torch.device("cpu" if name is None else name)
    except RuntimeError as error:
        raise OptionError(f"device_map is {value!r}, expected a device such as 'cpu', 'cuda:0' or 'auto'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise OptionError(f"device_map is {value!r}, but torch finds no CUDA device: pass device_map='auto'")
    return device
