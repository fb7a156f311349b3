"""A single matrix product in OpenVINO: the upper limit to compare the speed of its towers with."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from cjkclip.engines.openvino.ops import OpenvinoOps
from cjkclip.engines.openvino.runtime import Node, compile_graph, op, ov

KERNELS = {"fp32": "fp32", "bf16": "bf16", "int8": "fp32"}  # an int8 graph contains its own quantisation


def at_once(device: str) -> int:
    """Return the number of products in one call."""
    assert device == "cpu"
    return 1


def product(rows: int, width: int, out: int, precision: str, device: str) -> Callable[[], object] | None:
    """Return a call that multiplies (rows, width) by a constant (width, out), or None for other precisions."""
    assert device == "cpu"
    if precision not in KERNELS:
        return None
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape, np.float32) for shape in ((rows, width), (out, width)))
    node = op.parameter([rows, width], np.float32, "x")
    result = _int8(node, weight) if precision == "int8" else OpenvinoOps().linear(node, weight, None)
    graph = cast(Any, ov.Model)([op.result(result)], [node], "product")
    compiled = compile_graph(graph, KERNELS[precision])
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(x))
    return request.infer


def _int8(x: Node, weight: np.ndarray) -> Node:
    """Return the product with both sides quantised as by NNCF: one range for x, one for each row of the weight."""
    most = np.float32(4)  # about the range of a normal distribution
    ends = (op.constant(-most), op.constant(most))
    x = op.fake_quantize(x, ends[0], ends[1], ends[0], ends[1], 256)
    scale: np.ndarray = np.abs(weight).max(axis=1, keepdims=True) / np.float32(127)
    rounded: np.ndarray = np.round(weight / scale).astype(np.int8)
    stored = op.convert(op.constant(rounded), "f32")
    return op.matmul(x, op.multiply(stored, scale), False, True)
