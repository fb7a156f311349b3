"""Images of noise, which no format can store trivially."""

import numpy as np
from PIL import Image


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    """Return the same noise at each call, converted to `mode`."""
    noise = np.random.default_rng(0).integers(0, 256, size=(size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


def photo(width: int = 61, height: int = 47, mode: str = "RGB") -> Image.Image:
    """Return noise whose bytes are those of `mode`, without a conversion."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    levels = np.random.default_rng(height).integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.frombytes(mode, (width, height), levels.tobytes())
