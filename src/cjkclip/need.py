"""Import optional dependencies, in one place."""

import importlib
from types import ModuleType

from cjkclip.errors import MissingDependencyError


def need(module: str, *, extra: str) -> ModuleType:
    """Import `module`. Raises MissingDependencyError that names the extra which installs it.

    >>> need("math", extra="none").sqrt(4.0)
    2.0
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as missing:
        if missing.name != module.partition(".")[0]:
            raise
        raise MissingDependencyError(
            f"this needs {module.partition('.')[0]}, which is not installed: pip install 'cjkclip[{extra}]'"
        ) from missing
