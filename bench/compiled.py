"""`python -m bench.compiled`: is a compiled graph worth keeping on disk? Making it beside reading it back.

The image tower of ViT-B/16 with random weights, OpenVINO. Prints medians and writes nothing.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from cjkclip.config import Model, Vit
from cjkclip.engines.ops_openvino import OpenvinoEngine
from cjkclip.parameters import shapes

VIT = Vit(
    width=768,
    depth=12,
    heads=12,
    mlp=3072,
    act="quick_gelu",
    eps=1e-5,
    image_size=224,
    patch=16,
    patch_bias=False,
    pre_norm=True,
    project=True,
)
ROUNDS = 7


def median(call: Callable[[], Any]) -> tuple[float, Any]:
    """Median seconds of a call, and what it gave last."""
    times, found = list[float](), None
    for _ in range(ROUNDS):
        start = time.perf_counter()
        found = call()
        times.append(time.perf_counter() - start)
    return statistics.median(times), found


def main() -> None:
    """Measure both precisions."""
    config = Model(vision=VIT, text=None, image=None, embed=512, scale=None)
    rng = np.random.default_rng(0)
    params = {name: rng.standard_normal(shape, dtype=np.float32) * 0.02 for name, shape in shapes(config).items()}
    core = ov.Core()
    for precision, hint in (("bf16", "bf16"), ("fp32", "f32")):
        engine = OpenvinoEngine(config, params, precision)
        settings = {"INFERENCE_PRECISION_HINT": hint}
        built, graph = median(lambda engine=engine: engine.graph("image", stages=False)[0])
        compiled, model = median(lambda graph=graph, settings=settings: core.compile_model(graph, "CPU", settings))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "graph.blob"
            blob = model.export_model()
            file.write_bytes(blob if isinstance(blob, bytes) else blob.getvalue())
            read, _ = median(lambda file=file: core.import_model(file.read_bytes(), "CPU"))
            size = file.stat().st_size / 1e6
        print(f"{precision}: build {built:.2f} s + compile {compiled:.2f} s; read back {read:.2f} s from {size:.0f} MB")


if __name__ == "__main__":
    main()
