"""The OpenVINO engine: its ops emit graph nodes, so that a graph is built from NumPy weights without torch.

Graphs have a dynamic batch size and, for text, a dynamic length. Graphs of large models are cached without weights.
"""

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from cjkclip.config import Act, Model
from cjkclip.engines import Features, Ids, Params, Pixels, Stages
from cjkclip.engines.floats import Floats
from cjkclip.engines.functional import Hide, image_tower, text_tower
from cjkclip.engines.openvino.kept import CachedGraph
from cjkclip.engines.openvino.runtime import (
    NO_MEMORY,
    Node,
    compile_graph,
    computes_bf16,
    fast,
    in_memory,
    machine,
    op,
    ov,
)
from cjkclip.errors import EngineError
from cjkclip.machine.forks import Lock
from cjkclip.machine.memory import short_of_memory
from cjkclip.machine.threads import on_every_core

__all__ = ["OpenvinoEngine", "OpenvinoOps", "build", "fast", "machine"]

Compiled = tuple[ov.CompiledModel, list[str]]  # a graph and the names of its outputs


def _ints(*values: int) -> Node:
    return op.constant(np.array(values, dtype=np.int64))


def _index(value: int) -> Node:
    """Return an index of rank 0, which removes the axis that it selects from; rank 1 would keep the axis."""
    return op.constant(np.array(value, dtype=np.int64))


