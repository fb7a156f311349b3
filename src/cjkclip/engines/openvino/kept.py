"""A cache of compiled graphs without their weights, which are read from the model's own file.

OpenVINO exports a graph without the constants that came from a file of weights, and reads them from that file when it
imports the graph. So the large weights of a tower become such constants: OpenVINO's own model format (IR) states their
places in the checkpoint. All other parameters are stored in the graph, and every byte of them is part of its key, so
that it cannot be the graph of another model. 16-bit weights keep 16 bits until OpenVINO packs them, without a copy.
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
from cjkclip.engines.openvino.runtime import Node, core, hints, in_memory, machine, ov, simd, threads
from cjkclip.fingerprint import ends
from cjkclip.machine import cache
from cjkclip.machine.mapped import MappedFile, bytes_of, offset, root

LEAST = 4 << 20  # bytes of a tower in the file; a smaller tower starts fast without a cache
MOST = 16 << 20  # bytes of a tower that are not in the file
MOST_GRAPHS = 32  # files in the cache
WIDE = "float32"
# weights that are multiplied or looked up unchanged, and only through OpenvinoOps._weight
_WHOLE = re.compile(
    r"(text\.token|text\.pooler|(text|vision)\.proj|vision\.patch|.+\.(attn|mlp|pool)\.(q|k|v|out|fc1|fc2))\.weight"
)
# OpenVINO's names for the types: of an element and of a port
_TYPES = {"float32": ("f32", "FP32"), "float16": ("f16", "FP16"), "bfloat16": ("bf16", "BF16")}
_SOURCES = ("functional.py", "floats.py", "openvino/ops.py", "openvino/kept.py", "openvino/runtime.py")
_OPTIMISE = {"CACHE_MODE": "OPTIMIZE_SIZE"}


@dataclass(frozen=True, kw_only=True, eq=False)
class CachedGraph:
    """The place of one tower's graph in the cache, whether or not it has been cached."""

    weights: dict[str, np.ndarray]  # the weights that the file stores, in its type
    file: MappedFile
    record: Path
    precision: str

    @classmethod
    def of(cls, config: Model, params: Floats, tower: str, precision: str) -> "CachedGraph | None":
        """Return the place of a tower's graph, or None if it is not worth caching (few weights, several files)."""
        prefix = "vision." if tower == "image" else f"{tower}."
        own = {name: array for name, array in params.stored.items() if name.startswith(prefix)}
        weights = {name: array for name, array in own.items() if _WHOLE.fullmatch(name) and _lies_in_file(array)}
        files = {root(array) for array in weights.values()}
        rest = {name: array for name, array in own.items() if name not in weights}
        # OpenVINO reads constants from a single file. All other parameters are copied into the cached graph and hashed
        # for its key, so that many of them would make a large file and a slow start.
        if _size(weights) < LEAST or len(files) != 1 or _size(rest) > MOST:
            return None
        [file] = files
        assert isinstance(file, MappedFile)
        facts = _sources(), config, tower, precision, machine("cpu"), sorted(simd())
        record = cache.folder("graphs") / f"{_key(repr(facts), file, weights, rest)}.blob"
        return cls(weights=weights, file=file, record=record, precision=precision)

    def nodes(self) -> dict[str, Node]:
        """Return the weights as constants whose place in the file OpenVINO knows."""
        content = in_memory(bytes_of(self.file), ov.Type.u8)
        graph = core().read_model(_ir(self.file, self.weights), content)
        nodes = {node.get_friendly_name(): node for node in graph.get_ops()}
        return {name: nodes.get(f"{name}.{WIDE}", nodes[name]) for name in self.weights}

    def compiled(self, graph: ov.Model) -> ov.CompiledModel:
        """Compile a graph that was built with `nodes`, and cache it."""
        return compile_and_cache(graph, self.precision, self.record, MOST_GRAPHS)

    def read(self) -> ov.CompiledModel | None:
        """Return the cached graph, or None if it is missing or damaged, or if the file of weights was replaced."""
        # OpenVINO opens the weights by path, but the key describes the mapping. A file that replaced the mapped one
        # may contain other weights: the graph is then compiled from the mapping.
        return read_cached(self.record, self.precision, self.file.path) if self.file.unchanged() else None


def compile_and_cache(graph: ov.Model, precision: str, record: Path, most: int) -> ov.CompiledModel:
    """Compile a graph and cache it without the weights whose file OpenVINO knows; at most `most` files remain."""
    compiled = core().compile_model(graph, "CPU", hints(precision) | threads() | _OPTIMISE)
    blob = _bytes(compiled.export_model())
    cache.remember(record, hashlib.sha256(blob).digest() + blob, most)
    return compiled


def read_cached(record: Path, precision: str, weights: Path) -> ov.CompiledModel | None:
    """Return the cached graph, or None if it is missing or damaged; its weights are read from the file `weights`."""
    content = cache.remembered(record) or b""
    digest, blob = content[:32], content[32:]
    # OpenVINO does not check a graph that it imports: a damaged one crashes the process.
    if hashlib.sha256(blob).digest() != digest:
        return None
    weights_path: dict[str, Any] = {"WEIGHTS_PATH": str(weights)}
    try:
        return core().import_model(blob, "CPU", hints(precision) | threads() | _OPTIMISE | weights_path)
    except RuntimeError:  # the caller then compiles the graph
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
    """Return a digest of the facts, the places and both ends of the weights, and every byte of the rest."""
    digest = hashlib.sha256(facts.encode())
    # The graph contains no byte of `weights`, and to hash them all would take longer than the cache saves.
    for name, array in sorted(weights.items()):
        place = name, array.dtype.name, array.shape, offset(array, file)
        digest.update(repr(place).encode() + ends(array))
    for name, array in sorted(rest.items()):
        digest.update(repr((name, array.dtype.name, array.shape)).encode() + array.tobytes())
    return digest.hexdigest()[:32]


@functools.cache
def _sources() -> str:
    """Return a digest of the modules that build a graph."""
    code = (pkgutil.get_data("cjkclip.engines", name) or b"" for name in _SOURCES)
    return hashlib.sha256(b"".join(code)).hexdigest()


def _bytes(blob: Any) -> bytes:
    return blob if isinstance(blob, bytes) else blob.getvalue()


def _ir(file: MappedFile, weights: Params) -> bytes:
    """Describe the weights as a model in OpenVINO's format that consists of constants; 16-bit ones are widened.

    Each constant has a result, since a model needs results. The mark `decompression` keeps OpenVINO from widening
    16-bit constants to float32 before it packs them.
    """
    from xml.etree.ElementTree import Element, SubElement, tostring  # only needed when a graph is compiled

    net = Element("net", name="weights", version="11")
    layers, edges = SubElement(net, "layers"), SubElement(net, "edges")

    def layer(kind: str, name: str, shape: Sequence[int], precision: str, *, follows: bool = True) -> Element:
        number = str(len(layers))
        element = SubElement(layers, "layer", id=number, name=name, type=kind, version="opset1")
        if follows:
            ends = {"from-layer": str(int(number) - 1), "from-port": "1", "to-layer": number, "to-port": "0"}
            SubElement(edges, "edge", ends)
            SubElement(SubElement(element, "input"), "port", id="0")
        if kind != "Result":
            port = SubElement(SubElement(element, "output"), "port", id="1", precision=precision)
            for side in shape:
                SubElement(port, "dim").text = str(side)
        return element

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
