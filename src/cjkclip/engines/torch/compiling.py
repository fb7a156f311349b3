"""Compile the blocks of a tower in place with torch.compile, check that the machine can, and notice being recorded."""

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn


def compile_blocks(tower: nn.Module, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile the identical parts of a tower in place. The compilation itself happens when they are called."""
    for unit in units(tower):
        unit.compile(dynamic=True, backend=backend)


def plain_blocks(tower: nn.Module) -> None:
    """Undo `compile_blocks`; torch has no function for this."""
    for unit in units(tower):
        unit._compiled_call_impl = None  # pyright: ignore[reportPrivateUsage]


def units(tower: nn.Module) -> list[nn.Module]:
    """Return the parts to compile: all blocks except the last, which computes one token.

    A ResNet has none: its bottlenecks are of a dozen kinds, and each kind would need its own compilation.
    """
    return list(tower.get_submodule("blocks").children())[:-1] if hasattr(tower, "blocks") else []


def traced() -> bool:
    """Return whether torch records this call, to compile, export or repeat it: no value of a tensor may be read then.

    A recorded call sees one input but serves all. Checks of values run in calls that are not recorded.
    """
    # torch.export is compiling too, and torch.onnx is either
    if torch.compiler.is_compiling() or torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return True
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def lacking() -> str | None:
    """Return what this machine lacks to compile for a GPU: Triton, or the C compiler that Triton calls; else None."""
    if find_spec("triton") is None:
        return "Triton"
    compilers = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    return None if any(shutil.which(name) for name in compilers if name) else "C compiler"
