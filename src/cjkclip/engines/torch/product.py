"""A matrix product and nothing else in torch: what its towers can be held against."""

from collections.abc import Callable

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def product(rows: int, width: int, out: int, precision: str, device: str) -> Callable[[], object] | None:
    """A call that multiplies (rows, width) by a constant (width, out); None for a precision without such a product."""
    if precision not in DTYPES:
        return None
    x, weight = (torch.randn(shape, device=device).to(DTYPES[precision]) for shape in ((rows, width), (out, width)))

    def call() -> float:
        with torch.inference_mode():
            return torch.nn.functional.linear(x, weight)[0, 0].item()  # a GPU answers at once; a number has to wait

    return call
