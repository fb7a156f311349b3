"""The towers as pure functions over a small Ops protocol. B batch, L tokens, D width, H heads, K head width.

This is the second definition of the arithmetic (the first is engines/torch) and their parity is a test. An engine
that executes it needs only an ops file: NumPy computes, OpenVINO's ops emit graph nodes.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from cjkclip.config import Act, Bert, Encoder, Model, ResNet, Text, TextTower, Vit

T = Any  # a tensor of whatever the ops compute with: an array, or a node of a graph
Params = Mapping[str, np.ndarray]
Tap = Callable[[str, T], None]  # is shown every stage by its name
Hide = Literal["nothing", "later"] | T  # for attention; a T is a mask (B, L), 1 = keep


@runtime_checkable
class Ops(Protocol):
    """What a tower is made of. Weights are arrays; everything else is a T."""

    def add(self, a: T, b: T | np.ndarray) -> T:
        """a + b with broadcasting."""
        ...

    def linear(self, x: T, weight: np.ndarray, bias: np.ndarray | None) -> T:
        """X @ weight.T + bias; weight is (out, in)."""
        ...

    def layer_norm(self, x: T, weight: np.ndarray, bias: np.ndarray, eps: float) -> T:
        """Over the last axis, variance without Bessel's correction."""
        ...

    def attention(self, q: T, k: T, v: T, hide: Hide) -> T:
        """softmax(q k^T / sqrt(K)) v on (B, H, L, K). `hide`: nothing, every later token, or where a mask is 0."""
        ...

    def split_heads(self, x: T, heads: int) -> T:
        """(B, L, D) -> (B, H, L, K)."""
        ...

    def join_heads(self, x: T) -> T:
        """(B, H, L, K) -> (B, L, D)."""
        ...

    def activation(self, x: T, act: Act) -> T:
        """gelu in its exact form, or quick_gelu."""
        ...

    def relu(self, x: T) -> T:
        """max(x, 0)."""
        ...

    def tanh(self, x: T) -> T:
        """Hyperbolic tangent."""
        ...

    def embedding(self, table: np.ndarray, ids: T) -> T:
        """Rows of a table."""
        ...

    def positions(self, table: np.ndarray, ids: T) -> T:
        """The first L rows of a position table, L being the length of ids."""
        ...

    def conv(self, x: T, weight: np.ndarray, bias: np.ndarray | None, stride: int, pad: int) -> T:
        """Convolution of (B, C, h, w); weight is (out, in, k, k), bias (out)."""
        ...

    def avg_pool(self, x: T, size: int) -> T:
        """Average pooling with stride = size."""
        ...

    def to_tokens(self, x: T) -> T:
        """(B, D, h, w) -> (B, h w, D), row by row."""
        ...

    def mean_token(self, x: T) -> T:
        """(B, L, D) -> (B, 1, D)."""
        ...

    def prepend(self, first: T | np.ndarray, x: T) -> T:
        """(1 or B, 1, D) before (B, L, D), along L."""
        ...

    def first(self, x: T, keep: bool) -> T:
        """Token 0: (B, D), or (B, 1, D) if `keep`."""
        ...

    def at_argmax(self, x: T, ids: T, value: int | None) -> T:
        """The row of (B, L, D) at the first largest id, or at the first id equal to `value`: (B, D)."""
        ...


def image_tower(ops: Ops, params: Params, config: Model, pixels: T, tap: Tap) -> T:
    """Pixels (B, 3, S, S) to un-normalised image features (B, E)."""
    if isinstance(config.vision, Vit):
        x = _vit(ops, params, config.vision, pixels, tap)
    else:
        assert isinstance(config.vision, ResNet)
        x = _resnet(ops, params, config.vision, pixels, tap)
    tap("image_features", x)
    return x


def text_tower(ops: Ops, params: Params, config: TextTower, ids: T, mask: T, tap: Tap) -> T:
    """Ids and mask (B, L) to un-normalised text features (B, E)."""
    x = _bert(ops, params, config, ids, mask, tap) if isinstance(config, Bert) else _clip(ops, params, config, ids, tap)
    tap("text_features", x)
    return x


def _clip(ops: Ops, params: Params, config: Text, ids: T, tap: Tap) -> T:
    """Causal, so pads need no mask: they follow the token that is read."""
    positions = ops.positions(params["text.position.weight"], ids)
    x = ops.add(ops.embedding(params["text.token.weight"], ids), positions)
    tap("text_embeddings", x)
    x = _blocks(ops, params, "text", config, x, tap, hide="later")
    x = _norm(ops, params, "text.ln_final", x, config.eps)
    tap("text_final", x)
    x = ops.at_argmax(x, ids, None if config.pool == "largest-id" else config.eot)
    tap("text_pooled", x)
    return ops.linear(x, params["text.proj.weight"], None) if config.project else x


def _bert(ops: Ops, params: Params, config: Bert, ids: T, mask: T, tap: Tap) -> T:
    positions = ops.positions(params["text.position.weight"] + params["text.segment.weight"][:1], ids)
    x = ops.add(ops.embedding(params["text.token.weight"], ids), positions)
    x = _norm(ops, params, "text.ln_embed", x, config.eps)
    tap("text_embeddings", x)
    for i in range(config.depth):
        block = f"text.blocks.{i}"
        y = _attend(ops, params, f"{block}.attn", config, x, mask)
        x = _norm(ops, params, f"{block}.ln1", ops.add(x, y), config.eps)
        x = _norm(ops, params, f"{block}.ln2", ops.add(x, _mlp(ops, params, block, config, x)), config.eps)
        tap(f"text_block_{i}", x)
    x = ops.first(x, keep=False)
    if config.head != "project":
        x = ops.tanh(_linear(ops, params, "text.pooler", x))
    tap("text_pooled", x)
    return x if config.head == "pooler" else ops.linear(x, params["text.proj.weight"], params.get("text.proj.bias"))


