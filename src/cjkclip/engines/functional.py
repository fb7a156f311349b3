"""The towers as pure functions over a small Ops protocol. B batch, L tokens, D width, H heads, K head width.

This is the second definition of the arithmetic (the first is engines/torch) and their parity is a test. An engine
that executes it needs only an ops file: NumPy computes, OpenVINO's ops emit graph nodes.

A transformer's head reads one token. Where nobody asks for the stages, the last block computes that token alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from cjkclip.config import Act, Bert, Encoder, Model, ResNet, Text, TextTower, Vit

T = Any  # a tensor of whatever the ops compute with: an array, or a node of a graph
Params = Mapping[str, np.ndarray]
Tap = Callable[[str, T], None]  # is shown every stage by its name
Hide = Literal["nothing", "later"] | T  # for attention; a T is a mask (B, L), 1 = keep


@dataclass(frozen=True, kw_only=True)
class Read:
    """The one token that the head reads."""

    pick: Callable[[T], T]  # (B, L, D) -> (B, 1, D)
    hide: Hide  # from its attention


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
        """softmax(q k^T / sqrt(K)) v; q is (B, H, L or 1, K). `hide`: nothing, every later token, or a mask's 0."""
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

    def find(self, ids: T, value: int | None) -> T:
        """Where in (B, L) the first largest id is, or the first id equal to `value` (0 if there is none): (B)."""
        ...

    def row(self, x: T, index: T) -> T:
        """Token `index` of each text, (B, 1, D)."""
        ...

    def until(self, ids: T, index: T) -> T:
        """A mask like ids: 1 up to and including `index`."""
        ...


def image_tower(ops: Ops, params: Params, config: Model, pixels: T, tap: Tap | None = None) -> T:
    """Pixels (B, 3, S, S) to un-normalised image features (B, E). `tap` is shown the stages."""
    if isinstance(config.vision, Vit):
        x = _vit(ops, params, config.vision, pixels, tap)
    else:
        assert isinstance(config.vision, ResNet)
        x = _resnet(ops, params, config.vision, pixels, tap)
    _show(tap, "image_features", x)
    return x


def text_tower(ops: Ops, params: Params, config: TextTower, ids: T, mask: T, tap: Tap | None = None) -> T:
    """Ids and mask (B, L) to un-normalised text features (B, E). `tap` is shown the stages."""
    x = _bert(ops, params, config, ids, mask, tap) if isinstance(config, Bert) else _clip(ops, params, config, ids, tap)
    _show(tap, "text_features", x)
    return x


def _show(tap: Tap | None, stage: str, x: T) -> None:
    if tap is not None:
        tap(stage, x)


def _clip(ops: Ops, params: Params, config: Text, ids: T, tap: Tap | None) -> T:
    """Causal, so pads need no mask: they follow the token that is read."""
    positions = ops.positions(params["text.position.weight"], ids)
    x = ops.add(ops.embedding(params["text.token.weight"], ids), positions)
    _show(tap, "text_embeddings", x)
    end = ops.find(ids, None if config.pool == "largest-id" else config.eot)
    read = Read(pick=lambda x: ops.row(x, end), hide=ops.until(ids, end))
    x = _blocks(ops, params, "text", config, x, "later", read, tap)
    x = _norm(ops, params, "text.ln_final", x, config.eps)
    _show(tap, "text_final", x)
    x = ops.first(x if tap is None else read.pick(x), keep=False)
    _show(tap, "text_pooled", x)
    return ops.linear(x, params["text.proj.weight"], None) if config.project else x


def _bert(ops: Ops, params: Params, config: Bert, ids: T, mask: T, tap: Tap | None) -> T:
    positions = ops.positions(params["text.position.weight"] + params["text.segment.weight"][:1], ids)
    x = ops.add(ops.embedding(params["text.token.weight"], ids), positions)
    x = _norm(ops, params, "text.ln_embed", x, config.eps)
    _show(tap, "text_embeddings", x)
    for i in range(config.depth):
        block = f"text.blocks.{i}"
        asking = ops.first(x, keep=True) if tap is None and i == config.depth - 1 else x
        y = _attend(ops, params, f"{block}.attn", config.heads, asking, x, mask)
        x = _norm(ops, params, f"{block}.ln1", ops.add(asking, y), config.eps)
        x = _norm(ops, params, f"{block}.ln2", ops.add(x, _mlp(ops, params, block, config, x)), config.eps)
        _show(tap, f"text_block_{i}", x)
    x = ops.first(x, keep=False)
    if config.head != "project":
        x = ops.tanh(_linear(ops, params, "text.pooler", x))
    _show(tap, "text_pooled", x)
    return x if config.head == "pooler" else ops.linear(x, params["text.proj.weight"], params.get("text.proj.bias"))


