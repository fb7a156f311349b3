"""The arithmetic of each precision in torch: the types of weights, and the settings during a call of a tower.

bf16 is autocast: layers multiply in bfloat16, normalisations and the residual stream stay in float32. fp32 is exact: on
a CUDA device it turns off TF32, to which torch rounds convolutions by default. Facts: torch 2.13, torch/backends and
ATen/Context.
"""

import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from cjkclip.engines import kind
from cjkclip.engines.torch.towers import Towers
from cjkclip.machine.limits import cores

# Calls on GPUs take turns. CUDA: the settings of float32 belong to the whole process, and while a graph is recorded no
# thread may record another one or wait for a device. Apple: two threads that compute at the same time crash the process
# (pytorch/pytorch#197805). A device runs one call after the other anyway.
TURN = threading.RLock()


def settle(towers: Towers, precision: str, device: str) -> Towers:
    """Put the towers into evaluation mode on their device, with the weights that `arithmetic` expects.

    In bf16 the layers that autocast would round at every call are rounded once: the same numbers, half the memory.
    Convolutions use the channels-last format, which the libraries of CPUs and GPUs prefer.
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
    """Settings around a call of a settled tower: no gradients, and the precision's rules instead of the program's.

    Calls on GPUs take turns, see `TURN`.
    """
    with ExitStack() as stack:
        stack.enter_context(TURN if kind(device) != "cpu" else _threads())
        stack.enter_context(torch.inference_mode())
        half = precision == "bf16"
        stack.enter_context(torch.autocast(kind(device), torch.bfloat16, enabled=half, cache_enabled=False))
        if kind(device) == "cuda" and not half:
            stack.enter_context(without_tf32())
        yield


@contextmanager
def _threads() -> Generator[None]:
    """Compute on at most `limits.cores` threads: torch does not know the quota of a container.

    The number belongs to the whole process, so it is only changed where it is too large, and set back afterwards.
    """
    before, limit = torch.get_num_threads(), cores()
    if before <= limit:
        yield
        return
    torch.set_num_threads(limit)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def without_tf32() -> Generator[None]:
    """Turn off TF32 in CUDA's convolutions and matrix products, whatever the program has set.

    torch 2.9 has new names for these settings, and raises if an old name is read while the new ones differ.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    with ExitStack() as stack:
        if hasattr(cudnn, "conv"):
            stack.enter_context(_set(cudnn.conv, "fp32_precision", "ieee"))
        else:
            stack.enter_context(_set(cudnn, "allow_tf32", False))
        try:
            setting = torch.get_float32_matmul_precision()
        except RuntimeError:  # the program set only the new names
            stack.enter_context(_set(matmul, "fp32_precision", "ieee"))
        else:
            if setting != "highest":
                stack.callback(torch.set_float32_matmul_precision, setting)
                torch.set_float32_matmul_precision("highest")
        yield


@contextmanager
def _set(place: Any, name: str, value: object) -> Generator[None]:
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)
