"""HDF5 files of Keras and TensorFlow (.h5), opened with h5py; the numbers are then read from the mapped file.

A dataset's name is its path, "/" between the steps. h5py is asked only where the numbers are, so no filter and no
plugin ever runs. Refuses: everything that is not a plain run of little-endian numbers in the file itself (chunks,
filters, virtual and external datasets, links other than hard ones), groups that stand in two places.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cjkclip.checkpoints.weights.tensors import DTYPES, Tensors, dtype_of, short, view
from cjkclip.errors import WeightsError
from cjkclip.need import need

MAX_PARTS = 20_000  # groups and datasets; a checkpoint has a few hundred
MAX_NAME = 1000
_ELEMENTS = {dtype_of(name).str: name for name in DTYPES if name != "BF16"}


def read_hdf5(path: Path, data: mmap.mmap) -> Tensors:
    """Every dataset of a file, as views of it. Raises MissingDependencyError without h5py."""
    h5py: Any = need("h5py", extra="h5")
    tensors = Tensors()
    try:
        with h5py.File(path, "r", locking=False) as file:
            for name, dataset in _datasets(h5py, file):
                element, place = _place(h5py, name, dataset)
                tensors.put(name, view(data, place, element, tuple(dataset.shape)))
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise WeightsError(f"its HDF5 is damaged ({str(error)[:200]})") from error
    return tensors


def _datasets(h5py: Any, root: Any) -> Iterator[tuple[str, Any]]:
    """Every dataset with its name, group by group."""
    left, seen, parts = [("", root)], {_address(h5py, root)}, 0
    while left:
        path, group = left.pop()
        for key in group:
            name = f"{path}/{key}" if path else str(key)
            parts += 1
            if parts > MAX_PARTS or len(name) > MAX_NAME:
                raise WeightsError(f"it has more than {MAX_PARTS} parts, or too long names; no CLIP has")
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise WeightsError(f"{short(name)} is a link to another place, which is not followed")
            part = group[key]
            if isinstance(part, h5py.Dataset):
                yield name, part
            elif isinstance(part, h5py.Group) and _address(h5py, part) not in seen:
                seen.add(_address(h5py, part))
                left.append((name, part))
            else:
                raise WeightsError(f"{short(name)} is neither an array nor a group of its own")


def _address(h5py: Any, part: Any) -> int:
    return int(h5py.h5o.get_info(part.id).addr)


def _place(h5py: Any, name: str, dataset: Any) -> tuple[str, int]:
    """The element type of a dataset, and where its numbers begin in the file."""
    made = dataset.id.get_create_plist()
    plain = made.get_layout() == h5py.h5d.CONTIGUOUS and not made.get_nfilters() and not made.get_external_count()
    if not plain or dataset.shape is None:
        raise WeightsError(
            f"array {short(name)} is in chunks, compressed, or not in this file; TensorFlow writes plain ones"
        )
    element = _ELEMENTS.get(dataset.dtype.str)
    # h5py reads odd kinds of numbers as the nearest that NumPy has: only the very same can be taken as they lie
    if element is None or not dataset.id.get_type().equal(h5py.h5t.py_create(dataset.dtype)):
        raise WeightsError(f"array {short(name)} of {dataset.dtype} cannot be read; known are {', '.join(_ELEMENTS)}")
    place = dataset.id.get_offset()
    if place is None and dataset.size:
        raise WeightsError(f"array {short(name)} was never written")
    return element, place or 0
