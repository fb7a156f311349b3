"""A matrix product and nothing else in OpenVINO: what its towers can be held against."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from cjkclip.engines.ops_openvino import OpenvinoOps, op, ov

HINTS = {"fp32": "f32", "bf16": "bf16"}


def product(rows: int, width: int, out: int, precision: str, device: str) -> Callable[[], object] | None:
    """A call that multiplies (rows, width) by a constant (width, out); None for a precision without such a product."""
    assert device == "cpu"
    if precision not in HINTS:
        return None
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape, np.float32) for shape in ((rows, width), (out, width)))
    node = op.parameter([rows, width], np.float32, "x")
    graph = cast(Any, ov.Model)([op.result(OpenvinoOps().linear(node, weight, None))], [node], "product")
    compiled = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": HINTS[precision]})
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(x))
    return request.infer
