"""Read files of torch.save and torch.jit.save without torch: the zip form and the older sequence of pickles.

A zip's tensors are views of the mapped file. Only the pickle's checksum is verified; for the tensors every byte would
have to be read.
"""

import io
import mmap
import zlib
from collections.abc import Iterable, Mapping
from typing import cast

from cjkclip.checkpoints.weights.archive import Record
from cjkclip.checkpoints.weights.pickle import MAX_BYTES, Machine
from cjkclip.checkpoints.weights.rebuild import Globals, Strided, tensors_of
from cjkclip.checkpoints.weights.tensors import Tensors, short, view
from cjkclip.errors import WeightsError

MAX_SHARING = 16  # how many tensors may share the same bytes
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


def read_zip(data: mmap.mmap, archive: Mapping[str, Record]) -> Tensors:
    """Return the tensors of a zip of torch.save or torch.jit.save with the records `archive`."""
    records = {name: (record.start, record.size) for name, record in archive.items() if record.plain}
    for name in archive:
        if name not in records and "/code/" not in name:  # TorchScript's sources may be compressed; they are never read
            raise WeightsError(
                f"record {short(name)} is compressed or encrypted; torch stores it plain. Unpack the file and pack "
                "its directory with: zip -0 -r model.pt DIRECTORY"
            )
    root = _root(records)
    pickled = _pickled(data, *records[f"{root}data.pkl"], archive[f"{root}data.pkl"].checksum)
    if f"{root}byteorder" in records:
        start, size = records[f"{root}byteorder"]
        if data[start : start + min(size, 9)] != b"little":
            raise WeightsError("it was saved on a big-endian machine. Save it again on a little-endian one")
    table = Globals(script=f"{root}constants.pkl" in records)
    tensors = tensors_of(Machine(table.find, table.load).run(io.BytesIO(pickled)))
    for storage in {tensor.storage for tensor in tensors.values()}:
        name = f"{root}data/{storage.key}"
        if name not in records:
            raise WeightsError(f"record {short(name)} is missing. Download the file again")
        storage.start, size = records[name]
        if size != storage.size:
            raise WeightsError(f"record {short(name)} has {size} bytes, its pickle expects {storage.size}")
    return _tensors(data, tensors)


def read_legacy(data: mmap.mmap) -> Tensors:
    """Return the tensors of a file that torch.save wrote without a zip: five pickles, then the storages."""
    table = Globals(script=False)
    machine = Machine(table.find, table.load)
    stream = io.BytesIO(data[:MAX_BYTES])
    if machine.run(stream) != LEGACY_MAGIC:
        raise WeightsError("it is a plain pickle, not a file of torch.save. Save its arrays as safetensors")
    protocol, system = machine.run(stream), machine.run(stream)
    little = isinstance(system, dict) and cast(dict[object, object], system).get("little_endian") is True
    if protocol != LEGACY_PROTOCOL or not little:
        raise WeightsError(
            "it has another version or byte order than torch.save writes today. Save it again with a current torch"
        )
    tensors = tensors_of(machine.run(stream))
    names = machine.run(stream)
    keys = [key for key in cast(list[object], names) if isinstance(key, str)] if isinstance(names, list) else []
    if sorted(keys) != sorted(table.storages):
        raise WeightsError("its list of storages does not match its tensors")
    place = stream.tell()
    for key in keys:
        storage = table.storages[key]
        if data[place : place + 8] != storage.count.to_bytes(8, "little"):
            raise WeightsError(
                f"storage {short(key)} is truncated or not as long as its pickle says. Download the file again"
            )
        storage.start = place + 8
        place += 8 + storage.size
    if place != len(data):
        raise WeightsError(f"its storages end at byte {place}, the file at byte {len(data)}. Download it again")
    return _tensors(data, tensors)


def _pickled(data: mmap.mmap, start: int, size: int, checksum: int) -> bytes:
    if size > MAX_BYTES:
        raise WeightsError(f"its data.pkl has more than {MAX_BYTES} bytes, more than any checkpoint")
    pickled = data[start : start + size]
    if checksum and zlib.crc32(pickled) != checksum:  # 0: torch was configured to compute none
        raise WeightsError("its data.pkl is damaged (the checksum differs). Download the file again")
    return pickled


def _tensors(data: mmap.mmap, strided: dict[str, Strided]) -> Tensors:
    tensors, total = Tensors(), 0
    for name, tensor in strided.items():
        storage, item = tensor.storage, tensor.element.size
        sizes = zip(tensor.shape, tensor.stride, strict=True)
        count = _product(tensor.shape)
        end = tensor.offset + (1 + sum((size - 1) * step for size, step in sizes) if count else 0)
        if storage.start is None or end * item > storage.size or count * item > storage.size:
            raise WeightsError(f"tensor {short(name)} needs more bytes than its storage has")
        total += count * item
        if total > MAX_SHARING * len(data):
            raise WeightsError(f"its tensors need more than {MAX_SHARING} times the bytes of the file")
        start = storage.start + tensor.offset * item
        tensors.put(name, view(data, start, tensor.element.name, tensor.shape, tensor.stride))
    return tensors


def _product(shape: Iterable[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _root(records: dict[str, tuple[int, int]]) -> str:
    """Return the only directory of the archive, with its slash."""
    roots = [name.removesuffix("data.pkl") for name in records if name.endswith("/data.pkl")]
    if len(roots) != 1 or roots[0].count("/") != 1:
        first = ", ".join(short(name) for name in list(records)[:4])
        raise WeightsError(
            f"it is a zip archive, but neither of torch nor a NumPy .npz (it contains {first}). "
            "Expected a file of torch.save or torch.jit.save, or safetensors"
        )
    return roots[0]
