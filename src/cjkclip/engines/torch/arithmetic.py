"""How torch computes in a precision: which weights are halved, and what holds while a tower runs.

bf16 is autocast: layers multiply in bfloat16, normalisations and the residual stream stay in float32. fp32 is exact:
on a CUDA device, where torch lets convolutions round to TF32 unless it is told otherwise, it is told otherwise.
"""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from cjkclip.engines import kind
from cjkclip.engines.torch.towers import Towers


def settle(towers: Towers, precision: str, device: str) -> Towers:
    """The towers in evaluation mode on their device, as `arithmetic` reads them.

    In bf16 the layers that autocast would round at every call are rounded once: the same numbers, half the memory.
    Convolutions keep their channels last, which both the CPU's and the GPU's libraries prefer.
    """
    towers.eval().requires_grad_(False)
    if precision == "bf16":
        for module in towers.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.to(torch.bfloat16)
    towers.to(device)
    if towers.vision is not None and kind(device) in ("cpu", "cuda"):
        towers.vision.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return towers


@contextmanager
def arithmetic(precision: str, device: str) -> Generator[None]:
    """What has to hold around a call of a settled tower: no gradients, and the precision's rules."""
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode())
        if precision == "bf16":
            stack.enter_context(torch.autocast(kind(device), torch.bfloat16, cache_enabled=False))
        elif kind(device) == "cuda":
            cudnn = torch.backends.cudnn
            asked = cudnn.enabled, cudnn.benchmark, cudnn.benchmark_limit, cudnn.deterministic
            stack.enter_context(cudnn.flags(*asked, allow_tf32=False))
        yield
