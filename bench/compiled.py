"""`python -m bench.compiled`: is a compiled graph worth keeping on disk? Making it beside reading it back.

The image tower of ViT-B/16 with random weights, OpenVINO, float32, and bfloat16 where the processor has it. Also the
same tower 24 numbers wide, which is a graph and hardly a weight, and two towers at once. Writes nothing.
"""

import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from cjkclip.config import Model, Vit
from cjkclip.engines.ops_openvino import OpenvinoEngine
from cjkclip.engines.runtime_openvino import fast
from cjkclip.parameters import shapes
from cjkclip.probes import noise

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


def weights(config: Model) -> dict[str, np.ndarray]:
    """Random ones."""
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape, dtype=np.float32) * 0.02 for name, shape in shapes(config).items()}


def made(engine: OpenvinoEngine) -> ov.CompiledModel:
    """A graph, compiled."""
    return engine.compiled("image", stages=False)[0]


def kept(engine: OpenvinoEngine, pixels: np.ndarray) -> str:
    """What it takes to make a graph and to read it back, each with its first answer, which packs the weights."""
    core = ov.Core()
    make, model = median(lambda: answered(made(engine), pixels))
    blob = model.export_model()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "graph.blob"
        file.write_bytes(blob if isinstance(blob, bytes) else blob.getvalue())
        # the mapping has to outlive the model: without it the process crashes, and so it does if the file is damaged
        mapping = ov.Tensor(np.memmap(file, np.uint8, "r+"), shared_memory=True)
        read, _ = median(lambda: answered(core.import_model(file.read_bytes(), "CPU"), pixels))
        mapped, _ = median(lambda: answered(core.import_model(mapping, "CPU"), pixels))
        check, _ = median(lambda: hashlib.sha256(file.read_bytes()).digest())
        size = f"{file.stat().st_size / 1e6:.0f} MB"
    return f"made {make:.2f} s; read {read:.2f} s or mapped {mapped:.2f} s from {size}, SHA-256 of it {check:.2f} s"


def answered(model: ov.CompiledModel, pixels: np.ndarray) -> ov.CompiledModel:
    """The model, once it has answered."""
    model([pixels])
    return model


def main() -> None:
    """Measure and print."""
    config = Model(vision=VIT, text=None, image=None, embed=512, scale=None)
    narrow = replace(config, vision=replace(VIT, width=24, mlp=48))
    params, pixels = weights(config), noise(1, VIT.image_size)
    for precision in filter(None, ("fp32", fast("cpu"))):
        engine = OpenvinoEngine(config, params, precision)
        print(f"{precision}: {kept(engine, pixels)}")
        alone, _ = median(lambda engine=engine: made(engine))
        small, _ = median(lambda: made(OpenvinoEngine(narrow, weights(narrow), "fp32")))
        with ThreadPoolExecutor(2) as pool:
            both, _ = median(lambda engine=engine, pool=pool: list(pool.map(made, [engine] * 2)))
        print(f"{precision}: compiled {alone:.2f} s, 24 wide {small:.2f} s, two at once {both:.2f} s")


if __name__ == "__main__":
    main()