class OpenvinoOps:
    """Operations that emit nodes. `functional.Ops` defines each of them.

    `name_of` returns the name of a parameter's array, if it knows one. A matrix product is named like the layer of its
    weight; convolutions are numbered. A node in `stored` replaces the array of the parameter with that name.
    """

    def __init__(
        self, name_of: Callable[[np.ndarray], str | None] = lambda _: None, stored: Mapping[str, Node] | None = None
    ) -> None:
        self._name_of, self._convs = name_of, 0
        self._stored, self.used = stored or {}, set[str]()

    def _weight(self, array: np.ndarray) -> Node:
        """Return a constant that shares the array's memory: nothing is copied before the graph is compiled.

        The array has to live as long as the graph that uses it; `Floats` holds the arrays that it returns.
        """
        name = self._name_of(array)
        if name is not None and name in self._stored:
            self.used.add(name)
            return self._stored[name]
        if array.flags.writeable:
            return op.constant(array, shared_memory=True)
        return op.constant(in_memory(array, ov.Type.f32), shared_memory=True)

    def add(self, a: Node, b: Node | np.ndarray) -> Node:
        return op.add(a, b)

    def linear(self, x: Node, weight: np.ndarray, bias: np.ndarray | None) -> Node:
        name = self._name_of(weight)
        y = op.matmul(x, self._weight(weight), False, True, name=name and name.removesuffix(".weight"))
        return y if bias is None else op.add(y, bias)

    def layer_norm(self, x: Node, weight: np.ndarray, bias: np.ndarray, eps: float) -> Node:
        x = op.mvn(x, _ints(-1), True, eps, "inside_sqrt")
        return op.add(op.multiply(x, weight), bias)

    def attention(self, q: Node, k: Node, v: Node, hide: Hide) -> Node:
        if isinstance(hide, str):
            return op.scaled_dot_product_attention(q, k, v, causal=hide == "later")
        keep = op.convert(op.unsqueeze(hide, _ints(1, 2)), "boolean")  # B 1 1 L
        return op.scaled_dot_product_attention(q, k, v, attention_mask=keep)

    def split_heads(self, x: Node, heads: int) -> Node:
        width = x.output(0).get_partial_shape()[2].get_length()
        x = op.reshape(x, _ints(0, 0, heads, width // heads), True)
        return op.transpose(x, _ints(0, 2, 1, 3))

    def join_heads(self, x: Node) -> Node:
        shape = x.output(0).get_partial_shape()
        x = op.transpose(x, _ints(0, 2, 1, 3))
        return op.reshape(x, _ints(0, 0, shape[1].get_length() * shape[3].get_length()), True)

    def activation(self, x: Node, act: Act) -> Node:
        return op.swish(x, np.float32(1.702)) if act == "quick_gelu" else op.gelu(x, "erf")

    def relu(self, x: Node) -> Node:
        return op.relu(x)

    def tanh(self, x: Node) -> Node:
        return op.tanh(x)

    def embedding(self, table: np.ndarray, ids: Node) -> Node:
        return op.gather(self._weight(table), ids, _index(0))

    def positions(self, table: np.ndarray, ids: Node) -> Node:
        return op.slice(table, _ints(0), _length(ids), _ints(1), _ints(0))

    def conv(self, x: Node, weight: np.ndarray, bias: np.ndarray | None, stride: int, pad: int) -> Node:
        self._convs += 1
        y = op.convolution(
            x, self._weight(weight), [stride] * 2, [pad] * 2, [pad] * 2, [1, 1], name=f"conv.{self._convs}"
        )
        return y if bias is None else op.add(y, bias.reshape(1, -1, 1, 1))

    def avg_pool(self, x: Node, size: int) -> Node:
        return op.avg_pool(x, [size] * 2, [0, 0], [0, 0], [size] * 2, True)

    def to_tokens(self, x: Node) -> Node:
        channels = x.output(0).get_partial_shape()[1].get_length()
        return op.transpose(op.reshape(x, _ints(0, channels, -1), True), _ints(0, 2, 1))

    def mean_token(self, x: Node) -> Node:
        return op.reduce_mean(x, _ints(1), True)

    def prepend(self, first: Node | np.ndarray, x: Node) -> Node:
        if isinstance(first, np.ndarray):
            batch = op.gather(op.shape_of(x), _ints(0), _index(0))
            first = op.broadcast(first, op.concat([batch, np.array(first.shape[1:], np.int64)], 0))
        return op.concat([first, x], 1)

    def first(self, x: Node, keep: bool) -> Node:
        return op.gather(x, _ints(0) if keep else _index(0), _index(1))

    def find(self, ids: Node, value: int | None) -> Node:
        target = op.reduce_max(ids, _ints(1), True) if value is None else _index(value)
        hits = op.convert(op.equal(ids, target), "i64")
        before = op.equal(op.cum_sum(hits, _index(1)), _index(0))  # positions before the first hit
        index = op.reduce_sum(op.convert(before, "i64"), _ints(1), False)
        return op.floor_mod(index, _length(ids))  # without a hit the index is L: return 0

    def row(self, x: Node, index: Node) -> Node:
        return op.gather(x, op.unsqueeze(index, _ints(1)), _index(1), 1)

    def until(self, ids: Node, index: Node) -> Node:
        positions = op.range(_index(0), op.squeeze(_length(ids), _ints(0)), _index(1), "i64")
        return op.convert(op.less_equal(positions, op.unsqueeze(index, _ints(1))), "i64")


class OpenvinoEngine:
    """Compile one graph per tower at its first use. Threads take turns, since one call uses every core anyway."""

    name, device = "openvino", "cpu"

    def __init__(self, config: Model, params: Params, precision: str) -> None:
        self.precision = precision
        self._config = config
        self._params = Floats(params)
        self._compiled: dict[tuple[str, bool], Compiled] = {}
        self._turn = Lock()  # a compiled graph has a single set of buffers

    def prepare(self) -> None:
        """Compile both towers at the same time: each takes half a second of one core."""

        def compiled(key: tuple[str, bool]) -> Compiled:
            return self.compiled(key[0], stages=key[1])

        towers = {"image": self._config.vision, "text": self._config.text}
        with self._turn, short_of_memory(*NO_MEMORY):
            missing = [(t, False) for t, config in towers.items() if config and (t, False) not in self._compiled]
            if len(missing) < 2:
                return
            self._compiled |= zip(missing, on_every_core(compiled, missing, "cjkclip-compile"), strict=True)

    def image(self, pixels: Pixels) -> Features:
        return self._run("image", pixels, stages=False)["image_features"]

    def text(self, ids: Ids, mask: Ids) -> Features:
        return self._run("text", ids, mask, stages=False)["text_features"]

    def image_stages(self, pixels: Pixels) -> Stages:
        return self._run("image", pixels, stages=True)

    def text_stages(self, ids: Ids, mask: Ids) -> Stages:
        return self._run("text", ids, mask, stages=True)

    def _run(self, tower: str, *inputs: np.ndarray, stages: bool) -> Stages:
        with self._turn, short_of_memory(*NO_MEMORY):
            return self._answer(tower, inputs, stages)

    def _answer(self, tower: str, inputs: tuple[np.ndarray, ...], stages: bool) -> Stages:
        key, arrays = (tower, stages), [np.ascontiguousarray(array) for array in inputs]
        if key not in self._compiled:
            self._compiled[key] = self.compiled(tower, stages=stages)
        return self._outputs(key, arrays)

    def _outputs(self, key: tuple[str, bool], arrays: list[np.ndarray]) -> Stages:
        compiled, names = self._compiled[key]
        try:
            outputs = compiled(arrays)
        except (RuntimeError, MemoryError):
            self._compiled.pop(key, None)  # after a failed allocation a graph returns wrong numbers
            raise
        return {name: np.array(outputs[index], dtype=np.float32) for index, name in enumerate(names)}

    def compiled(self, tower: str, *, stages: bool) -> Compiled:
        """Read the tower's graph from the cache, or compile it."""
        cached = None if stages else CachedGraph.of(self._config, self._params, tower, self.precision)
        compiled = cached and cached.read()
        if compiled is not None:
            return compiled, [f"{tower}_features"]
        graph, names = self.graph(tower, stages, cached.nodes() if cached else None)
        return (cached.compiled(graph) if cached else compile_graph(graph, self.precision)), names

    def graph(self, tower: str, stages: bool, stored: Mapping[str, Node] | None = None) -> tuple[ov.Model, list[str]]:
        """Build the tower ("image" or "text") as an OpenVINO model, and name its outputs: the features, or every stage.

        stored: nodes that replace parameters.
        """
        outputs: dict[str, Node] = {}
        params = self._params.copy()  # it records which arrays it returned, and another thread may use the original
        tap, ops = outputs.__setitem__ if stages else None, OpenvinoOps(params.name_of, stored)
        if tower == "image":
            assert self._config.vision is not None
            size = self._config.vision.image_size
            inputs = [op.parameter([-1, 3, size, size], np.float32, "pixels")]
            features = image_tower(ops, params, self._config, inputs[0], tap)
        else:
            assert self._config.text is not None
            inputs = [op.parameter([-1, -1], np.int64, name) for name in ("ids", "mask")]
            features = text_tower(ops, params, self._config.text, inputs[0], inputs[1], tap)
        assert ops.used == params.names_read & set(stored or {}), (
            "a cached graph would contain a weight that is not in its key"
        )
        outputs[f"{tower}_features"] = features
        results = [op.result(node) for node in outputs.values()]
        graph = cast(Any, ov.Model)(results, inputs, f"cjkclip_{tower}")  # its stub lacks this constructor
        return graph, list(outputs)


def build(config: Model, params: Params, precision: str, device: str) -> OpenvinoEngine:
    """Build the engine; it compiles towers later. Raises EngineError if OpenVINO would replace bf16 by float32 here."""
    assert device == "cpu"
    if precision == "bf16" and not computes_bf16():
        raise EngineError(
            "precision 'bf16' is not available: on this processor OpenVINO would compute in float32 instead. "
            "Use load(..., precision='auto'), which chooses bf16 where it is faster, or precision='fp32'"
        )
    return OpenvinoEngine(config, params, precision)


def _length(ids: Node) -> Node:
    return op.gather(op.shape_of(ids), _ints(1), _index(0))
