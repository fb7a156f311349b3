"""An OpenVINO graph of a tiny image tower, and samples to quantise it with."""

from typing import Any

import numpy as np

from cjkclip import engines
from cjkclip.engines.openvino.ops import OpenvinoEngine
from support.engines import MODELS

MODEL = MODELS["vit"]
SAMPLES = [[row[None]] for row in np.random.default_rng(3).normal(size=(4, 3, 32, 32)).astype(np.float32)]


def graph_of(params: dict[str, np.ndarray]) -> Any:
    """Return the graph of MODEL's image tower with these parameters."""
    built = engines.build(MODEL, params, engine="openvino", precision="fp32", device="cpu")
    assert isinstance(built, OpenvinoEngine)
    return built.graph("image", stages=False)[0]
