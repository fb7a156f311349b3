"""Published tensor names as rows, read in both directions. No family names here.

A row says: this canonical parameter stands in that published tensor, in this way. Reading a checkpoint and writing
it back use the same rows, so what reads also writes. Refuses: a tensor without a row, a parameter without a tensor.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cached_property
from typing import Literal

import numpy as np

from cjkclip.errors import LayoutError
from cjkclip.parameters import some_of

Arrays = dict[str, np.ndarray]
Join = Callable[[Sequence[np.ndarray]], np.ndarray]
# q, k, v: a third of a fused tensor, along axis 0; to-...: without leading axes of length 1; scalar: of shape (1,);
# hwio: a kernel whose axes are height, width, inputs, outputs
Op = Literal["same", "transpose", "q", "k", "v", "to-vector", "to-matrix", "scalar", "hwio"]
_THIRDS = {"q": 0, "k": 1, "v": 2}
_AXES = {"to-vector": 1, "to-matrix": 2}
_OIHW, _HWIO = (3, 2, 0, 1), (2, 3, 1, 0)
_HOLES = {"p": "weight|bias|running_mean|running_var|num_batches_tracked", "n": ".+"}


@dataclass(frozen=True)
class Row:
    """One correspondence. {p} stands for weight, bias, ...; {n} for any name; any other {letter} for a number."""

    canonical: str
    published: str
    op: Op = "same"

    @cached_property
    def reads(self) -> re.Pattern[str]:
        """Recognises the published name."""
        return _pattern(self.published)

    @cached_property
    def writes(self) -> re.Pattern[str]:
        """Recognises the canonical name."""
        return _pattern(self.canonical)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The names of one published form."""

    name: str
    rows: tuple[Row, ...]
    marks: tuple[str, ...]  # tensors that every file of this layout has and that tell it from the others
    harmless: tuple[str, ...]  # patterns of tensors that carry nothing a tower reads

    def matches(self, names: Iterable[str]) -> bool:
        """Does a file with these tensor names look like this layout?"""
        return set(self.marks) <= set(names)


def homeless(layout: Layout, names: Iterable[str]) -> list[str]:
    """The tensors that a layout has no place for, harmless ones aside."""
    unread = (name for name in names if not any(row.reads.fullmatch(name) for row in layout.rows))
    return _harmful(layout, unread)


def _harmful(layout: Layout, unread: Iterable[str]) -> list[str]:
    return [name for name in unread if not any(fnmatch(name, pattern) for pattern in layout.harmless)]


def read(layout: Layout, tensors: Mapping[str, np.ndarray], source: str) -> Arrays:
    """Published tensors to canonical parameters, as views where the op allows it.

    Raises LayoutError if a tensor has no place. `source` names the file in the message.
    """
    params: Arrays = {}
    unread: list[str] = []
    for name, tensor in tensors.items():
        rows = [(row, found) for row in layout.rows if (found := row.reads.fullmatch(name))]
        for row, found in rows:
            params[row.canonical.format(**found.groupdict())] = _take(tensor, row.op, name, source)
        if not rows:
            unread.append(name)
    if left := _harmful(layout, unread):
        raise LayoutError(
            f"{source}: {len(left)} tensors have no place in layout {layout.name!r} ({some_of(left)}); "
            "pass family= if the file is of another family, or report the layout if it is published"
        )
    return params


def write(layout: Layout, params: Mapping[str, np.ndarray], join: Join = np.concatenate) -> Arrays:
    """Canonical parameters to published tensors. Raises LayoutError if a parameter has no place.

    `join` makes one tensor of its thirds; it is the only step that copies.
    """
    tensors: Arrays = {}
    thirds: dict[str, list[np.ndarray | None]] = {}
    left: list[str] = []
    for name, array in params.items():
        home = published(layout, name)
        if home is None:
            left.append(name)
        elif home[1] in _THIRDS:
            thirds.setdefault(home[0], [None] * 3)[_THIRDS[home[1]]] = array
        else:
            tensors[home[0]] = _put(array, home[1])
    if left:
        raise LayoutError(f"layout {layout.name!r} has no place for {len(left)} parameters ({some_of(left)})")
    for name, parts in thirds.items():
        tensors[name] = join([part for part in parts if part is not None])
    return tensors


def published(layout: Layout, canonical: str) -> tuple[str, Op] | None:
    """Where a canonical parameter stands in a layout, and how; None if it has no place there."""
    for row in layout.rows:
        if found := row.writes.fullmatch(canonical):
            return row.published.format(**found.groupdict()), row.op
    return None


def _pattern(template: str) -> re.Pattern[str]:
    escaped = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
    return re.compile(re.sub(r"{(\w)}", lambda m: f"(?P<{m[1]}>{_HOLES.get(m[1], '[0-9]+')})", escaped))


def _put(array: np.ndarray, op: Op) -> np.ndarray:
    if op == "transpose":
        return array.T
    if op == "hwio":
        return array.transpose(_HWIO)
    return array if op == "same" else array.reshape(1, *([1] * (op == "to-vector")), *array.shape)


def _take(tensor: np.ndarray, op: Op, name: str, source: str) -> np.ndarray:
    if op == "same":
        return tensor
    if op == "transpose":
        return tensor.T
    if op in ("scalar", "hwio"):
        if tensor.ndim != 4 if op == "hwio" else tensor.shape != (1,):
            wanted = "four axes (height, width, inputs, outputs)" if op == "hwio" else "(1,)"
            raise LayoutError(f"{source}: {name} has shape {tensor.shape}, expected {wanted}")
        return tensor.transpose(_OIHW) if op == "hwio" else tensor.reshape(())
    if op in _AXES:
        if tensor.ndim != 3 or any(length != 1 for length in tensor.shape[: 3 - _AXES[op]]):
            raise LayoutError(f"{source}: {name} has shape {tensor.shape}, expected leading axes of length 1")
        return tensor.reshape(tensor.shape[3 - _AXES[op] :])
    if tensor.ndim == 0 or len(tensor) % 3:
        raise LayoutError(f"{source}: {name} has shape {tensor.shape}; a fused q, k, v needs a multiple of 3 rows")
    third = len(tensor) // 3
    return tensor[_THIRDS[op] * third :][:third]
