"""Compiled graphs on disk, without their weights, which are read from the model's own file.

OpenVINO leaves a constant out of what it exports if the constant came from a file of weights, and looks for it there
when the graph is read back. So the large weights of a tower become such constants: their places in the checkpoint are
written in OpenVINO's own form of a model (IR). What a kept graph holds besides them is part of its key, every byte, so
that it cannot be another model's. Those in 16 bits stay so until they are packed, and a second copy is never made.

Refuses, by giving None: towers with little in one mapped file, or too much besides; a file that was changed.
"""

import functools
import hashlib
import pkgutil
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cjkclip.config import Model
from cjkclip.engines import Params
from cjkclip.engines.floats import Floats
from cjkclip.engines.openvino.runtime import Node, core, hints, in_memory, machine, ov, simd
from cjkclip.fingerprint import ends
from cjkclip.machine import cache
from cjkclip.machine.mapped import MappedFile, bytes_of, offset, root

LEAST = 4 << 20  # bytes of a tower in the file, below which a start is short anyway
MOST = 16 << 20  # bytes beside the file
MOST_GRAPHS = 32  # files kept
WIDE = "float32"
# what is multiplied or looked up as it is, and by nothing but OpenvinoOps._weight
_WHOLE = re.compile(
    r"(text\.token|text\.pooler|(text|vision)\.proj|vision\.patch|.+\.(attn|mlp|pool)\.(q|k|v|out|fc1|fc2))\.weight"
)
# the names that OpenVINO has for them, of an element and of a port
_TYPES = {"float32": ("f32", "FP32"), "float16": ("f16", "FP16"), "bfloat16": ("bf16", "BF16")}
_SOURCES = ("functional.py", "floats.py", "openvino/ops.py", "openvino/kept.py", "openvino/runtime.py")
_OPTIMISE = {"CACHE_MODE": "OPTIMIZE_SIZE"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Kept:
    """The place of one tower's graph in the cache."""

    weights: dict[str, np.ndarray]  # those that lie in the file, as it stores them
    file: MappedFile
    record: Path
    precision: str

    @classmethod
    def of(cls, config: Model, params: Floats, tower: str, precision: str) -> "Kept | None":
        """None if this tower's graph is not kept."""
        prefix = "vision." if tower == "image" else f"{tower}."
        own = {name: array for name, array in params.stored.items() if name.startswith(prefix)}
        weights = {name: array for name, array in own.items() if _WHOLE.fullmatch(name) and _lies_in_file(array)}
        files = {root(array) for array in weights.values()}
        rest = {name: array for name, array in own.items() if name not in weights}
        if _size(weights) < LEAST or len(files) != 1 or _size(rest) > MOST:
            return None
        [file] = files
        assert isinstance(file, MappedFile)
        facts = _sources(), config, tower, precision, machine("cpu"), sorted(simd())
        record = cache.folder("graphs") / f"{_key(repr(facts), file, weights, rest)}.blob"
        return cls(weights=weights, file=file, record=record, precision=precision)

    def nodes(self) -> dict[str, Node]:
        """The weights as constants that OpenVINO knows the place of."""
        whole = in_memory(bytes_of(self.file), ov.Type.u8)
        graph = core().read_model(_ir(self.file, self.weights), whole)
        nodes = {node.get_friendly_name(): node for node in graph.get_ops()}
        return {name: nodes.get(f"{name}.{WIDE}", nodes[name]) for name in self.weights}

    def compiled(self, graph: ov.Model) -> ov.CompiledModel:
        """Compile a graph that was built with `nodes`, and keep it."""
        return compile_and_keep(graph, self.precision, self.record, MOST_GRAPHS)

    def read(self) -> ov.CompiledModel | None:
        """The graph that was kept, if every byte of it is still there and the weights are still the same file's."""
        return read_kept(self.record, self.precision, self.file.path) if self.file.unchanged() else None


def compile_and_keep(graph: ov.Model, precision: str, record: Path, most: int) -> ov.CompiledModel:
    """Compile a graph whose weights OpenVINO knows the place of, and keep it without them, with `most` of its kind."""
    made = core().compile_model(graph, "CPU", hints(precision) | _OPTIMISE)
    blob = _bytes(made.export_model())
    cache.remember(record, hashlib.sha256(blob).digest() + blob, most)
    return made


def read_kept(record: Path, precision: str, weights: Path) -> ov.CompiledModel | None:
    """The graph that was kept, if every byte of it is still there; its weights are read from their own file."""
    found = cache.remembered(record) or b""
    digest, blob = found[:32], found[32:]
    if hashlib.sha256(blob).digest() != digest:
        return None
    where: dict[str, Any] = {"WEIGHTS_PATH": str(weights)}
    try:
        return core().import_model(blob, "CPU", hints(precision) | _OPTIMISE | where)
    except RuntimeError:  # what it cannot read, it is given to compile
        return None


def _lies_in_file(array: np.ndarray) -> bool:
    return (
        array.dtype.name in _TYPES
        and array.dtype.isnative
        and array.flags.c_contiguous
        and array.flags.aligned
        and isinstance(root(array), MappedFile)
    )


def _size(params: Params) -> int:
    return sum(array.nbytes for array in params.values())


def _key(facts: str, file: MappedFile, weights: Params, rest: Params) -> str:
    """Places of the weights and both ends of each; all of the rest."""
    digest = hashlib.sha256(facts.encode())
    for name, array in sorted(weights.items()):
        place = name, array.dtype.name, array.shape, offset(array, file)
        digest.update(repr(place).encode() + ends(array))
    for name, array in sorted(rest.items()):
        digest.update(repr((name, array.dtype.name, array.shape)).encode() + array.tobytes())
    return digest.hexdigest()[:32]


@functools.cache
def _sources() -> str:
    """The modules that a graph comes from."""
    code = (pkgutil.get_data("cjkclip.engines", name) or b"" for name in _SOURCES)
    return hashlib.sha256(b"".join(code)).hexdigest()


def _bytes(blob: Any) -> bytes:
    return blob if isinstance(blob, bytes) else blob.getvalue()


def _ir(file: MappedFile, weights: Params) -> bytes:
    """A model in OpenVINO's own form that is nothing but these constants; those in 16 bits are made float32.

    Each ends in a result, since a model has to have some; `decompression` keeps OpenVINO from widening them at once.
    """
    from xml.etree.ElementTree import Element, SubElement, tostring  # only where a graph is made

    net = Element("net", name="weights", version="11")
    layers, edges = SubElement(net, "layers"), SubElement(net, "edges")

    def layer(kind: str, name: str, shape: Sequence[int], precision: str, *, follows: bool = True) -> Element:
        number = str(len(layers))
        made = SubElement(layers, "layer", id=number, name=name, type=kind, version="opset1")
        if follows:
            ends = {"from-layer": str(int(number) - 1), "from-port": "1", "to-layer": number, "to-port": "0"}
            SubElement(edges, "edge", ends)
            SubElement(SubElement(made, "input"), "port", id="0")
        if kind != "Result":
            port = SubElement(SubElement(made, "output"), "port", id="1", precision=precision)
            for side in shape:
                SubElement(port, "dim").text = str(side)
        return made

    for name, array in weights.items():
        (kind, precision), place = _TYPES[array.dtype.name], str(offset(array, file))
        const = layer("Const", name, array.shape, precision, follows=False)
        shape = ",".join(map(str, array.shape))
        SubElement(const, "data", element_type=kind, shape=shape, offset=place, size=str(array.nbytes))
        if kind != "f32":
            convert = layer("Convert", f"{name}.{WIDE}", array.shape, "FP32")
            SubElement(convert, "data", destination_type="f32")
            SubElement(SubElement(convert, "rt_info"), "attribute", name="decompression", version="0")
        layer("Result", f"{name}.result", array.shape, "FP32")
    return tostring(net)
