"""Open HEIC and HEIF files, which many phones write, with Pillow and the package pillow-heif if it is installed."""

import functools
import importlib.util
import io
from pathlib import Path

import PIL.Image


def open_file(source: Path | io.BytesIO) -> PIL.Image.Image:
    """Open an image with Pillow; pillow-heif is imported only if Pillow alone does not know the format."""
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
