"""Files of torch.save and torch.jit.save, read without torch: the zip form and the older run of pickles.

A zip's tensors are views of the mapped file. Its checksums are verified for the pickle, not for the tensors,
which would mean to read every byte.
Refuses: compressed or encrypted records, records that overlap or climb out of the archive, big-endian files,
storages of another size than the pickle says, and tensors that together claim far more than the file holds.
"""

import io
import mmap
import struct
import zipfile
import zlib
from collections.abc import Iterable
from typing import cast

from cjkclip.errors import WeightsError
from cjkclip.weights.pickle import MAX_BYTES, Machine
from cjkclip.weights.rebuild import Globals, Strided, tensors_of
from cjkclip.weights.tensors import Tensors, short, view

MAX_DIRECTORY = 8 << 20  # bytes of a zip's table of contents: room for 100,000 records
MAX_SHARING = 16  # how often the same bytes may be used by several tensors
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001


def read_zip(data: mmap.mmap) -> Tensors:
    """The tensors of a zip written by torch.save or torch.jit.save."""
    try:
        with zipfile.ZipFile(_Window(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, OverflowError) as error:
        raise WeightsError(f"its zip archive is damaged or cut short ({str(error)[:200]})") from error
    records = _records(data, entries)
    root = _root(records)
    pickled = _pickled(data, *records[f"{root}data.pkl"], {e.filename: e.CRC for e in entries}[f"{root}data.pkl"])
    if f"{root}byteorder" in records:
        start, size = records[f"{root}byteorder"]
        if data[start : start + min(size, 9)] != b"little":
            raise WeightsError("it was saved on a big-endian machine; save it again on a little-endian one")
    known = Globals(script=f"{root}constants.pkl" in records)
    tensors = tensors_of(Machine(known.find, known.load).run(io.BytesIO(pickled)))
    for storage in {tensor.storage for tensor in tensors.values()}:
        name = f"{root}data/{storage.key}"
        if name not in records:
            raise WeightsError(f"record {short(name)} is missing")
        storage.start, size = records[name]
        if size != storage.size:
            raise WeightsError(f"record {short(name)} has {size} bytes, its pickle says {storage.size}")
    return _tensors(data, tensors)


def read_legacy(data: mmap.mmap) -> Tensors:
    """The tensors of a file that torch.save wrote without a zip: five pickles, then the storages."""
    known = Globals(script=False)
    machine = Machine(known.find, known.load)
    stream = io.BytesIO(data[:MAX_BYTES])
    if machine.run(stream) != LEGACY_MAGIC:
        raise WeightsError("it is a plain pickle, not a file of torch.save; save its arrays as safetensors")
    protocol, system = machine.run(stream), machine.run(stream)
    little = isinstance(system, dict) and cast(dict[object, object], system).get("little_endian") is True
    if protocol != LEGACY_PROTOCOL or not little:
        raise WeightsError("it has another version or byte order than torch.save writes on today's machines")
    tensors = tensors_of(machine.run(stream))
    listed = machine.run(stream)
    keys = [key for key in cast(list[object], listed) if isinstance(key, str)] if isinstance(listed, list) else []
    if sorted(keys) != sorted(known.storages):
        raise WeightsError("the list of its storages is not that of its tensors")
    place = stream.tell()
    for key in keys:
        storage = known.storages[key]
        if data[place : place + 8] != storage.count.to_bytes(8, "little"):
            raise WeightsError(f"storage {short(key)} is cut short or not as long as its pickle says")
        storage.start = place + 8
        place += 8 + storage.size
    if place != len(data):
        raise WeightsError(f"its storages end at byte {place}, the file at {len(data)}")
    return _tensors(data, tensors)


def _pickled(data: mmap.mmap, start: int, size: int, checksum: int) -> bytes:
    if size > MAX_BYTES:
        raise WeightsError(f"its data.pkl has more than {MAX_BYTES} bytes; no checkpoint has")
    pickled = data[start : start + size]
    if checksum and zlib.crc32(pickled) != checksum:  # 0: torch was told to compute none
        raise WeightsError("its data.pkl is damaged (the checksum differs)")
    return pickled


def _tensors(data: mmap.mmap, strided: dict[str, Strided]) -> Tensors:
    tensors, total = Tensors(), 0
    for name, tensor in strided.items():
        storage, item = tensor.storage, tensor.element.size
        sizes = zip(tensor.shape, tensor.stride, strict=True)
        count = _product(tensor.shape)
        end = tensor.offset + (1 + sum((size - 1) * step for size, step in sizes) if count else 0)
        if storage.start is None or end * item > storage.size or count * item > storage.size:
            raise WeightsError(f"tensor {short(name)} claims more than its storage holds")
        total += count * item
        if total > MAX_SHARING * len(data):
            raise WeightsError(f"its tensors claim more than {MAX_SHARING} times the bytes of the file")
        start = storage.start + tensor.offset * item
        tensors.put(name, tensor.element.name, view(data, start, tensor.element.name, tensor.shape, tensor.stride))
    return tensors


def _product(shape: Iterable[int]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


def _root(records: dict[str, tuple[int, int]]) -> str:
    """The one folder in the archive, with its slash."""
    roots = [name.removesuffix("data.pkl") for name in records if name.endswith("/data.pkl")]
    if len(roots) != 1 or roots[0].count("/") != 1:
        looks = "a NumPy .npz file" if any(name.endswith(".npy") for name in records) else "no checkpoint"
        first = ", ".join(short(name) for name in list(records)[:4])
        raise WeightsError(
            f"it is a zip archive but not one of torch (it looks like {looks}; it holds {first}). "
            "Expected a file of torch.save or torch.jit.save, or safetensors"
        )
    return roots[0]


def _records(data: mmap.mmap, entries: list[zipfile.ZipInfo]) -> dict[str, tuple[int, int]]:
    """Where each stored record's bytes begin in the file, and how many they are."""
    records: dict[str, tuple[int, int]] = {}
    free = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        name, at = entry.filename, entry.header_offset
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise WeightsError(f"its archive has a record {short(name)} that climbs out of it")
        if name in records:
            raise WeightsError(f"its archive has two records named {short(name)}")
        header = data[at : at + 30]
        if at < free or len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise WeightsError(f"record {short(name)} of its archive is not where the archive says")
        start = at + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        free = start + entry.compress_size
        if free > len(data):
            raise WeightsError(f"record {short(name)} ends beyond the file, which is cut short")
        plain = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1
        if plain and entry.compress_size == entry.file_size:
            records[name] = (start, entry.file_size)
        elif "/code/" not in name:  # TorchScript's sources may be compressed: they are never read
            raise WeightsError(f"record {short(name)} is compressed or encrypted; torch stores it as it is")
    return records


class _Window(io.RawIOBase):
    """The file for zipfile, which would read a table of contents of any length into memory."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.place = data, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self.place = max(0, offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: len(self.data)}[whence])
        return self.place

    def read(self, size: int = -1, /) -> bytes:
        end = len(self.data) if size < 0 else min(len(self.data), self.place + size)
        if end - self.place > MAX_DIRECTORY:
            raise zipfile.BadZipFile("its table of contents is too long")
        piece = self.data[self.place : end]
        self.place = max(self.place, end)
        return piece