def _vit(ops: Ops, params: Params, config: Vit, pixels: T, tap: Tap | None) -> T:
    x = ops.to_tokens(ops.conv(pixels, params["vision.patch.weight"], params.get("vision.patch.bias"), config.patch, 0))
    x = ops.prepend(params["vision.cls"].reshape(1, 1, -1), x)
    x = ops.add(x, params["vision.position.weight"][None])
    _show(tap, "image_embeddings", x)
    if config.pre_norm:
        x = _norm(ops, params, "vision.ln_pre", x, config.eps)
        _show(tap, "image_ln_pre", x)
    read = Read(pick=lambda x: ops.first(x, keep=True), hide="nothing")
    x = _blocks(ops, params, "vision", config, x, "nothing", read, tap)
    x = _norm(ops, params, "vision.ln_post", ops.first(x, keep=False), config.eps)
    _show(tap, "image_pooled", x)
    return ops.linear(x, params["vision.proj.weight"], None) if config.project else x


def _norm(ops: Ops, params: Params, name: str, x: T, eps: float) -> T:
    return ops.layer_norm(x, params[f"{name}.weight"], params[f"{name}.bias"], eps)


def _linear(ops: Ops, params: Params, name: str, x: T) -> T:
    return ops.linear(x, params[f"{name}.weight"], params[f"{name}.bias"])


def _attend(ops: Ops, params: Params, name: str, heads: int, asking: T, x: T, hide: Hide) -> T:
    """The tokens `asking` attend to the tokens of x."""
    q, k, v = (
        ops.split_heads(_linear(ops, params, f"{name}.{n}", y), heads) for n, y in (("q", asking), ("k", x), ("v", x))
    )
    return _linear(ops, params, f"{name}.out", ops.join_heads(ops.attention(q, k, v, hide)))


def _mlp(ops: Ops, params: Params, block: str, config: Encoder, x: T) -> T:
    y = ops.activation(_linear(ops, params, f"{block}.mlp.fc1", x), config.act)
    return _linear(ops, params, f"{block}.mlp.fc2", y)


def _blocks(ops: Ops, params: Params, tower: str, config: Encoder, x: T, hide: Hide, read: Read, tap: Tap | None) -> T:
    """Pre-norm blocks: (B, L, D), or (B, 1, D) for the token that is read if nobody taps."""
    stage = "image" if tower == "vision" else tower
    for i in range(config.depth):
        block = f"{tower}.blocks.{i}"
        asking = y = _norm(ops, params, f"{block}.ln1", x, config.eps)
        if tap is None and i == config.depth - 1:
            x, asking, hide = read.pick(x), read.pick(y), read.hide
        x = ops.add(x, _attend(ops, params, f"{block}.attn", config.heads, asking, y, hide))
        y = _norm(ops, params, f"{block}.ln2", x, config.eps)
        x = ops.add(x, _mlp(ops, params, block, config, y))
        _show(tap, f"{stage}_block_{i}", x)
    return x


BN_EPS = 1e-5


def _conv_bn(ops: Ops, params: Params, name: str, x: T, stride: int = 1) -> T:
    """Batch normalisation is linear in evaluation mode: fold it into the convolution."""
    weight = params[f"{name}.conv.weight"]
    scale = params[f"{name}.bn.weight"] / np.sqrt(params[f"{name}.bn.running_var"] + BN_EPS)
    shift = params[f"{name}.bn.bias"] - params[f"{name}.bn.running_mean"] * scale
    return ops.conv(x, weight * scale[:, None, None, None], shift, stride, weight.shape[-1] // 2)


def _resnet(ops: Ops, params: Params, config: ResNet, pixels: T, tap: Tap | None) -> T:
    x = ops.relu(_conv_bn(ops, params, "vision.stem1", pixels, stride=2))
    x = ops.relu(_conv_bn(ops, params, "vision.stem2", x))
    x = ops.avg_pool(ops.relu(_conv_bn(ops, params, "vision.stem3", x)), 2)
    _show(tap, "image_stem", x)
    for stage, blocks in enumerate(config.stages, start=1):
        for block in range(blocks):
            stride = 2 if stage > 1 and block == 0 else 1
            x = _bottleneck(ops, params, f"vision.stage{stage}.{block}", x, stride)
        _show(tap, f"image_layer{stage}", x)
    x = ops.to_tokens(x)
    x = ops.add(ops.prepend(ops.mean_token(x), x), params["vision.pool.position.weight"][None])
    x = _attend(ops, params, "vision.pool", config.heads, ops.first(x, keep=True), x, "nothing")
    return ops.first(x, keep=False)


def _bottleneck(ops: Ops, params: Params, name: str, x: T, stride: int) -> T:
    y = ops.relu(_conv_bn(ops, params, f"{name}.reduce", x))
    y = ops.relu(_conv_bn(ops, params, f"{name}.spatial", y))
    if stride > 1:
        x, y = ops.avg_pool(x, stride), ops.avg_pool(y, stride)
    if f"{name}.down.conv.weight" in params:
        x = _conv_bn(ops, params, f"{name}.down", x)
    return ops.relu(ops.add(_conv_bn(ops, params, f"{name}.expand", y), x))
