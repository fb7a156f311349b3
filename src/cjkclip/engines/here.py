"""Engines and GPUs that this machine can use: packages that are installed and import, and torch's CUDA device."""

import importlib
import re
import sys
import warnings
from importlib.util import find_spec
from types import ModuleType

from cjkclip.engines.wheels import lacking
from cjkclip.errors import EngineError, EngineWarning, MissingDependencyError

INSTALL = {name: f"pip install 'cjkclip[{name}]'" for name in ("openvino", "torch")}  # engines that are extras
_STOPPED = set[str]()  # engines whose import was interrupted; C++ modules cannot be imported twice


def installed(engine: str) -> bool:
    """Whether the package of an engine, which has the engine's name, can be found."""
    return find_spec(engine) is not None


def require_installed(engine: str) -> None:
    """Raise MissingDependencyError if the package of an engine is missing; the message advises what works here."""
    if engine not in INSTALL or installed(engine):
        return
    if unreleased := _unreleased(engine):
        raise MissingDependencyError(f"{unreleased}: use engine='auto', device='auto'")
    raise MissingDependencyError(f"engine {engine!r} is not installed. Install it: {INSTALL[engine]}")


def instead(engine: str, why: str, other: str) -> str:
    """Return one line about an engine that "auto" could not choose; it recommends only what this system can install."""
    unreleased = None if installed(engine) else _unreleased(engine)
    if unreleased is None:
        return f"{why}. Until then cjkclip uses {other}, which is slower"
    use_torch = other == "numpy" and lacking("torch") is None
    faster = f". Install torch, which is faster: {INSTALL['torch']}" if use_torch else ""
    return f"{unreleased}: cjkclip uses {other}, which is slower{faster}"


def _unreleased(engine: str) -> str | None:
    """Return the statement that an engine has no wheel for this system, or None if it has one."""
    reason = lacking(engine)
    return None if reason is None else f"engine {engine!r} has no release for this system ({reason})"


def started(engine: str, module: str) -> ModuleType:
    """Import the module of an engine. Raises EngineError if its package is installed but cannot be imported.

    A package whose import was interrupted is not imported again, which would raise other errors or end the process.
    """
    if engine in _STOPPED and module not in sys.modules:
        raise EngineError(
            f"engine {engine!r} cannot be imported again, since its import was interrupted: restart Python"
        )
    try:
        return importlib.import_module(module)
    except (KeyboardInterrupt, SystemExit):
        _STOPPED.add(engine)
        raise
    except SystemError as error:  # C++ code that was interrupted
        _STOPPED.add(engine)
        raise EngineError(f"the import of engine {engine!r} was interrupted ({error}): restart Python") from error
    except (ImportError, OSError, RuntimeError, AttributeError) as error:  # incomplete packages raise all of these
        if (interruption := _interruption(error)) is not None:
            _STOPPED.add(engine)
            raise interruption from None
        why = str(error).strip().partition("\n")[0][:200]
        advice = f"Reinstall it: pip install --force-reinstall {engine if engine in INSTALL else 'cjkclip'}"
        if engine in _STOPPED:
            advice = "Its import was interrupted: restart Python"
        raise EngineError(f"engine {engine!r} is installed but cannot be imported ({why}). {advice}") from error


def _interruption(error: BaseException | None) -> BaseException | None:
    """Return the Ctrl-C or exit that stopped an import; C++ modules raise ImportError with it as the cause."""
    while isinstance(error, Exception):
        error = error.__cause__
    return error


def gpu() -> str | None:
    """Return "cuda" if torch can compute on such a device, else None. Imports torch only if a GPU driver is present."""
    if not installed("torch") or not _driver():
        return None
    torch = importlib.import_module("torch")
    try:
        return "cuda" if torch.cuda.is_available() and _has_kernels(torch.cuda) else None
    except RuntimeError as error:  # another program has it for itself, or this process is a fork of one that used it
        why = str(error).strip().partition("\n")[0][:200]
        advice = "so cjkclip runs on the CPU. Pass device='cpu' to choose that without this warning"
        warnings.warn(f"the GPU cannot be used ({why}), {advice}", EngineWarning, stacklevel=4)
        return None


def _has_kernels(cuda: ModuleType) -> bool:
    """Whether torch was built for this card. A driver also lists older cards, on which every call would fail.

    Kernels named sm_XY run on cards X.Y and later cards of generation X; compute_XY is compiled for any later card.
    AMD's kernels have other names.
    """
    card: tuple[int, int] = cuda.get_device_capability()
    names: list[str] = cuda.get_arch_list()
    matches = [re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", name) for name in names]
    kernels = [(match[1], int(match[2]), int(match[3])) for match in matches if match]
    runs = ((major, minor) <= card and (code == "compute" or major == card[0]) for code, major, minor in kernels)
    return not kernels or any(runs)


def _driver() -> bool:
    """Whether a GPU driver seems to be present. Looking for its files costs nothing; importing torch costs a second."""
    import platform
    from pathlib import Path

    return platform.system() == "Windows" or any(Path(f"/dev/{d}").exists() for d in ("nvidiactl", "kfd", "dxg"))
