"""The towers as pure functions over a small Ops protocol. B batch, L tokens, D width, H heads, K head width.

engines/torch defines the same arithmetic independently, and tests compare the two: a mistake in a single definition
would agree with itself in every engine. An engine that uses this one needs only an ops file: NumPy's ops compute,
OpenVINO's emit graph nodes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from cjkclip.config import Act, Bert, Encoder, Model, PooledVit, ResNet, Text, TextTower, Vit

T = Any  # a tensor of the ops: an array, or a node of a graph
Params = Mapping[str, np.ndarray]
Tap = Callable[[str, T], None]  # receives the name and the tensor of every stage
Hide = Literal["nothing", "later"] | T  # tokens that attention ignores; a T is a mask (B, L), 0 = ignore


@dataclass(frozen=True, kw_only=True)
class Read:
    """How to select the one token that the head reads."""

    pick: Callable[[T], T]  # (B, L, D) -> (B, 1, D)
    hide: Hide  # tokens that its attention ignores


@runtime_checkable
class Ops(Protocol):
    """The operations of a tower. Weights are arrays; every other tensor is a T."""

    def add(self, a: T, b: T | np.ndarray) -> T:
        """Return a + b with broadcasting."""
        ...

    def linear(self, x: T, weight: np.ndarray, bias: np.ndarray | None) -> T:
        """Return x @ weight.T + bias; weight is (out, in)."""
        ...

    def layer_norm(self, x: T, weight: np.ndarray, bias: np.ndarray, eps: float) -> T:
        """Normalise over the last axis; the variance has no Bessel's correction."""
        ...

    def attention(self, q: T, k: T, v: T, hide: Hide) -> T:
        """Return softmax(q k^T / sqrt(K)) v; q is (B, H, L or 1, K). `hide`: no token, later tokens, or mask == 0."""
        ...

    def split_heads(self, x: T, heads: int) -> T:
        """Reshape (B, L, D) to (B, H, L, K)."""
        ...

    def join_heads(self, x: T) -> T:
        """Reshape (B, H, L, K) to (B, L, D)."""
        ...

    def activation(self, x: T, act: Act) -> T:
        """Apply gelu in its exact form, or quick_gelu."""
        ...

    def relu(self, x: T) -> T:
        """Return max(x, 0)."""
        ...

    def tanh(self, x: T) -> T:
        """Return the hyperbolic tangent."""
        ...

    def embedding(self, table: np.ndarray, ids: T) -> T:
        """Return the rows of a table at ids."""
        ...

    def positions(self, table: np.ndarray, ids: T) -> T:
        """Return the first L rows of a position table; L is the length of ids."""
        ...

    def conv(self, x: T, weight: np.ndarray, bias: np.ndarray | None, stride: int, pad: int) -> T:
        """Convolve (B, C, h, w); weight is (out, in, k, k), bias (out)."""
        ...

    def avg_pool(self, x: T, size: int) -> T:
        """Average windows of size x size, with stride = size."""
        ...

    def to_tokens(self, x: T) -> T:
        """Reshape (B, D, h, w) to (B, h w, D), row by row."""
        ...

    def mean_token(self, x: T) -> T:
        """Average (B, L, D) over L to (B, 1, D)."""
        ...

    def prepend(self, first: T | np.ndarray, x: T) -> T:
        """Concatenate (1 or B, 1, D) and (B, L, D) along L."""
        ...

    def first(self, x: T, keep: bool) -> T:
        """Return token 0: (B, D), or (B, 1, D) if `keep`."""
        ...

    def find(self, ids: T, value: int | None) -> T:
        """Return the index (B) of the first id equal to `value` (0 if none is), or of the first largest id if None."""
        ...

    def row(self, x: T, index: T) -> T:
        """Return token `index` of each text, (B, 1, D)."""
        ...

    def until(self, ids: T, index: T) -> T:
        """Return a mask of the shape of ids: 1 up to and including `index`."""
        ...


def image_tower(ops: Ops, params: Params, config: Model, pixels: T, tap: Tap | None = None) -> T:
    """Compute un-normalised image features (B, E) of pixels (B, 3, S, S). `tap` receives the stages."""
    if isinstance(config.vision, Vit):
        x = _vit(ops, params, config.vision, pixels, tap)
    else:
        assert isinstance(config.vision, ResNet)
        x = _resnet(ops, params, config.vision, pixels, tap)
    _show(tap, "image_features", x)
    return x


def text_tower(ops: Ops, params: Params, config: TextTower, ids: T, mask: T, tap: Tap | None = None) -> T:
    """Compute un-normalised text features (B, E) of ids and mask (B, L). `tap` receives the stages."""
    x = _bert(ops, params, config, ids, mask, tap) if isinstance(config, Bert) else _clip(ops, params, config, ids, tap)
    _show(tap, "text_features", x)
    return x


