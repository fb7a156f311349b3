"""HEIC and HEIF, the pictures of many phones: Pillow opens them where the package pillow-heif is installed."""

import functools
import importlib.util
import io
from pathlib import Path

import PIL.Image


def open_file(source: Path | io.BytesIO) -> PIL.Image.Image:
    """What Pillow opens, by itself or with pillow-heif, which is asked only where it is needed."""
    try:
        return PIL.Image.open(source)
    except PIL.UnidentifiedImageError:
        if not _registered():
            raise
    return PIL.Image.open(source)


@functools.cache
def _registered() -> bool:
    """Have Pillow ask pillow-heif from now on; False where that is not there or does not start."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except (ImportError, OSError):
        return False
    return True
