"""`python -m bench.compiled`: what a graph that is kept on disk saves of a start, and what 16-bit weights cost.

The image tower of ViT-B/16 with random weights, OpenVINO, float32, and bfloat16 where the processor has it; its weights
in a file of float32 or of float16. Made anew means: from arrays in memory, in float32. Also the same tower 24 numbers
wide, which is a graph and hardly a weight, and two towers at once. Writes nothing that stays.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from cjkclip.checkpoints import weights
from cjkclip.config import Model, Vit
from cjkclip.engines import Params
from cjkclip.engines.openvino.ops import OpenvinoEngine
from cjkclip.engines.openvino.runtime import fast
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
CONFIG = Model(vision=VIT, text=None, image=None, embed=512, scale=None)
NARROW = replace(CONFIG, vision=replace(VIT, width=24, mlp=48))
ROUNDS = 7


def medians(*calls: Callable[[], object]) -> list[float]:
    """Median seconds of each call, in turn."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS):
        for call, seen in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            seen.append(time.perf_counter() - start)
    return [statistics.median(seen) for seen in times]


def random(config: Model, kind: type) -> dict[str, np.ndarray]:
    """Weights."""
    rng = np.random.default_rng(0)
    return {n: (rng.standard_normal(s, dtype=np.float32) * 0.02).astype(kind) for n, s in shapes(config).items()}


def filed(kind: type, folder: Path) -> Params:
    """The same in a file."""
    path = folder / f"{kind.__name__}.safetensors"
    weights.write(path, random(CONFIG, kind))
    return weights.read(path)


def made(config: Model, params: Params, precision: str = "fp32") -> object:
    """A graph that cannot be kept, since its weights are in no file."""
    return OpenvinoEngine(config, params, precision).compiled("image", stages=False)


def start(params: Params, precision: str) -> OpenvinoEngine:
    """An engine that has answered once, which packs the weights."""
    engine = OpenvinoEngine(CONFIG, params, precision)
    engine.image(noise(1, VIT.image_size))
    return engine


def told(precision: str, folder: Path) -> str:
    """Starts and calls of one precision."""
    wide, half, loose = filed(np.float32, folder), filed(np.float16, folder), random(CONFIG, np.float32)
    for params in (wide, half):
        start(params, precision)
    anew, kept, kept_half = medians(*(lambda p=p: start(p, precision) for p in (loose, wide, half)))
    engines: Sequence[OpenvinoEngine] = [start(params, precision) for params in (wide, half)]
    rows = [f"{precision}: start made anew {anew:.2f} s, kept {kept:.2f} s, kept from float16 {kept_half:.2f} s"]
    for count in (1, 8):
        pixels = noise(count, VIT.image_size)
        from_wide, from_half = medians(*(lambda e=e, x=pixels: e.image(x) for e in engines))
        rows.append(f"  {count} at once: {from_wide:.3f} s from a file of float32, {from_half:.3f} s from float16")
    return "\n".join(rows)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        os.environ["XDG_CACHE_HOME"] = folder
        for precision in filter(None, ("fp32", fast("cpu"))):
            print(told(precision, Path(folder)))
        sizes = [path.stat().st_size / 1e6 for path in Path(folder).rglob("*.blob")]
        print(f"kept graphs: {', '.join(f'{size:.1f}' for size in sizes)} MB")
        large, small = random(CONFIG, np.float32), random(NARROW, np.float32)
        alone, narrow, both = medians(
            lambda: made(CONFIG, large),
            lambda: made(NARROW, small),
            lambda: list(pool.map(made, [CONFIG] * 2, [large] * 2)),
        )
        print(f"compiled {alone:.2f} s, 24 wide {narrow:.2f} s, two at once {both:.2f} s")


if __name__ == "__main__":
    main()