def _show(tap: Tap | None, stage: str, x: T) -> None:
    if tap is not None:
        tap(stage, x)


def _clip(ops: Ops, params: Params, config: Text, ids: T, tap: Tap | None) -> T:
    """Causal transformer. Padding needs no mask, since it follows the token that the head reads."""
    positions = ops.positions(params["text.position.weight"], ids)
    x = ops.add(ops.embedding(params["text.token.weight"], ids), positions)
    _show(tap, "text_embeddings", x)
    end = ops.find(ids, None if config.pool == "largest-id" else config.eot)
    # "later" compares positions of rows with positions of columns, and the picked query is row 0 of 1. So the last
    # block gets the same causal limit as a mask: every token up to the one that is read.
    read = Read(pick=lambda x: ops.row(x, end), hide=ops.until(ids, end))
    x = _blocks(ops, params, "text", config, x, "later", read, tap)
    x = _norm(ops, params, "text.ln_final", x, config.eps)
    _show(tap, "text_final", x)
    x = ops.first(x if tap is None else read.pick(x), keep=False)
    _show(tap, "text_pooled", x)
    return ops.linear(x, params["text.proj.weight"], None) if config.project else x


def _bert(ops: Ops, params: Params, config: Bert, ids: T, mask: T, tap: Tap | None) -> T:
    # Every text is one segment, so the row of segment 0 is added to the table once, not to every token.
    table = params["text.position.weight"][config.start :] + params["text.segment.weight"][:1]
    positions = ops.positions(table, ids)
    x = ops.add(ops.embedding(params["text.token.weight"], ids), positions)
    x = _norm(ops, params, "text.ln_embed", x, config.eps)
    _show(tap, "text_embeddings", x)
    for i in range(config.depth):
        block = f"text.blocks.{i}"
        queries = ops.first(x, keep=True) if tap is None and i == config.depth - 1 else x  # as in _blocks
        y = _attend(ops, params, f"{block}.attn", config.heads, queries, x, mask)
        x = _norm(ops, params, f"{block}.ln1", ops.add(queries, y), config.eps)
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
    if isinstance(config, PooledVit):
        x = ops.tanh(_linear(ops, params, "vision.pooler", x))
    return ops.linear(x, params["vision.proj.weight"], None) if config.project else x


def _norm(ops: Ops, params: Params, name: str, x: T, eps: float) -> T:
    return ops.layer_norm(x, params[f"{name}.weight"], params[f"{name}.bias"], eps)


def _linear(ops: Ops, params: Params, name: str, x: T) -> T:
    return ops.linear(x, params[f"{name}.weight"], params[f"{name}.bias"])


def _attend(ops: Ops, params: Params, name: str, heads: int, queries: T, x: T, hide: Hide) -> T:
    """Attention in which the tokens `queries` attend to the tokens of x."""
    q, k, v = (
        ops.split_heads(_linear(ops, params, f"{name}.{n}", y), heads) for n, y in (("q", queries), ("k", x), ("v", x))
    )
    return _linear(ops, params, f"{name}.out", ops.join_heads(ops.attention(q, k, v, hide)))


def _mlp(ops: Ops, params: Params, block: str, config: Encoder, x: T) -> T:
    y = ops.activation(_linear(ops, params, f"{block}.mlp.fc1", x), config.act)
    return _linear(ops, params, f"{block}.mlp.fc2", y)


def _blocks(ops: Ops, params: Params, tower: str, config: Encoder, x: T, hide: Hide, read: Read, tap: Tap | None) -> T:
    """Pre-norm blocks: (B, L, D), or without a tap (B, 1, D), the token that the head reads."""
    stage = "image" if tower == "vision" else tower
    for i in range(config.depth):
        block = f"{tower}.blocks.{i}"
        queries = y = _norm(ops, params, f"{block}.ln1", x, config.eps)
        # The head reads one token, so the last block needs one query, residual and MLP row; keys and values still
        # come from all tokens. A tap compares the whole block with the original's, so it gets every token.
        if tap is None and i == config.depth - 1:
            x, queries, hide = read.pick(x), read.pick(y), read.hide
        x = ops.add(x, _attend(ops, params, f"{block}.attn", config.heads, queries, y, hide))
        y = _norm(ops, params, f"{block}.ln2", x, config.eps)
        x = ops.add(x, _mlp(ops, params, block, config, y))
        _show(tap, f"{stage}_block_{i}", x)
    return x


BN_EPS = 1e-5


def _conv_bn(ops: Ops, params: Params, name: str, x: T, stride: int = 1) -> T:
    """Convolution with batch normalisation folded into it, which is possible since in evaluation mode it is linear."""
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
