"""Write files of torch.save without torch: a zip of one pickle and one storage for each tensor."""

import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from cjkclip.checkpoints.weights.rebuild import STORAGES
from cjkclip.checkpoints.weights.replace import replacing
from cjkclip.checkpoints.weights.tensors import element_of, short, stored_bytes
from cjkclip.errors import WeightsError

ROOT = "archive"  # torch's name for the directory in the zip if there is no file name
ALIGNMENT = 64  # bytes; aligned storages can be memory-mapped
_DICT = b"ccollections\nOrderedDict\n)R"
_TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"


def write_torch(path: Path, tensors: Mapping[str, np.ndarray], under: str | None = None) -> None:
    """Write `tensors` as torch.save writes a state dict, completely or not at all. Writing is deterministic.

    `under`: the key of an outer dict, such as the "state_dict" of training programs. Each tensor gets its own storage
    in C order. Raises WeightsError for a type that torch's storages lack (uint16, uint32, uint64), or if the file
    cannot be written.
    """
    elements = {name: element_of(name, array) for name, array in tensors.items()}
    for name, element in elements.items():
        if element not in STORAGES:
            raise WeightsError(
                f"tensor {short(name)} of {element} cannot be stored: torch has no storage for it. Use .safetensors"
            )
    shapes = [(name, elements[name], array.shape) for name, array in tensors.items()]
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        _add(archive, "data.pkl", b"".join(_pickle(shapes, under)))
        _add(archive, "byteorder", b"little")
        for key, (name, array) in enumerate(tensors.items()):
            _add(archive, f"data/{key}", stored_bytes(array, elements[name]))
        _add(archive, "version", b"3\n")


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    """Add a record whose bytes begin at a multiple of `ALIGNMENT`."""
    entry = zipfile.ZipInfo(f"{ROOT}/{name}")  # dated 1980-01-01
    place = archive.fp.tell() if archive.fp else 0
    padding = -(place + 30 + len(entry.filename.encode()) + 4) % ALIGNMENT
    entry.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
    archive.writestr(entry, content)


def _pickle(shapes: list[tuple[str, str, tuple[int, ...]]], under: str | None) -> Iterator[bytes]:
    """Yield the pickle of {name: tensor}; storages are numbered from 0."""
    yield b"\x80\x02"
    if under is not None:
        yield b"}" + _text(under)
    yield _DICT + b"("
    for key, (name, element, shape) in enumerate(shapes):
        count = int(np.prod(shape, dtype=np.int64))
        storage = f"ctorch\n{STORAGES[element]}\n".encode()
        place = b"(" + _text("storage") + storage + _text(str(key)) + _text("cpu") + _number(count) + b"tQ"
        strides = [int(np.prod(shape[axis + 1 :], dtype=np.int64)) for axis in range(len(shape))]
        yield _text(name) + _TENSOR + b"(" + place + _number(0) + _numbers(shape) + _numbers(strides)
        yield b"\x89" + _DICT + b"tR"  # requires_grad=False, no hooks
    yield b"u" + (b"s." if under is not None else b".")


def _text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def _number(value: int) -> bytes:
    if value < 1 << 31:
        return b"J" + struct.pack("<i", value)
    return b"\x8a\x08" + struct.pack("<q", value)


def _numbers(values: tuple[int, ...] | list[int]) -> bytes:
    return b"(" + b"".join(_number(value) for value in values) + b"t"