def _vit(ops: Ops, params: Params, config: Vit, pixels: T, tap: Tap) -> T:
    x = ops.to_tokens(ops.conv(pixels, params["vision.patch.weight"], params.get("vision.patch.bias"), config.patch, 0))
    x = ops.prepend(params["vision.cls"].reshape(1, 1, -1), x)
    x = ops.add(x, params["vision.position.weight"][None])
    tap("image_embeddings", x)
    if config.pre_norm:
        x = _norm(ops, params, "vision.ln_pre", x, config.eps)
        tap("image_ln_pre", x)
    x = _blocks(ops, params, "vision", config, x, tap, hide="nothing")
    x = _norm(ops, params, "vision.ln_post", ops.first(x, keep=False), config.eps)
    tap("image_pooled", x)
    return ops.linear(x, params["vision.proj.weight"], None) if config.project else x


def _norm(ops: Ops, params: Params, name: str, x: T, eps: float) -> T:
    return ops.layer_norm(x, params[f"{name}.weight"], params[f"{name}.bias"], eps)


def _linear(ops: Ops, params: Params, name: str, x: T) -> T:
    return ops.linear(x, params[f"{name}.weight"], params[f"{name}.bias"])


def _attend(ops: Ops, params: Params, name: str, config: Encoder, x: T, hide: Hide) -> T:
    q, k, v = (ops.split_heads(_linear(ops, params, f"{name}.{n}", x), config.heads) for n in "qkv")
    return _linear(ops, params, f"{name}.out", ops.join_heads(ops.attention(q, k, v, hide)))


def _mlp(ops: Ops, params: Params, block: str, config: Encoder, x: T) -> T:
    y = ops.activation(_linear(ops, params, f"{block}.mlp.fc1", x), config.act)
    return _linear(ops, params, f"{block}.mlp.fc2", y)


def _blocks(ops: Ops, params: Params, tower: str, config: Encoder, x: T, tap: Tap, hide: Hide) -> T:
    """Pre-norm blocks."""
    stage = "image" if tower == "vision" else tower
    for i in range(config.depth):
        block = f"{tower}.blocks.{i}"
        y = _norm(ops, params, f"{block}.ln1", x, config.eps)
        x = ops.add(x, _attend(ops, params, f"{block}.attn", config, y, hide))
        y = _norm(ops, params, f"{block}.ln2", x, config.eps)
        x = ops.add(x, _mlp(ops, params, block, config, y))
        tap(f"{stage}_block_{i}", x)
    return x


BN_EPS = 1e-5


def _conv_bn(ops: Ops, params: Params, name: str, x: T, stride: int = 1) -> T:
    """Batch normalisation is linear in evaluation mode: fold it into the convolution."""
    weight = params[f"{name}.conv.weight"]
    scale = params[f"{name}.bn.weight"] / np.sqrt(params[f"{name}.bn.running_var"] + BN_EPS)
    shift = params[f"{name}.bn.bias"] - params[f"{name}.bn.running_mean"] * scale
    return ops.conv(x, weight * scale[:, None, None, None], shift, stride, weight.shape[-1] // 2)


def _resnet(ops: Ops, params: Params, config: ResNet, pixels: T, tap: Tap) -> T:
    x = ops.relu(_conv_bn(ops, params, "vision.stem1", pixels, stride=2))
    x = ops.relu(_conv_bn(ops, params, "vision.stem2", x))
    x = ops.avg_pool(ops.relu(_conv_bn(ops, params, "vision.stem3", x)), 2)
    tap("image_stem", x)
    for stage, blocks in enumerate(config.stages, start=1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            x = _bottleneck(ops, params, f"vision.stage{stage}.{block}", x, stride)
        tap(f"image_layer{stage}", x)
    x = ops.to_tokens(x)
    x = ops.add(ops.prepend(ops.mean_token(x), x), params["vision.pool.position.weight"][None])
    queries = ops.first(x, keep=True)
    q, k, v = (
        ops.split_heads(_linear(ops, params, f"vision.pool.{n}", y), config.heads)
        for n, y in (("q", queries), ("k", x), ("v", x))
    )
    x = ops.join_heads(ops.attention(q, k, v, "nothing"))
    return _linear(ops, params, "vision.pool.out", ops.first(x, keep=False))


def _bottleneck(ops: Ops, params: Params, name: str, x: T, stride: int) -> T:
    y = ops.relu(_conv_bn(ops, params, f"{name}.reduce", x))
    y = ops.relu(_conv_bn(ops, params, f"{name}.spatial", y))
    if stride > 1:
        x, y = ops.avg_pool(x, stride), ops.avg_pool(y, stride)
    if f"{name}.down.conv.weight" in params:
        x = _conv_bn(ops, params, f"{name}.down", x)
    return ops.relu(ops.add(_conv_bn(ops, params, f"{name}.expand", y), x))
