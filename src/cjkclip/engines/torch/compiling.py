"""A tower's blocks compiled in place by torch.compile, and what a machine has to have for it."""

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from torch import nn


def compile_blocks(tower: nn.Module, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile a tower's alike parts in place. Nothing is compiled before they are called."""
    for unit in units(tower):
        unit.compile(dynamic=True, backend=backend)


def plain_blocks(tower: nn.Module) -> None:
    """Undo `compile_blocks`, for which torch has no name."""
    for unit in units(tower):
        unit._compiled_call_impl = None  # pyright: ignore[reportPrivateUsage]


def units(tower: nn.Module) -> list[nn.Module]:
    """What is worth compiling: blocks but the last, which computes one token.

    A ResNet's bottlenecks are of a dozen kinds, each of which would be compiled for itself.
    """
    return list(tower.get_submodule("blocks").children())[:-1] if hasattr(tower, "blocks") else []


def lacking() -> str | None:
    """What torch needs to compile for a GPU and this machine lacks: Triton, or a C compiler, which Triton calls."""
    if find_spec("triton") is None:
        return "Triton"
    compilers = [os.environ.get("CC", ""), "cc", "gcc", "clang"]
    return None if any(shutil.which(name) for name in compilers if name) else "C compiler"
