"""CLIP models for Chinese, Japanese, Korean and English.

>>> import cjkclip
>>> sorted(cjkclip.__all__)[:3]
['Clip', 'Gallery', 'Prediction']

Every name is imported at its first use: `import cjkclip` loads no framework.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cjkclip import errors, moji, verify
    from cjkclip.clip import Clip
    from cjkclip.gallery import Gallery
    from cjkclip.loading import load
    from cjkclip.text import Tokens
    from cjkclip.zeroshot import Prediction

__version__ = "0.1.0"
__all__ = ["Clip", "Gallery", "Prediction", "Tokens", "errors", "load", "moji", "verify"]

_HOMES = {
    "Clip": "cjkclip.clip",
    "load": "cjkclip.loading",
    "Gallery": "cjkclip.gallery",
    "Tokens": "cjkclip.text",
    "Prediction": "cjkclip.zeroshot",
}


def __getattr__(name: str) -> Any:
    """Import a public name, or a public submodule, at its first use."""
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in __all__:
        return importlib.import_module(f"cjkclip.{name}")
    raise AttributeError(f"module 'cjkclip' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
