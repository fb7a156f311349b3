"""A matrix product and nothing else in OpenVINO: what its towers can be held against."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from cjkclip.engines.openvino.ops import OpenvinoOps
from cjkclip.engines.openvino.runtime import Node, compile_graph, op, ov

KERNELS = {"fp32": "fp32", "bf16": "bf16", "int8": "fp32"}  # int8 says so in the graph itself


def at_once(device: str) -> int:
    """Products of one call."""
    assert device == "cpu"
    return 1


def product(rows: int, width: int, out: int, precision: str, device: str) -> Callable[[], object] | None:
    """A call that multiplies (rows, width) by a constant (width, out); None for a precision without such a product."""
    assert device == "cpu"
    if precision not in KERNELS:
        return None
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape, np.float32) for shape in ((rows, width), (out, width)))
    node = op.parameter([rows, width], np.float32, "x")
    made = _int8(node, weight) if precision == "int8" else OpenvinoOps().linear(node, weight, None)
    graph = cast(Any, ov.Model)([op.result(made)], [node], "product")
    compiled = compile_graph(graph, KERNELS[precision])
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(x))
    return request.infer


def _int8(x: Node, weight: np.ndarray) -> Node:
    """The same with both sides quantised, as NNCF writes it: one range for x, one per row of the weight."""
    most = np.float32(4)  # of a normal distribution, near enough
    ends = (op.constant(-most), op.constant(most))
    x = op.fake_quantize(x, ends[0], ends[1], ends[0], ends[1], 256)
    scale: np.ndarray = np.abs(weight).max(axis=1, keepdims=True) / np.float32(127)
    rounded: np.ndarray = np.round(weight / scale).astype(np.int8)
    stored = op.convert(op.constant(rounded), "f32")
    return op.matmul(x, op.multiply(stored, scale), False, True)
