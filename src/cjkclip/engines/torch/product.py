"""A matrix product and nothing else in torch: what its towers can be held against."""

import time
from collections.abc import Callable

import torch

from cjkclip.engines import kind

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
AWAKE = 0.3  # seconds of work in which a GPU comes out of its idle clocks


def at_once(device: str) -> int:
    """Products of one call: a GPU is asked for many before it is waited for, or the asking would be measured."""
    return 1 if kind(device) == "cpu" else 20


def product(rows: int, width: int, out: int, precision: str, device: str) -> Callable[[], object] | None:
    """A call that multiplies (rows, width) by a constant (width, out), `at_once` times; None for other precisions."""
    if precision not in DTYPES:
        return None
    x, weight = (torch.randn(shape, device=device).to(DTYPES[precision]) for shape in ((rows, width), (out, width)))

    def call() -> float:
        with torch.inference_mode():
            found = x
            for _ in range(at_once(device)):
                found = torch.nn.functional.linear(x, weight)
            return found[0, 0].item()  # a GPU answers at once; a number has to wait

    if kind(device) != "cpu":
        until = time.perf_counter() + AWAKE
        while time.perf_counter() < until:
            call()
    return call
