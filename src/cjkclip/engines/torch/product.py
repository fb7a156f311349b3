"""A single matrix product in torch: the upper limit to compare the speed of its towers with."""

import time
from collections.abc import Callable

import torch

from cjkclip.engines import kind

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
AWAKE = 0.3  # seconds of work until a GPU has left its idle clock rate


def at_once(device: str) -> int:
    """Return the number of products in one call: many on a GPU, where one would measure the launch, not the product."""
    return 1 if kind(device) == "cpu" else 20


def product(rows: int, width: int, out: int, precision: str, device: str) -> Callable[[], object] | None:
    """Return a call that multiplies (rows, width) by a constant (width, out), `at_once` times; None if unsupported."""
    if precision not in DTYPES:
        return None
    x, weight = (torch.randn(shape, device=device).to(DTYPES[precision]) for shape in ((rows, width), (out, width)))

    def call() -> float:
        with torch.inference_mode():
            result = x
            for _ in range(at_once(device)):
                result = torch.nn.functional.linear(x, weight)
            return result[0, 0].item()  # waits for the GPU, whose calls return before they are computed

    if kind(device) != "cpu":
        until = time.perf_counter() + AWAKE
        while time.perf_counter() < until:
            call()
    return call
