"""int8 graphs for OpenVINO, quantised by NNCF; the error of each layer; the engine that runs them.

Calibration measures the range of the inputs of every quantised layer, so it needs inputs like those of later use.
SmoothQuant moves outliers from activations to weights, and a bias correction follows. On processors whose sums of
products overflow, weights keep 7 of their 8 bits. NNCF is the extra `int8`. The engine has no stages, since the last
block of a quantised graph computes only the token that the head reads.
"""

import functools
import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from cjkclip.config import Model
from cjkclip.engines import Params
from cjkclip.engines.openvino.kept import compile_and_cache, read_cached
from cjkclip.engines.openvino.nncf import quantised
from cjkclip.engines.openvino.ops import Compiled, OpenvinoEngine
from cjkclip.engines.openvino.runtime import Node, compile_graph, fast, hints, op, ov, simd
from cjkclip.errors import EngineError
from cjkclip.machine.mapped import MappedFile
from cjkclip.need import need

Sample = list[np.ndarray]  # one call's inputs
_LINEAR = ("MatMul", "Convolution")


def quantise(graph: ov.Model, samples: Sequence[Sample], keep: Sequence[str] = ()) -> ov.Model:
    """Quantise the matrix products and convolutions of a graph to int8, except the layers in `keep`."""
    if importlib.util.find_spec("nncf") is None:
        need("nncf", extra="int8")  # raises MissingDependencyError
    return quantised(graph, samples, keep, overflow_fix=overflows())


@functools.cache
def overflows() -> bool:
    """Whether sums of int8 products overflow on this processor, tested with one small product of the largest numbers.

    An x86 without VNNI adds two products of 8-bit numbers in 16 bits, which cannot hold 2 x 255 x 127, and saturates
    at 32,767 without an error. The same graph is then correct on one machine and wrong on another.
    """

    def number(value: float) -> Node:
        return op.constant(np.array([value], np.float32))

    count, most, weight = 64, 255, 127
    x = op.parameter([1, count], np.float32)
    low, high = number(0), number(most)
    weights = op.convert(op.constant(np.full((count, count), weight, np.int8)), "f32")
    weights = op.multiply(weights, op.constant(np.ones((count, 1), np.float32)))  # scales, as NNCF writes them
    y = op.matmul(op.fake_quantize(x, low, high, low, high, most + 1), weights, False, True)
    graph = cast(Any, ov.Model)([y], [x], "largest")
    sums = compile_graph(graph, "fp32")([np.full((1, count), most, np.float32)])[0]
    return bool(np.any(sums < count * most * weight))


def worst_layers(graph: ov.Model, quantised: ov.Model, samples: Sequence[Sample], count: int) -> list[str]:
    """Return the `count` layers at which the relative error grows most, compared with the layer before."""
    names = [node.get_friendly_name() for node in graph.get_ordered_ops() if node.get_type_name() in _LINEAR]
    exact, rough = _outputs(graph, names, samples), _outputs(quantised, names, samples)
    errors = [
        float(np.linalg.norm(a - b) / max(float(np.linalg.norm(a)), 1e-30)) for a, b in zip(exact, rough, strict=True)
    ]
    growth = {name: now - before for name, before, now in zip(names, [0.0, *errors[:-1]], errors, strict=True)}
    return sorted(names, key=lambda name: -growth[name])[:count]


def _outputs(graph: ov.Model, names: Sequence[str], samples: Sequence[Sample]) -> list[np.ndarray]:
    """Return the output of each layer in `names`, with all samples in one flat array."""
    tapped: Any = graph.clone()
    tapped.add_outputs([(name, 0) for name in names])  # a layer that is an output already remains one
    sources = [output.get_node().input_value(0).get_node().get_friendly_name() for output in tapped.outputs]
    places = [sources.index(name) for name in names]
    compiled = compile_graph(tapped, "fp32")
    rows = [[np.ravel(compiled(sample)[place]) for place in places] for sample in samples]
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


@dataclass(frozen=True, kw_only=True, eq=False)
class OnDisk:
    """The files of a quantised graph, as `openvino.save_model` wrote them, and the digest of all their bytes."""

    graph: Path
    weights: MappedFile  # mapped before the digest was computed
    digest: str

    def compiled(self, graph: ov.Model, precision: str) -> ov.CompiledModel:
        """Compile the graph, or read the compiled graph of an earlier start, which is cached beside its files."""
        facts = self.digest, sorted(hints(precision).items()), sorted(simd())
        key = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
        record = self.graph.with_name(f"{key}.{self.graph.stem}-blob")
        compiled = read_cached(record, precision, self.weights.path) if self.weights.unchanged() else None
        if compiled is None and not self.graph.exists():  # the cache was deleted meanwhile
            return compile_graph(graph, precision)
        return compiled or compile_and_cache(graph, precision, record, most=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantised:
    """The quantised graphs of a model by tower, their layers that are not int8, and the results of judging them."""

    graphs: Mapping[str, ov.Model]
    layers: Sequence[str] = ()
    judged: Mapping[str, float] = field(default_factory=dict[str, float])
    places: Mapping[str, OnDisk] = field(default_factory=dict[str, OnDisk])  # of graphs read from disk


class Int8Engine(OpenvinoEngine):
    """Run quantised graphs; operations that are not int8 compute in bf16 if the hardware supports it, else in fp32."""

    def __init__(self, config: Model, params: Params, quantised: Quantised) -> None:
        super().__init__(config, params, "int8")
        self._quantised = quantised
        self.kept = tuple(quantised.layers)
        self.judged = dict(quantised.judged)

    def compiled(self, tower: str, *, stages: bool) -> Compiled:
        """Compile the quantised graph of a tower. Raises EngineError for stages."""
        if stages:
            raise EngineError(
                "precision 'int8' has no stages, other precisions have them: use load(..., precision='fp32')"
            )
        graph, place = self._quantised.graphs[tower], self._quantised.places.get(tower)
        precision = fast(self.device) or "fp32"
        compiled = place.compiled(graph, precision) if place else compile_graph(graph, precision)
        return compiled, [f"{tower}_features"]
