"""Process images like transformers' PIL back end, with every step optional. C channels, H x W pixels.

`config.Image` covers the steps of published models; this module is for programs that leave steps out or change their
numbers. Facts: transformers 5.23.0, image_processing_backends and image_transforms.
"""

from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import PIL.Image

from cjkclip import config
from cjkclip.errors import ImageError
from cjkclip.image.picture import named, open_picture, to_rgb
from cjkclip.image.pixels import FILTERS, Filter, check_resized, is_clear, load_pixels

Levels = np.ndarray  # (C, H, W), of any number type


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The steps in this order; None leaves a step out."""

    rgb: bool
    size: int | tuple[int, int] | None  # of the short side, or (height, width)
    resample: int  # Pillow's number of the filter
    crop: tuple[int, int] | None  # (height, width) of the middle; a smaller image is padded with zeros
    scale: float | None
    mean: tuple[float, ...] | None  # one for each channel, or one for all
    std: tuple[float, ...]


def prepare(picture: Any, steps: Steps, axis: Literal[0, -1] | None = None) -> Levels:
    """Return one image, (C, H, W): float32, or its own type if `scale` and `mean` are both None.

    `axis`: the axis of an array's channels (None: the first if its length is 1, 3 or 4, else the last). Raises
    ImageError that names the image.
    """
    rules = _rules(steps)
    if rules is not None and not isinstance(picture, np.ndarray):
        return load_pixels([picture], rules, published=True)[0]
    with named(picture):
        levels = _levels(picture, steps, axis)
        if steps.size is not None:
            levels = _resized(levels, steps.size, steps.resample)
        if steps.crop is not None:
            levels = _cropped(levels, *steps.crop)
        if steps.scale is not None:
            levels = (levels.astype(np.float64) * steps.scale).astype(np.float32)
        return levels if steps.mean is None else _normalised(levels, steps.mean, steps.std)


def _rules(steps: Steps) -> config.Image | None:
    """Return the same steps as a record for `load_pixels`, or None if no record expresses them."""
    names: dict[int, Filter] = {int(number): name for name, number in FILTERS.items()}
    side = steps.size if isinstance(steps.size, int) else steps.size[0] if steps.size else 0
    short = steps.size == side and steps.crop == (side, side)
    squash = steps.size == (side, side) and steps.crop in (None, (side, side))
    whole = steps.rgb and steps.scale == 1 / 255 and steps.resample in names and (short or squash)
    if not whole or steps.mean is None or (len(steps.mean), len(steps.std)) != (3, 3):
        return None
    (m0, m1, m2), (s0, s1, s2) = steps.mean, steps.std
    return config.Image(
        size=side,
        resize="short-side" if short else "squash",
        filter=names[steps.resample],
        crop="floor",
        rgb="first",
        alpha="white",
        mean=(m0, m1, m2),
        std=(s0, s1, s2),
    )


def _levels(picture: Any, steps: Steps, axis: Literal[0, -1] | None) -> Levels:
    """Return an image or an array as channels of levels."""
    if isinstance(picture, np.ndarray):
        return _from_array(cast(np.ndarray, picture), steps.rgb, axis)
    image = open_picture(picture, published=True)
    if steps.rgb:
        image = to_rgb(image, white=is_clear(image))
    levels = np.asarray(image)
    return levels[None] if levels.ndim == 2 else levels.transpose(2, 0, 1)


def _from_array(array: np.ndarray, rgb: bool, axis: Literal[0, -1] | None) -> Levels:
    if array.ndim == 2:
        array, axis = array[None], 0
    if array.ndim != 3 or array.size == 0:
        raise ImageError(f"got shape {array.shape}; expected (H, W), (C, H, W) or (H, W, C), with at least one pixel")
    if axis is None:
        axis = 0 if array.shape[0] in (1, 3, 4) else -1
    array = np.moveaxis(array, axis, 0)
    if len(array) not in (1, 3, 4):
        raise ImageError(
            f"has {len(array)} channels along axis {axis}; expected 1, 3 or 4: "
            f"pass input_data_format={'channels_last' if axis == 0 else 'channels_first'!r}"
        )
    if not rgb or len(array) == 3:
        return array
    return np.repeat(array, 3, axis=0) if len(array) == 1 else _on_white(array)


def _on_white(array: Levels) -> Levels:
    """Composite three channels on white; the fourth channel is alpha."""
    whole = np.issubdtype(array.dtype, np.integer)
    white = 255 if whole else 1.0
    alpha = array[3:] / white
    blended = alpha * array[:3] + (1 - alpha) * white
    return (np.round(blended) if whole else blended).astype(array.dtype)


def _resized(levels: Levels, size: int | tuple[int, int], resample: int) -> Levels:
    """Resize with Pillow, in 8 bits. Values in [0, 1] are multiplied by 255 before and divided by 255 afterwards."""
    height, width = levels.shape[1:]
    if isinstance(size, int):
        short, long = min(height, width), int(size * max(height, width) / min(height, width))
        size = (size, long) if height == short else (long, size)
    check_resized((width, height), (size[1], size[0]))
    unit = _is_unit(levels)
    levels = (levels.astype(np.float64) * 255).astype(np.float32) if unit else levels
    small = levels.astype(np.uint8).transpose(1, 2, 0)
    image = PIL.Image.fromarray(small[:, :, 0] if small.shape[2] == 1 else small)
    resized = np.asarray(image.resize((size[1], size[0]), PIL.Image.Resampling(resample)))
    resized = resized[None] if resized.ndim == 2 else resized.transpose(2, 0, 1)
    return (resized.astype(np.float64) * (1 / 255)).astype(np.float32) if unit else resized


def _is_unit(levels: Levels) -> bool:
    """Whether values are in [0, 1], and not levels up to 255."""
    if levels.dtype == np.uint8:
        return False
    if np.issubdtype(levels.dtype, np.floating) and not np.isfinite(levels).all():
        raise ImageError("contains NaN or infinite values; expected levels up to 255, or values in [0, 1]")
    low, high = levels.min(), levels.max()
    if np.array_equal(levels, levels.astype(np.int64)) and low >= 0 and high <= 255:
        return False
    if low >= 0 and high <= 1:
        return True
    raise ImageError(f"contains values in [{low:g}, {high:g}]; expected integers in [0, 255] or values in [0, 1]")


def _cropped(levels: Levels, height: int, width: int) -> Levels:
    """Crop the middle, half of the surplus rounded down; pad smaller images with zeros, half of them rounded up."""
    channels, rows, columns = levels.shape
    lacks = max(height - rows, 0), max(width - columns, 0)
    wide = np.zeros((channels, rows + lacks[0], columns + lacks[1]), levels.dtype)
    top, left = -(-lacks[0] // 2), -(-lacks[1] // 2)
    wide[:, top : top + rows, left : left + columns] = levels
    start = (rows - height) // 2 + top, (columns - width) // 2 + left
    return wide[:, start[0] : start[0] + height, start[1] : start[1] + width]


def _normalised(levels: Levels, mean: tuple[float, ...], std: tuple[float, ...]) -> Levels:
    if len(mean) not in (1, len(levels)) or len(std) not in (1, len(levels)):
        raise ImageError(
            f"has {len(levels)} channels, {len(mean)} means and {len(std)} deviations; "
            "expected one of each per channel, or one for all: change image_mean and image_std"
        )
    values = levels if np.issubdtype(levels.dtype, np.floating) else levels.astype(np.float32)
    centre, spread = (np.array(numbers, values.dtype)[:, None, None] for numbers in (mean, std))
    return (values - centre) / spread
