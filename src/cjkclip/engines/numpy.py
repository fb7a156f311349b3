"""The NumPy engine: the slow, plain reference. Every operation computes immediately, in float32 as its inputs are."""

import math

import numpy as np

from cjkclip.arrays import is_float
from cjkclip.config import Act, Model
from cjkclip.engines import Features, Ids, Params, Pixels, Stages
from cjkclip.engines.functional import Hide, image_tower, text_tower

Array = np.ndarray


class NumpyOps:
    """Operations on float32 arrays. `functional.Ops` defines each of them."""

    def add(self, a: Array, b: Array) -> Array:
        return a + b

    def linear(self, x: Array, weight: Array, bias: Array | None) -> Array:
        y = x @ weight.T
        return y if bias is None else y + bias

    def layer_norm(self, x: Array, weight: Array, bias: Array, eps: float) -> Array:
        x = x - x.mean(axis=-1, keepdims=True)
        return x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + np.float32(eps)) * weight + bias

    def attention(self, q: Array, k: Array, v: Array, hide: Hide) -> Array:
        scores = q @ k.swapaxes(-1, -2) * np.float32(1 / math.sqrt(q.shape[-1]))
        if isinstance(hide, np.ndarray):
            scores = np.where(hide[:, None, None].astype(bool), scores, np.float32(-np.inf))
        elif hide == "later":
            scores = np.where(np.tri(q.shape[-2], k.shape[-2], dtype=bool), scores, np.float32(-np.inf))
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return scores / scores.sum(axis=-1, keepdims=True) @ v

    def split_heads(self, x: Array, heads: int) -> Array:
        return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)

    def join_heads(self, x: Array) -> Array:
        return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)

    def activation(self, x: Array, act: Act) -> Array:
        if act == "quick_gelu":
            return x * _sigmoid(np.float32(1.702) * x)
        return x * np.float32(0.5) * (1 + _erf(x * np.float32(math.sqrt(0.5))))

    def relu(self, x: Array) -> Array:
        return np.maximum(x, 0)

    def tanh(self, x: Array) -> Array:
        return np.tanh(x)

    def embedding(self, table: Array, ids: Array) -> Array:
        return table[ids]

    def positions(self, table: Array, ids: Array) -> Array:
        return table[: ids.shape[1]]

    def conv(self, x: Array, weight: Array, bias: Array | None, stride: int, pad: int) -> Array:
        x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))
        windows = windows[:, :, ::stride, ::stride]  # B C h w k k
        y = np.tensordot(windows, weight, axes=((1, 4, 5), (1, 2, 3)))  # B h w out
        return np.moveaxis(y if bias is None else y + bias, -1, 1)

    def avg_pool(self, x: Array, size: int) -> Array:
        b, c, h, w = x.shape
        h, w = h // size, w // size
        return x[:, :, : h * size, : w * size].reshape(b, c, h, size, w, size).mean(axis=(3, 5))

    def to_tokens(self, x: Array) -> Array:
        return x.reshape(*x.shape[:2], -1).swapaxes(1, 2)

    def mean_token(self, x: Array) -> Array:
        return x.mean(axis=1, keepdims=True)

    def prepend(self, first: Array, x: Array) -> Array:
        return np.concatenate([np.broadcast_to(first, (len(x), 1, x.shape[2])), x], axis=1)

    def first(self, x: Array, keep: bool) -> Array:
        return x[:, :1] if keep else x[:, 0]

    def find(self, ids: Array, value: int | None) -> Array:
        return (ids if value is None else ids == value).argmax(axis=1)

    def row(self, x: Array, index: Array) -> Array:
        return np.take_along_axis(x, index[:, None, None], axis=1)

    def until(self, ids: Array, index: Array) -> Array:
        positions = np.ones_like(ids).cumsum(axis=1) - 1
        return (positions <= index[:, None]).astype(np.int64)


class NumpyEngine:
    """Run the functional towers on arrays."""

    name, precision, device = "numpy", "fp32", "cpu"

    def __init__(self, config: Model, params: Params) -> None:
        self._config = config
        # Weights become contiguous, whatever their order in the file: a BLAS sums others in a different order.
        self._params = {k: np.require(v, np.float32, ["C", "A"]) for k, v in params.items() if is_float(v)}

    def prepare(self) -> None:
        """Do nothing: this engine compiles nothing."""

    def image(self, pixels: Pixels) -> Features:
        return self.image_stages(pixels)["image_features"]

    def text(self, ids: Ids, mask: Ids) -> Features:
        return self.text_stages(ids, mask)["text_features"]

    def image_stages(self, pixels: Pixels) -> Stages:
        stages: Stages = {}
        image_tower(NumpyOps(), self._params, self._config, pixels, stages.__setitem__)
        return stages

    def text_stages(self, ids: Ids, mask: Ids) -> Stages:
        assert self._config.text is not None
        stages: Stages = {}
        text_tower(NumpyOps(), self._params, self._config.text, ids, mask, stages.__setitem__)
        return stages


def build(config: Model, params: Params, precision: str, device: str) -> NumpyEngine:
    """Build the reference engine, which has one precision and one device."""
    assert (precision, device) == ("fp32", "cpu")
    return NumpyEngine(config, params)


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):  # exp(-x) may overflow to infinity, and 1 / infinity is the right 0
        return 1 / (1 + np.exp(-x))


def _erf(x: Array) -> Array:
    """Return the error function, which NumPy lacks: math.erf of each value, in double precision."""
    return np.array([math.erf(value) for value in x.ravel()], x.dtype).reshape(x.shape)
