"""Read HDF5 files of Keras and TensorFlow (.h5): h5py finds the datasets, the mapped file contains the numbers.

A dataset's name is its path, joined by "/". h5py only reports where the numbers are, so no filter or plugin ever runs.
Only plain little-endian numbers in the file itself are accepted: chunks, filters, virtual and external datasets, soft
links, and groups at two places raise WeightsError.
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
    """Return every dataset of a file as a view of it. Raises MissingDependencyError without h5py."""
    h5py: Any = need("h5py", extra="h5")
    tensors = Tensors()
    try:
        with h5py.File(path, "r", locking=False) as file:
            for name, dataset in _datasets(h5py, file):
                element, place = _place(h5py, name, dataset)
                tensors.put(name, view(data, place, element, tuple(dataset.shape)))
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, OverflowError, MemoryError) as error:
        raise WeightsError(f"its HDF5 is damaged ({str(error)[:200]}). Download the file again") from error
    return tensors


def _datasets(h5py: Any, root: Any) -> Iterator[tuple[str, Any]]:
    """Yield every dataset with its name, group by group."""
    stack, addresses, parts = [("", root)], {_address(h5py, root)}, 0
    while stack:
        path, group = stack.pop()
        for key in group:
            name = f"{path}/{key}" if path else str(key)
            parts += 1
            if parts > MAX_PARTS or len(name) > MAX_NAME:
                raise WeightsError(f"it has more than {MAX_PARTS} parts or too long names, more than any CLIP")
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise WeightsError(
                    f"{short(name)} is a link, which is not followed. Save the file with the array itself"
                )
            part = group[key]
            if isinstance(part, h5py.Dataset):
                yield name, part
            elif isinstance(part, h5py.Group) and _address(h5py, part) not in addresses:
                addresses.add(_address(h5py, part))
                stack.append((name, part))
            else:
                raise WeightsError(f"{short(name)} is neither an array nor a group, or a group in two places")


def _address(h5py: Any, part: Any) -> int:
    return int(h5py.h5o.get_info(part.id).addr)


def _place(h5py: Any, name: str, dataset: Any) -> tuple[str, int]:
    """Return the element type of a dataset, and the byte in the file at which its numbers begin."""
    properties = dataset.id.get_create_plist()
    plain = properties.get_layout() == h5py.h5d.CONTIGUOUS
    plain = plain and not properties.get_nfilters() and not properties.get_external_count()
    if not plain or dataset.shape is None:
        raise WeightsError(
            f"array {short(name)} is in chunks, compressed, or not in this file. Save it plain, as TensorFlow does"
        )
    element = _ELEMENTS.get(dataset.dtype.str)
    # h5py converts unusual numbers to the nearest type of NumPy; only equal types can be read without it
    if element is None or not dataset.id.get_type().equal(h5py.h5t.py_create(dataset.dtype)):
        raise WeightsError(
            f"array {short(name)} of {dataset.dtype} cannot be read, expected one of {', '.join(_ELEMENTS)}"
        )
    place = dataset.id.get_offset()
    if place is None and dataset.size:
        raise WeightsError(f"array {short(name)} has no content: it was never written")
    return element, place or 0
