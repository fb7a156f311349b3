"""How fast an engine multiplies matrices on this machine: the limit of every tower.

Weights are constants, packed before the first call as an engine packs them.
"""

import importlib

from cjkclip.speed.clock import medians

# engine -> the module of `product(rows, width, out, precision, device)`, whose calls do `at_once(device)` of them
PRODUCTS = {"openvino": "cjkclip.engines.openvino.product", "torch": "cjkclip.engines.torch.product"}
# rows, width in, width out: squares, and the two layers of a ViT-B/16's MLP at 8 pictures; the small ones first
SHAPES = (
    (1024, 1024, 1024),
    (197 * 8, 768, 3072),
    (197 * 8, 3072, 768),
    (2048, 2048, 2048),
    (4096, 4096, 4096),
    (8192, 8192, 8192),
)
ROUNDS, BUDGET = 7, 0.5  # rounds of a shape, fewer when so many seconds are spent
LONGEST = 0.3  # seconds of a call: where a larger one would take more, the smaller ones tell enough


def matrix_rate(engine: str, precision: str, device: str = "cpu", *, rounds: int = ROUNDS) -> float | None:
    """GFLOP/s of the shape that runs best, by medians; None if the engine has no plain product of that precision."""
    if engine not in PRODUCTS:
        return None
    module, best = importlib.import_module(PRODUCTS[engine]), 0.0
    for rows, width, out in SHAPES:
        gflop = module.at_once(device) * 2e-9 * rows * width * out
        if gflop > best * LONGEST and best:
            continue
        call = module.product(rows, width, out, precision, device)
        if call is None:
            return None
        best = max(best, gflop / medians([call], rounds, BUDGET)[0])
    return best
