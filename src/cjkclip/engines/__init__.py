"""Engines: the same towers on different backends, behind one protocol.

n items, S pixels a side, L tokens, E joint width. An engine is built from a config and canonical arrays and knows no
family. `numpy` is the reference, `openvino` the default on a CPU, `torch` the engine for GPUs and training.
"""

import re
import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Protocol, cast, runtime_checkable

import numpy as np

from cjkclip.arrays import Float, Int
from cjkclip.config import Bert, Model
from cjkclip.engines import here
from cjkclip.errors import EngineError, EngineWarning, MissingDependencyError
from cjkclip.machine.memory import short_of_memory
from cjkclip.parameters import shapes

Params = Mapping[str, np.ndarray]
Stages = dict[str, np.ndarray]
Pixels = Float[np.ndarray, "n 3 S S"]
Ids = Int[np.ndarray, "n L"]
Features = Float[np.ndarray, "n E"]


@runtime_checkable
class Engine(Protocol):
    """An image tower and a text tower, ready to compute. Features are float32 and not normalised."""

    name: str
    precision: str
    device: str

    def prepare(self) -> None:
        """Compile both towers now, for a caller that needs both. Otherwise each tower is compiled at its first use."""
        ...

    def image(self, pixels: Pixels) -> Features:
        """Return the image features of preprocessed pixels."""
        ...

    def text(self, ids: Ids, mask: Ids) -> Features:
        """Return the text features of token ids; mask is 1 for tokens and 0 for padding."""
        ...

    def image_stages(self, pixels: Pixels) -> Stages:
        """Return every stage: image_embeddings, image_block_0, ..., image_pooled, image_features."""
        ...

    def text_stages(self, ids: Ids, mask: Ids) -> Stages:
        """Return every stage: text_embeddings, text_block_0, ..., text_pooled, text_features."""
        ...


# fp32 arithmetic on weights rounded to fp16: cn_clip's own loader computes so on a CPU
ROUNDED = "fp16-weights"

# name -> (module that defines `build(config, params, precision, device)`, precisions, devices)
ENGINES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "numpy": ("cjkclip.engines.numpy", ("fp32", ROUNDED), ("cpu",)),
    "openvino": ("cjkclip.engines.openvino.ops", ("fp32", "bf16", "int8", ROUNDED), ("cpu",)),
    "torch": ("cjkclip.engines.torch", ("fp32", "bf16", ROUNDED), ("cpu", "cuda", "mps")),
}
GATED = {"openvino": "cpu", "torch": "cuda"}  # engine -> kind of device on which "auto" is decided for each model
# cn_clip's loader rounds convolutions, linear layers with their biases, projections, and every parameter of a BERT
_ROUNDED = re.compile(r"\.conv\.|\.patch\.|\.attn\.|\.mlp\.|\.proj\.|\.pool\.(q|k|v|out)\.")


def choose(engine: str = "auto", precision: str = "auto", device: str = "auto") -> tuple[str, str, str]:
    """Resolve "auto" into names. Raises EngineError for an unknown name or combination.

    engine: torch if a GPU is requested or a CUDA device found, else openvino, else numpy. precision: "auto" becomes
    fp32, or remains "auto" where it is decided for each model (see cjkclip.precision). device: cpu, or the CUDA device
    that torch can compute on; an Apple GPU has to be requested by name, since no test has run on one.
    """
    if engine == "auto":
        engine = _best_engine(device)
    if engine not in ENGINES:
        raise EngineError(f"engine {engine!r} does not exist: use engine='auto' or one of {sorted(ENGINES)}")
    _, precisions, devices = ENGINES[engine]
    here.require_installed(engine)
    if device == "auto":
        device = (here.gpu() if engine == "torch" else None) or "cpu"
    if precision == "auto" and not _gated(engine, device):
        precision = precisions[0]
    if precision not in (*precisions, "auto"):
        accepted = f"use precision='auto' or one of {list(precisions)}"
        raise EngineError(f"engine {engine!r} does not support precision {precision!r}: {accepted}")
    if kind(device) not in devices:
        accepted = f"use device='auto' or one of {list(devices)}"
        raise EngineError(f"engine {engine!r} does not support device {device!r}: {accepted}")
    return engine, precision, device


def build(config: Model, params: Params, *, engine: str, precision: str, device: str) -> Engine:
    """Build an engine from the names that `choose` returned. `params` holds every canonical parameter."""
    arrays = {name: params[name] for name in shapes(config)}
    if precision == ROUNDED:
        bert = isinstance(config.text, Bert)
        arrays = {n: a.astype(np.float16) if _rounds(n, bert) else a for n, a in arrays.items()}
        precision = "fp32"
    with short_of_memory():
        return cast(Engine, _module(engine).build(config, arrays, precision, device))


def fast(engine: str, device: str = "cpu") -> str | None:
    """Return the precision below fp32 that an engine computes in hardware on this machine, or None."""
    return _module(engine).fast(device) if _gated(engine, device) else None


def machine(engine: str, device: str = "cpu") -> str:
    """Return everything besides the model that an engine's numbers depend on: its version and the processor."""
    return _module(engine).machine(device)


def kind(device: str) -> str:
    """Return the kind of a device: its name without the number.

    >>> kind("cuda:1")
    'cuda'
    """
    return device.partition(":")[0]


def _gated(engine: str, device: str) -> bool:
    return GATED.get(engine) == kind(device)


def _rounds(name: str, bert: bool) -> bool:
    """Whether the loader that ROUNDED imitates rounds this parameter."""
    return (bert and name.startswith("text.")) or _ROUNDED.search(name) is not None


def _best_engine(device: str) -> str:
    if device not in ("auto", "cpu") or (device == "auto" and here.gpu() is not None):
        return "torch"
    try:
        here.require_installed("openvino")
        _module("openvino")
    except (EngineError, MissingDependencyError) as error:
        slower = "torch" if here.installed("torch") else "numpy"
        warnings.warn(here.instead("openvino", str(error), slower), EngineWarning, stacklevel=4)
        return slower
    return "openvino"


def _module(engine: str) -> ModuleType:
    return here.started(engine, ENGINES[engine][0])
