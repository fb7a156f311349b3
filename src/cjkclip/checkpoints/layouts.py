"""Published tensor names as rows, which are used in both directions. No row depends on a family's name.

A row maps a canonical parameter to a published tensor. Reading and writing a checkpoint use the same rows, so a layout
that can be read can also be written.
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
# q, k, v: a third of a fused tensor, along axis 0; to-...: remove leading axes of length 1; scalar: shape (1,);
# hwio: a kernel whose axes are height, width, inputs, outputs
Op = Literal["same", "transpose", "q", "k", "v", "to-vector", "to-matrix", "scalar", "hwio"]
_THIRDS = {"q": 0, "k": 1, "v": 2}
_AXES = {"to-vector": 1, "to-matrix": 2}
_OIHW, _HWIO = (3, 2, 0, 1), (2, 3, 1, 0)
_HOLES = {"p": "weight|bias|running_mean|running_var|num_batches_tracked", "n": ".+"}


@dataclass(frozen=True)
class Row:
    """A pair of names. {p} matches weight, bias, ...; {n} any name; any other {letter} a number."""

    canonical: str
    published: str
    op: Op = "same"

    @cached_property
    def reads(self) -> re.Pattern[str]:
        """The pattern of the published name."""
        return _pattern(self.published)

    @cached_property
    def writes(self) -> re.Pattern[str]:
        """The pattern of the canonical name."""
        return _pattern(self.canonical)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The names of one published form."""

    name: str
    rows: tuple[Row, ...]
    marks: tuple[str, ...]  # tensors that identify the layout: every file has them
    harmless: tuple[str, ...]  # patterns of tensors that no tower reads

    def matches(self, names: Iterable[str]) -> bool:
        """Whether a file with these tensor names has this layout."""
        return set(self.marks) <= set(names)


def homeless(layout: Layout, names: Iterable[str]) -> list[str]:
    """Return the tensors that have no place in a layout, except harmless ones."""
    unread = (name for name in names if not any(row.reads.fullmatch(name) for row in layout.rows))
    return _harmful(layout, unread)


def _harmful(layout: Layout, unread: Iterable[str]) -> list[str]:
    return [name for name in unread if not any(fnmatch(name, pattern) for pattern in layout.harmless)]


def read(layout: Layout, tensors: Mapping[str, np.ndarray], source: str) -> Arrays:
    """Return the canonical parameters of published tensors, as views where the op allows it.

    Raises LayoutError if a tensor has no place. `source` is the file's name for the message.
    """
    params: Arrays = {}
    unread: list[str] = []
    for name, tensor in tensors.items():
        rows = [(row, match) for row in layout.rows if (match := row.reads.fullmatch(name))]
        for row, match in rows:
            params[row.canonical.format(**match.groupdict())] = _take(tensor, row.op, name, source)
        if not rows:
            unread.append(name)
    if left := _harmful(layout, unread):
        raise LayoutError(
            f"{source}: {len(left)} tensors have no place in layout {layout.name!r} ({some_of(left)}). If the model "
            "works without them, save the file without them; if the file is published, report its layout"
        )
    return params


def write(layout: Layout, params: Mapping[str, np.ndarray], join: Join = np.concatenate) -> Arrays:
    """Return the published tensors of canonical parameters. Raises LayoutError if a parameter has no place.

    `join` makes one tensor of q, k and v; only this step copies.
    """
    tensors: Arrays = {}
    thirds: dict[str, list[np.ndarray | None]] = {}
    left: list[str] = []
    for name, array in params.items():
        place = published(layout, name)
        if place is None:
            left.append(name)
        elif place[1] in _THIRDS:
            thirds.setdefault(place[0], [None] * 3)[_THIRDS[place[1]]] = array
        else:
            tensors[place[0]] = _put(array, place[1])
    if left:
        raise LayoutError(f"layout {layout.name!r} has no place for {len(left)} parameters ({some_of(left)})")
    for name, parts in thirds.items():
        tensors[name] = join([part for part in parts if part is not None])
    return tensors


def published(layout: Layout, canonical: str) -> tuple[str, Op] | None:
    """Return the tensor and the op of a canonical parameter in a layout, or None."""
    for row in layout.rows:
        if match := row.writes.fullmatch(canonical):
            return row.published.format(**match.groupdict()), row.op
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
            shape = "four axes (height, width, inputs, outputs)" if op == "hwio" else "(1,)"
            raise LayoutError(f"{source}: {name} has shape {tensor.shape}, expected {shape}")
        return tensor.transpose(_OIHW) if op == "hwio" else tensor.reshape(())
    if op in _AXES:
        if tensor.ndim != 3 or any(length != 1 for length in tensor.shape[: 3 - _AXES[op]]):
            raise LayoutError(f"{source}: {name} has shape {tensor.shape}, expected leading axes of length 1")
        return tensor.reshape(tensor.shape[3 - _AXES[op] :])
    if tensor.ndim == 0 or len(tensor) % 3:
        raise LayoutError(f"{source}: {name} has shape {tensor.shape}, expected a multiple of 3 rows (q, k and v)")
    third = len(tensor) // 3
    return tensor[_THIRDS[op] * third :][:third]
