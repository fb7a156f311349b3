"""HEIC and HEIF, the pictures of many phones: Pillow opens them where the package pillow-heif is installed."""

import functools
import importlib.util
import io
from pathlib import Path

import PIL.Image


def open_file(source: Path | io.BytesIO) -> PIL.Image.Image:
    """Open a picture with Pillow; pillow-heif is imported only if Pillow alone does not know the format."""
    try:
        return PIL.Image.open(source)
    except PIL.UnidentifiedImageError:
        if not _registered():
            raise
    return PIL.Image.open(source)


@functools.cache
def _registered() -> bool:
    """Register pillow-heif with Pillow; False if it is not installed or cannot be imported."""
    if importlib.util.find_spec("pillow_heif") is None:
        return False
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except (ImportError, OSError):
        return False
    return True
