"""Engines: the same towers on different machinery, behind one protocol.

n items, S pixels a side, L tokens, E joint width. An engine is built from a config and canonical arrays; it knows
no family. `numpy` is the oracle, `openvino` the default on a CPU, `torch` the one for GPUs and training.
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
    """Two towers that run. Features are float32 and not normalised."""

    name: str
    precision: str
    device: str

    def prepare(self) -> None:
        """Make both towers ready: what a caller says that will ask both. Without it each is made at its first use."""
        ...

    def image(self, pixels: Pixels) -> Features:
        """Image features of prepared pixels."""
        ...

    def text(self, ids: Ids, mask: Ids) -> Features:
        """Text features of token ids; mask is 1 where a token is kept."""
        ...

    def image_stages(self, pixels: Pixels) -> Stages:
        """Every stage on the way: image_embeddings, image_block_0, ..., image_pooled, image_features."""
        ...

    def text_stages(self, ids: Ids, mask: Ids) -> Stages:
        """Every stage on the way: text_embeddings, text_block_0, ..., text_pooled, text_features."""
        ...


# fp32 arithmetic on weights rounded to fp16, as cn_clip's own loader has them on a CPU
ROUNDED = "fp16-weights"

# name -> (module that defines `build(config, params, precision, device)`, precisions, devices)
ENGINES: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "numpy": ("cjkclip.engines.numpy", ("fp32", ROUNDED), ("cpu",)),
    "openvino": ("cjkclip.engines.openvino.ops", ("fp32", "bf16", "int8", ROUNDED), ("cpu",)),
    "torch": ("cjkclip.engines.torch", ("fp32", "bf16", ROUNDED), ("cpu", "cuda", "mps")),
}
GATED = {"openvino": "cpu", "torch": "cuda"}  # engine -> where its "auto" precision is decided model by model
# what that loader rounds: convolutions, linear layers with their biases, projections, and all of a BERT
_ROUNDED = re.compile(r"\.conv\.|\.patch\.|\.attn\.|\.mlp\.|\.proj\.|\.pool\.(q|k|v|out)\.")


def choose(engine: str = "auto", precision: str = "auto", device: str = "auto") -> tuple[str, str, str]:
    """Turn "auto" into names. Raises EngineError for a name or a combination that does not exist.

    engine: torch where a GPU is asked for or a CUDA device found, else openvino, else numpy. precision: "auto" is fp32,
    or stays as it is where a model has to be looked at first (see cjkclip.gate). device: cpu, or the CUDA device that
    torch finds and computes on; an Apple GPU, which no test has seen yet, has to be asked for.
    """
    if engine == "auto":
        engine = _best_engine(device)
    if engine not in ENGINES:
        raise EngineError(f"engine {engine!r} does not exist; choose 'auto' or one of {sorted(ENGINES)}")
    _, precisions, devices = ENGINES[engine]
    here.require_installed(engine)
    if device == "auto":
        device = (here.gpu() if engine == "torch" else None) or "cpu"
    if precision == "auto" and not _gated(engine, device):
        precision = precisions[0]
    if precision not in (*precisions, "auto"):
        raise EngineError(f"engine {engine!r} has no precision {precision!r}; it has {list(precisions)}")
    if kind(device) not in devices:
        raise EngineError(f"engine {engine!r} has no device {device!r}; it has {list(devices)}")
    return engine, precision, device


def build(config: Model, params: Params, *, engine: str, precision: str, device: str) -> Engine:
    """An engine by its chosen names (see `choose`). `params` holds every canonical parameter."""
    read = {name: params[name] for name in shapes(config)}
    if precision == ROUNDED:
        bert = isinstance(config.text, Bert)
        read = {n: a.astype(np.float16) if _rounds(n, bert) else a for n, a in read.items()}
        precision = "fp32"
    with short_of_memory():
        return cast(Engine, _module(engine).build(config, read, precision, device))


def fast(engine: str, device: str = "cpu") -> str | None:
    """The precision below fp32 that an engine computes in hardware on this machine, or None."""
    return _module(engine).fast(device) if _gated(engine, device) else None


def machine(engine: str, device: str = "cpu") -> str:
    """What an engine's numbers depend on besides the model: its version and the processor."""
    return _module(engine).machine(device)


def kind(device: str) -> str:
    """A device without its number.

    >>> kind("cuda:1")
    'cuda'
    """
    return device.partition(":")[0]


def _gated(engine: str, device: str) -> bool:
    return GATED.get(engine) == kind(device)


def _rounds(name: str, bert: bool) -> bool:
    """Does the loader that ROUNDED imitates round this parameter?"""
    return (bert and name.startswith("text.")) or _ROUNDED.search(name) is not None


def _best_engine(device: str) -> str:
    if device not in ("auto", "cpu") or (device == "auto" and here.gpu() is not None):
        return "torch"
    try:
        here.require_installed("openvino")
        _module("openvino")
    except (EngineError, MissingDependencyError) as error:
        instead = "torch" if here.installed("torch") else "numpy"
        warnings.warn(f"{error}. Until then everything runs on {instead}, more slowly", EngineWarning, stacklevel=4)
        return instead
    return "openvino"


def _module(engine: str) -> ModuleType:
    return here.started(engine, ENGINES[engine][0])
