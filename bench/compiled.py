"""`python -m bench.compiled`: time saved by a cached graph at a start, and the cost of 16-bit weights.

Runs the image tower of ViT-B/16 with random weights in OpenVINO, in float32, and in bfloat16 if the processor has it.
Its weights are in a float32 or float16 file; "compiled" starts from float32 arrays in memory. Also compiles the same
tower with width 24, a full graph with few weights, and two towers at once. Leaves no file behind.
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
    """Return the median seconds of each call; the calls run in turn."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS):
        for call, seconds in zip(calls, times, strict=True):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in times]


def random(config: Model, kind: type) -> dict[str, np.ndarray]:
    """Return random weights for a config."""
    rng = np.random.default_rng(0)
    return {n: (rng.standard_normal(s, dtype=np.float32) * 0.02).astype(kind) for n, s in shapes(config).items()}


def filed(kind: type, folder: Path) -> Params:
    """Write random weights to a file and return them memory-mapped."""
    path = folder / f"{kind.__name__}.safetensors"
    weights.write(path, random(CONFIG, kind))
    return weights.read(path)


def compiled(config: Model, params: Params, precision: str = "fp32") -> object:
    """Compile a graph that cannot be cached, because its weights are not in a file."""
    return OpenvinoEngine(config, params, precision).compiled("image", stages=False)


def start(params: Params, precision: str) -> OpenvinoEngine:
    """Build an engine and encode one image, which packs the weights."""
    engine = OpenvinoEngine(CONFIG, params, precision)
    engine.image(noise(1, VIT.image_size))
    return engine


def summary(precision: str, folder: Path) -> str:
    """Measure starts and calls in one precision; return lines to print."""
    wide, half, loose = filed(np.float32, folder), filed(np.float16, folder), random(CONFIG, np.float32)
    for params in (wide, half):
        start(params, precision)
    fresh, cached, cached_half = medians(*(lambda p=p: start(p, precision) for p in (loose, wide, half)))
    engines: Sequence[OpenvinoEngine] = [start(params, precision) for params in (wide, half)]
    rows = [
        f"{precision}: start compiled {fresh:.2f} s, cached {cached:.2f} s, cached from float16 {cached_half:.2f} s"
    ]
    for count in (1, 8):
        pixels = noise(count, VIT.image_size)
        from_wide, from_half = medians(*(lambda e=e, x=pixels: e.image(x) for e in engines))
        rows.append(f"  {count} at once: {from_wide:.3f} s from a float32 file, {from_half:.3f} s from float16")
    return "\n".join(rows)


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        os.environ["XDG_CACHE_HOME"] = folder
        for precision in filter(None, ("fp32", fast("cpu"))):
            print(summary(precision, Path(folder)))
        sizes = [path.stat().st_size / 1e6 for path in Path(folder).rglob("*.blob")]
        print(f"cached graphs: {', '.join(f'{size:.1f}' for size in sizes)} MB")
        large, small = random(CONFIG, np.float32), random(NARROW, np.float32)
        alone, narrow, both = medians(
            lambda: compiled(CONFIG, large),
            lambda: compiled(NARROW, small),
            lambda: list(pool.map(compiled, [CONFIG] * 2, [large] * 2)),
        )
        print(f"compiled {alone:.2f} s, width 24 {narrow:.2f} s, two at once {both:.2f} s")


if __name__ == "__main__":
    main()
