"""Compile the blocks of a tower in place with torch.compile, and check that the machine can."""

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

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


def lacking() -> str | None:
    """Return what this machine lacks to compile for a GPU: Triton, or the C compiler that Triton calls; else None."""
    if find_spec("triton") is None:
        return "Triton"
    compilers = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    return None if any(shutil.which(name) for name in compilers if name) else "C compiler"
