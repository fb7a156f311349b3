"""Engines: the same towers on different machinery, behind one protocol.

n items, S pixels a side, L tokens, E joint width. An engine is built from a config and canonical arrays; it knows
no family. `numpy` is the oracle, `openvino` the default on a CPU, `torch` the one for GPUs and training.
"""

import importlib
import re
import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from types import ModuleType
from typing import Protocol, cast, runtime_checkable

import numpy as np

from cjkclip.arrays import Float, Int
from cjkclip.config import Bert, Model
from cjkclip.engines.wheels import lacking
from cjkclip.errors import EngineError, EngineWarning, MissingDependencyError, OutOfMemoryError
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
    "numpy": ("cjkclip.engines.ops_numpy", ("fp32", ROUNDED), ("cpu",)),
    "openvino": ("cjkclip.engines.ops_openvino", ("fp32", "bf16", "int8", ROUNDED), ("cpu",)),
    "torch": ("cjkclip.engines.torch", ("fp32", "bf16", ROUNDED), ("cpu", "cuda", "mps")),
}
INSTALL = {name: f"pip install 'cjkclip[{name}]'" for name in ("openvino", "torch")}  # engines that are extras
_STOPPED = set[str]()  # engines whose import was interrupted: what is in C++ cannot be imported twice
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
    _require_installed(engine)
    if device == "auto":
        device = (_gpu() if engine == "torch" else None) or "cpu"
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


@contextmanager
def short_of_memory(*signs: str) -> Generator[None]:
    """Raise OutOfMemoryError for a MemoryError, and for a RuntimeError whose text has one of `signs`, patterns."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if any(re.search(sign, line) for sign in signs)]
        if not lines and not isinstance(error, MemoryError):
            raise
        why = lines[0] if lines else str(error) or type(error).__name__
        raise OutOfMemoryError(why[:200]) from error


def _rounds(name: str, bert: bool) -> bool:
    """Does the loader that ROUNDED imitates round this parameter?"""
    return (bert and name.startswith("text.")) or _ROUNDED.search(name) is not None


def _best_engine(device: str) -> str:
    if device not in ("auto", "cpu") or (device == "auto" and _gpu() is not None):
        return "torch"
    try:
        _require_installed("openvino")
        _module("openvino")
    except (EngineError, MissingDependencyError) as error:
        instead = "numpy" if find_spec("torch") is None else "torch"
        warnings.warn(_until_then(str(error), instead), EngineWarning, stacklevel=4)
        return instead
    return "openvino"


def _until_then(why: str, instead: str) -> str:
    """One line on an engine that was not chosen. Advises only what can be installed on this system."""
    if lacking("openvino") is None or find_spec("openvino") is not None:
        return f"{why}. Until then everything runs on {instead}, more slowly"
    faster = f". {INSTALL['torch']} is faster" if instead == "numpy" and lacking("torch") is None else ""
    return f"{why}: everything runs on {instead}, more slowly{faster}"


def _require_installed(engine: str) -> None:
    if engine not in INSTALL or find_spec(engine) is not None:
        return
    why = lacking(engine)
    if why is not None:
        raise MissingDependencyError(f"engine {engine!r} has no release for this system ({why})")
    raise MissingDependencyError(f"engine {engine!r} is not installed: {INSTALL[engine]}")


def _module(engine: str) -> ModuleType:
    """The engine's own module. Raises EngineError if its package is there but does not start."""
    try:
        return importlib.import_module(ENGINES[engine][0])
    except (KeyboardInterrupt, SystemExit):
        _STOPPED.add(engine)
        raise
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # what halves of packages raise
        if (stopped := _interruption(error)) is not None:
            _STOPPED.add(engine)
            raise stopped from None
        why = str(error).strip().partition("\n")[0][:200]
        again = f"pip install --force-reinstall {engine if engine in INSTALL else 'cjkclip'}"
        if engine in _STOPPED:
            again = "its import was interrupted, start Python again"
        raise EngineError(f"engine {engine!r} is installed but does not start ({why}): {again}") from error


def _interruption(error: BaseException | None) -> BaseException | None:
    """What stopped an import: C++ modules make an ImportError of Ctrl-C, with the interruption as its cause."""
    while isinstance(error, Exception):
        error = error.__cause__
    return error


def _gpu() -> str | None:
    """The CUDA device that torch would use. torch is imported only where a driver shows that there may be one."""
    if find_spec("torch") is None or not _driver():
        return None
    torch = importlib.import_module("torch")
    try:
        return "cuda" if torch.cuda.is_available() and _has_kernels(torch.cuda) else None
    except RuntimeError as error:  # another program has it for itself, or this process is a fork of one that used it
        why = str(error).strip().partition("\n")[0][:200]
        warnings.warn(f"the GPU cannot be used ({why}): everything runs on the CPU", EngineWarning, stacklevel=4)
        return None


def _has_kernels(cuda: ModuleType) -> bool:
    """Was torch built for this card? A driver also counts cards that are too old for it: every call would fail.

    sm_XY runs on cards X.Y and later ones of X, compute_XY is compiled for any later card. AMD's have other names.
    """
    card: tuple[int, int] = cuda.get_device_capability()
    names: list[str] = cuda.get_arch_list()
    built = [re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", name) for name in names]
    known = [(found[1], int(found[2]), int(found[3])) for found in built if found]
    runs = ((major, minor) <= card and (code == "compute" or major == card[0]) for code, major, minor in known)
    return not known or any(runs)


def _driver() -> bool:
    """Is there a sign of a GPU? Looking at files costs nothing; importing torch costs a second."""
    import platform
    from pathlib import Path

    return platform.system() == "Windows" or any(Path(f"/dev/{d}").exists() for d in ("nvidiactl", "kfd", "dxg"))
