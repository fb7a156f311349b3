"""Count the FLOPs of a tower, two for each multiply-add. L tokens.

Linear layers, convolutions and the two products of attention count; operations per feature (norms, activations, sums)
do not. The towers of engines/functional.py run over arrays without memory, so the count follows the code: the last
block of a transformer computes one token. A causal tower counts the full square of attention. Extra work of an engine,
such as padding, is not counted.
"""

from functools import cache
from math import prod

import numpy as np

from cjkclip.config import Act, Model
from cjkclip.engines.functional import Hide, image_tower, text_tower
from cjkclip.engines.numpy import NumpyOps
from cjkclip.parameters import shapes


@cache
def image(config: Model) -> int:
    """Return the FLOPs of one image, from pixels to features."""
    assert config.vision is not None
    ops = _Counting()
    side = config.vision.image_size
    image_tower(ops, _params(config), config, _nothing(1, 3, side, side))
    return ops.flops


@cache
def text(config: Model, length: int) -> int:
    """Return the FLOPs of one text of `length` tokens, from ids to features."""
    assert config.text is not None
    ops, ids = _Counting(), np.zeros((1, length), np.int64)
    text_tower(ops, _params(config), config.text, ids, np.ones_like(ids))
    return ops.flops


class _Counting(NumpyOps):
    """Count FLOPs instead of multiplying; shapes are right, values are not."""

    def __init__(self) -> None:
        self.flops = 0

    def linear(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
        out = _nothing(*x.shape[:-1], len(weight))
        self.flops += 2 * out.size * weight.shape[1]
        return out

    def attention(self, q: np.ndarray, k: np.ndarray, v: np.ndarray, hide: Hide) -> np.ndarray:
        self.flops += 2 * 2 * q.size * k.shape[2]
        return q

    def conv(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, stride: int, pad: int) -> np.ndarray:
        high, wide = ((x.shape[axis] + 2 * pad - weight.shape[axis]) // stride + 1 for axis in (2, 3))
        out = _nothing(len(x), len(weight), high, wide)
        self.flops += 2 * out.size * prod(weight.shape[1:])
        return out

    def layer_norm(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, eps: float) -> np.ndarray:
        return x

    def activation(self, x: np.ndarray, act: Act) -> np.ndarray:
        return x


def _params(config: Model) -> dict[str, np.ndarray]:
    return {name: _nothing(*shape) for name, shape in shapes(config).items()}


def _nothing(*shape: int) -> np.ndarray:
    """Return zeros that take no memory."""
    return np.broadcast_to(np.float32(0), shape)
