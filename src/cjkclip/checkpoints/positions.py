"""Another image size for the same weights: the table of positions is interpolated, as the originals do it.

Facts: open_clip_torch 3.3.0 (resize_pos_embed), cn_clip 1.6.0 (the function of the same name), transformers 5.23.0
(interpolate_pos_encoding): all three are bicubic. G and S are the old and the new number of patches a side, D width.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cjkclip.arrays import Float
from cjkclip.checkpoints.formats import Interpolation
from cjkclip.config import MOST_SIDE, Model, Vit
from cjkclip.errors import FactsError


def at_size(
    config: Model, params: Mapping[str, np.ndarray], size: int, way: Interpolation
) -> tuple[Model, dict[str, np.ndarray]]:
    """Return the config and parameters of a model for images of `size` pixels a side.

    Raises FactsError if it has no image tower, or `size` is no multiple of its patches.
    """
    vision = config.vision
    if vision is None:
        raise FactsError(f"image_size={size}, but this checkpoint has no image tower: leave image_size out")
    step = vision.patch if isinstance(vision, Vit) else 32
    if size % step or not 0 < size <= MOST_SIDE:
        nearest = min(max(round(size / step), 1), MOST_SIDE // step) * step
        raise FactsError(
            f"image_size={size!r}, expected a multiple of {step} (the patches) up to {MOST_SIDE}, for example: "
            f"load(..., image_size={nearest})"
        )
    if size == vision.image_size:
        return config, dict(params)
    name = "vision.position.weight" if isinstance(vision, Vit) else "vision.pool.position.weight"
    image = None if config.image is None else replace(config.image, size=size)
    config = replace(config, vision=replace(vision, image_size=size), image=image)
    return config, {**params, name: resized(params[name], size // step, way)}


def resized(table: Float[np.ndarray, "_ D"], side: int, way: Interpolation) -> Float[np.ndarray, "_ D"]:
    """Return a table (1 + G G, D) for `side` x `side` patches, (1 + S S, D). The class token keeps its row."""
    old = round((len(table) - 1) ** 0.5)
    weights = _weights(old, side, way)
    grid = table[1:].astype(np.float64).reshape(old, old, -1)
    grid = np.einsum("si,tj,ijd->std", weights, weights, grid).reshape(side * side, -1)
    return np.concatenate([table[:1].astype(np.float32), grid.astype(np.float32)])


def _weights(old: int, new: int, way: Interpolation) -> Float[np.ndarray, "S G"]:
    """Return the matrix of bicubic interpolation in one direction, equal to torch's interpolate."""
    rows, scale = np.arange(new)[:, None], old / new
    if way == "antialias":  # the kernel covers at least two patches on each side, and is cut at the border
        width = max(scale, 1.0)
        weights = _cubic((np.arange(old) + 0.5 - scale * (rows + 0.5)) / width, -0.5)
        return weights / weights.sum(axis=1, keepdims=True)
    middle = rows * ((old - 1) / max(new - 1, 1)) if way == "align-corners" else scale * (rows + 0.5) - 0.5
    taps = np.floor(middle).astype(int) + np.arange(-1, 3)
    weights = np.zeros((new, old))
    np.add.at(weights, (rows, taps.clip(0, old - 1)), _cubic(middle - taps, -0.75))  # the border is repeated
    return weights


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Return Keys' cubic convolution kernel with parameter `a`."""
    x = np.abs(x)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((x - 5) * x + 8) * x * a - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
