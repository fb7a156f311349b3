"""Where cjkclip keeps what it can make again: safe to delete at any time.

Hugging Face's downloads lie in huggingface_hub's own cache, not here.
"""

import os
from pathlib import Path


def folder(*parts: str) -> Path:
    """A folder of the cache, `~/.cache/cjkclip` or `$XDG_CACHE_HOME/cjkclip`; it need not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser().joinpath("cjkclip", *parts)
