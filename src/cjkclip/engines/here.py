"""What this machine can run: engines whose package is installed and starts, and the GPU that torch would use."""

import importlib
import re
import warnings
from importlib.util import find_spec
from types import ModuleType

from cjkclip.errors import EngineError, EngineWarning, MissingDependencyError

INSTALL = {"openvino": "openvino", "torch": "'cjkclip[torch]'"}  # what pip is asked for, by engine
_STOPPED = set[str]()  # engines whose import was interrupted: what is in C++ cannot be imported twice


def installed(engine: str) -> bool:
    """Whether the package of an engine is there to be imported. It has the engine's name."""
    return find_spec(engine) is not None


def require_installed(engine: str) -> None:
    """Raise MissingDependencyError, with the command that installs it, if the package of an engine is not there."""
    if engine in INSTALL and not installed(engine):
        raise MissingDependencyError(f"engine {engine!r} is not installed: pip install {INSTALL[engine]}")


def started(engine: str, module: str) -> ModuleType:
    """The engine's own module. Raises EngineError if its package is there but does not start."""
    try:
        return importlib.import_module(module)
    except (KeyboardInterrupt, SystemExit):
        _STOPPED.add(engine)
        raise
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # what halves of packages raise
        if (stopped := _interruption(error)) is not None:
            _STOPPED.add(engine)
            raise stopped from None
        why = str(error).strip().partition("\n")[0][:200]
        again = f"pip install --force-reinstall {INSTALL.get(engine, 'cjkclip')}"
        if engine in _STOPPED:
            again = "its import was interrupted, start Python again"
        raise EngineError(f"engine {engine!r} is installed but does not start ({why}): {again}") from error


def _interruption(error: BaseException | None) -> BaseException | None:
    """What stopped an import: C++ modules make an ImportError of Ctrl-C, with the interruption as its cause."""
    while isinstance(error, Exception):
        error = error.__cause__
    return error


def gpu() -> str | None:
    """The CUDA device that torch would use. torch is imported only where a driver shows that there may be one."""
    if not installed("torch") or not _driver():
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
