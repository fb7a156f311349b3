"""Where cjkclip keeps what it can make again: safe to delete at any time.

Hugging Face's downloads lie in huggingface_hub's own cache, not here.
"""

import os
from pathlib import Path


def folder(*parts: str) -> Path:
    """A folder of the cache, `~/.cache/cjkclip` or `$XDG_CACHE_HOME/cjkclip`; it need not exist.

    For a user without a home it is a path at which nothing can be made, so that each use is an OSError.
    """
    place = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    try:
        return place.expanduser().joinpath("cjkclip", *parts)
    except RuntimeError:  # no home folder can be told
        return Path(os.devnull, "cjkclip", *parts)
