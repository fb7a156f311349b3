"""Measure the rate of matrix products of an engine on this machine, which is the limit of every tower.

Weights are constants, which the engine packs before the first call.
"""

import importlib

from cjkclip.speed.clock import medians

# engine -> module with `product(rows, width, out, precision, device)`, whose calls run `at_once(device)` products
PRODUCTS = {"openvino": "cjkclip.engines.openvino.product", "torch": "cjkclip.engines.torch.product"}
# rows, width in, width out: squares, and both MLP layers of a ViT-B/16 with 8 images; small ones first
SHAPES = (
    (1024, 1024, 1024),
    (197 * 8, 768, 3072),
    (197 * 8, 3072, 768),
    (2048, 2048, 2048),
    (4096, 4096, 4096),
    (8192, 8192, 8192),
)
ROUNDS, BUDGET = 7, 0.5  # rounds per shape, and seconds after which no round starts
LONGEST = 0.3  # seconds of a call: larger shapes that would take more are skipped, because smaller ones show the rate


def matrix_rate(engine: str, precision: str, device: str = "cpu", *, rounds: int = ROUNDS) -> float | None:
    """Return the GFLOP/s of the fastest shape, by medians; None if the engine has no product in that precision."""
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
