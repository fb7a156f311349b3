"""int8 graphs for OpenVINO, made by NNCF: what is quantised, how far each layer is off, an engine that runs them.

Calibration gives every quantised layer the range of its inputs, so it has to see inputs like those to come. SmoothQuant
moves outliers from activations to weights, and a bias correction follows. Where the processor's sums of products
overflow, weights keep 7 of their 8 bits. NNCF is the extra `int8`. Refuses: stages, since a quantised graph keeps the
pooled row of its last block alone.
"""

import contextlib
import functools
import hashlib
import io
import logging
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np

from cjkclip.config import Model
from cjkclip.engines import Params
from cjkclip.engines.openvino.kept import compile_and_keep, read_kept
from cjkclip.engines.openvino.ops import Compiled, OpenvinoEngine
from cjkclip.engines.openvino.runtime import Node, compile_graph, fast, hints, op, ov, simd
from cjkclip.errors import EngineError
from cjkclip.machine.mapped import MappedFile
from cjkclip.need import need

Sample = list[np.ndarray]  # one call's inputs
_LINEAR = ("MatMul", "Convolution")


def quantise(graph: ov.Model, samples: Sequence[Sample], keep: Sequence[str] = ()) -> ov.Model:
    """A graph whose matrix products and convolutions are int8, but for the layers in `keep`."""
    nncf: Any = need("nncf", extra="int8")
    fix = nncf.OverflowFix.ENABLE if overflows() else None
    with _quiet(nncf):
        return nncf.quantize(
            graph,
            nncf.Dataset(list(samples)),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(samples),
            ignored_scope=nncf.IgnoredScope(names=list(keep)) if keep else None,
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=fix),
        )


@functools.cache
def overflows() -> bool:
    """Does this processor cut sums of int8 products? One small product of the largest numbers tells.

    An x86 without VNNI adds two products of 8 bits in 16, where 2 x 255 x 127 has no place, and stops at 32,767
    without a sign. The same graph is then right on one machine and wrong on another.
    """

    def number(value: float) -> Node:
        return op.constant(np.array([value], np.float32))

    count, most, weight = 64, 255, 127
    x = op.parameter([1, count], np.float32)
    low, high = number(0), number(most)
    weights = op.convert(op.constant(np.full((count, count), weight, np.int8)), "f32")
    weights = op.multiply(weights, op.constant(np.ones((count, 1), np.float32)))  # scales, as NNCF has them
    y = op.matmul(op.fake_quantize(x, low, high, low, high, most + 1), weights, False, True)
    graph = cast(Any, ov.Model)([y], [x], "largest")
    sums = compile_graph(graph, "fp32")([np.full((1, count), most, np.float32)])[0]
    return bool(np.any(sums < count * most * weight))


def worst_layers(graph: ov.Model, quantised: ov.Model, samples: Sequence[Sample], count: int) -> list[str]:
    """The layers that add most to the error: their output is relatively further off than that of the layer before."""
    names = [node.get_friendly_name() for node in graph.get_ordered_ops() if node.get_type_name() in _LINEAR]
    exact, rough = _outputs(graph, names, samples), _outputs(quantised, names, samples)
    off = [
        float(np.linalg.norm(a - b) / max(float(np.linalg.norm(a)), 1e-30)) for a, b in zip(exact, rough, strict=True)
    ]
    growth = {name: now - before for name, before, now in zip(names, [0.0, *off[:-1]], off, strict=True)}
    return sorted(names, key=lambda name: -growth[name])[:count]


def _outputs(graph: ov.Model, names: Sequence[str], samples: Sequence[Sample]) -> list[np.ndarray]:
    """What the named layers give, all samples in one row."""
    tapped: Any = graph.clone()
    tapped.add_outputs([(name, 0) for name in names])  # one that is an output already stays one
    made_by = [output.get_node().input_value(0).get_node().get_friendly_name() for output in tapped.outputs]
    places = [made_by.index(name) for name in names]
    compiled = compile_graph(tapped, "fp32")
    rows = [[np.ravel(compiled(sample)[place]) for place in places] for sample in samples]
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


@dataclass(frozen=True, kw_only=True, eq=False)
class OnDisk:
    """A quantised graph's place, as `openvino.save_model` wrote it, and the digest of every byte there."""

    graph: Path
    weights: MappedFile  # mapped before they were digested
    digest: str

    def compiled(self, graph: ov.Model, precision: str) -> ov.CompiledModel:
        """The graph, read from here, made ready to run; what makes it ready is kept beside it for the next time."""
        facts = self.digest, sorted(hints(precision).items()), sorted(simd())
        key = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
        record = self.graph.with_name(f"{key}.{self.graph.stem}-blob")
        found = read_kept(record, precision, self.weights.path) if self.weights.unchanged() else None
        if found is None and not self.graph.exists():  # the cache was emptied meanwhile
            return compile_graph(graph, precision)
        return found or compile_and_keep(graph, precision, record, most=1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantised:
    """A model's graphs by tower, the layers in them that are not int8, and what the gate measured."""

    graphs: Mapping[str, ov.Model]
    layers: Sequence[str] = ()
    judged: Mapping[str, float] = field(default_factory=dict[str, float])
    places: Mapping[str, OnDisk] = field(default_factory=dict[str, OnDisk])  # of graphs that were read from disk


class Int8Engine(OpenvinoEngine):
    """Runs graphs that were quantised before; what is not int8 is bf16 where the hardware has it."""

    def __init__(self, config: Model, params: Params, quantised: Quantised) -> None:
        super().__init__(config, params, "int8")
        self._quantised = quantised
        self.kept = tuple(quantised.layers)
        self.judged = dict(quantised.judged)

    def compiled(self, tower: str, *, stages: bool) -> Compiled:
        """The quantised graph. Raises EngineError for stages."""
        if stages:
            raise EngineError("precision 'int8' keeps no stages: ask an engine of precision 'fp32' for them")
        graph, place = self._quantised.graphs[tower], self._quantised.places.get(tower)
        precision = fast(self.device) or "fp32"
        compiled = place.compiled(graph, precision) if place else compile_graph(graph, precision)
        return compiled, [f"{tower}_features"]


@contextlib.contextmanager
def _quiet(nncf: Any) -> Generator[None]:
    """NNCF prints bars and notes to standard output, which belongs to the answer of a command."""
    nncf.set_log_level(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
