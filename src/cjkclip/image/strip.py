"""The middle of a long strip, enlarged without the rest of it. n pixels a side, K pixels of the source matter.

A picture of 1 x 5000 pixels resized to a short side of 224 has 1 120 000 rows, of which the crop keeps 224.
Pillow can resize a box of the source, but reads the box in single precision, so the middle would differ from
the original's in a few levels. Here the long axis is resampled with Pillow's own fixed-point arithmetic (its
Resample.c: two passes, 22-bit weights, each pass rounded to 8 bits), for the kept rows or columns only.

Enlarges only: then Pillow takes the horizontal pass first, while its order for reductions differs between its
versions. Refuses modes without plain 8-bit channels: make those RGB first.
"""

from typing import Literal

import numpy as np
import PIL.Image
from PIL.Image import Resampling

from cjkclip.arrays import Float64, UInt8

_PREMULTIPLIED = {"LA": "La", "RGBA": "RGBa"}  # Pillow resizes colours weighted by their alpha
MODES = ("L", "RGB", "RGBX", "CMYK", "YCbCr", "HSV", *_PREMULTIPLIED, *_PREMULTIPLIED.values())
_ONE = 1 << 22


def middle(
    image: PIL.Image.Image, length: int, start: int, side: int, name: Literal["bicubic", "bilinear"]
) -> PIL.Image.Image:
    """Pixels start..start + side of the long axis, as if the whole were enlarged and cropped."""
    if image.mode in _PREMULTIPLIED:
        premultiplied = image.convert(_PREMULTIPLIED[image.mode])
        return middle(premultiplied, length, start, side, name).convert(image.mode)
    how = Resampling[name.upper()]
    low, weights = _weights(max(image.size), length, start, side, name)
    high = low + weights.shape[1]
    if image.width < image.height:
        rows = image.crop((0, low, image.width, high)).resize((side, high - low), how)
        return _image(_resample(_array(rows), weights), image.mode)
    columns = _array(image.crop((low, 0, high, image.height))).swapaxes(0, 1)
    return _image(_resample(columns, weights).swapaxes(0, 1), image.mode).resize((side, side), how)


def _weights(source: int, target: int, start: int, count: int, name: str) -> tuple[int, Float64[np.ndarray, "n K"]]:
    """Where the source pixels that count begin, and the whole-number weight of each for every kept pixel."""
    scale = source / target
    reach = 2.0 if name == "bicubic" else 1.0
    centre = (start + np.arange(count) + 0.5) * scale
    first = max(int(centre[0] - reach + 0.5), 0)
    end = min(int(centre[-1] + reach + 0.5), source)
    at = first + np.arange(end - first)
    away = np.abs(at - centre[:, None] + 0.5)
    weights = _bicubic(away) if name == "bicubic" else np.maximum(1.0 - away, 0.0)
    weights /= np.cumsum(weights, axis=1)[:, -1:]  # summed from left to right, as Pillow does
    return first, np.trunc(weights * _ONE + np.copysign(0.5, weights))


def _bicubic(x: Float64[np.ndarray, "n K"]) -> Float64[np.ndarray, "n K"]:
    """Keys' cubic with a = -1/2, at distances x >= 0."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def _resample(
    pixels: UInt8[np.ndarray, "K any C"], weights: Float64[np.ndarray, "n K"]
) -> UInt8[np.ndarray, "n any C"]:
    sums = np.tensordot(weights, pixels.astype(np.float64), axes=1)  # whole numbers under 2^53: exact
    return np.clip(np.floor((sums + _ONE // 2) / _ONE), 0, 255).astype(np.uint8)


def _array(image: PIL.Image.Image) -> UInt8[np.ndarray, "H W C"]:
    data = np.frombuffer(image.tobytes(), np.uint8)
    return data.reshape(image.height, image.width, len(image.getbands()))


def _image(pixels: UInt8[np.ndarray, "H W C"], mode: str) -> PIL.Image.Image:
    return PIL.Image.frombytes(mode, (pixels.shape[1], pixels.shape[0]), np.ascontiguousarray(pixels).tobytes())
