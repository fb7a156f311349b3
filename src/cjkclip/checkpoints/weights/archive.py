"""Find the records of a zip archive in the mapped file, without unpacking them.

Records that overlap, are not at their listed place, or have a path outside the archive raise WeightsError.
"""

import io
import mmap
import struct
import zipfile
from typing import NamedTuple

from cjkclip.checkpoints.weights.tensors import short
from cjkclip.errors import WeightsError

MAX_DIRECTORY = 8 << 20  # bytes of a table of contents: room for 100,000 records


class Record(NamedTuple):
    """The place of a record in the file, and its stored and unpacked size in bytes."""

    start: int
    stored: int
    size: int
    method: int  # zipfile's number; -1 if it is encrypted
    checksum: int

    @property
    def plain(self) -> bool:
        """Whether its bytes are neither compressed nor encrypted."""
        return self.method == zipfile.ZIP_STORED and self.stored == self.size


def read_records(data: mmap.mmap) -> dict[str, Record]:
    """Return every record of a zip archive by name, in the order of the file."""
    try:
        with zipfile.ZipFile(_Window(data)) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError, OverflowError) as error:
        raise WeightsError(
            f"its zip archive is truncated or damaged ({str(error)[:200]}). Download the file again"
        ) from error
    records: dict[str, Record] = {}
    free = 0
    for entry in sorted(entries, key=lambda entry: entry.header_offset):
        name, at = entry.filename, entry.header_offset
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise WeightsError(f"its archive has a record {short(name)} that points outside the archive")
        if name in records:
            raise WeightsError(f"its archive has two records named {short(name)}")
        header = data[at : at + 30]
        if at < free or len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise WeightsError(
                f"record {short(name)} of its archive is not where the table of contents says. Download the file again"
            )
        start = at + 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        free = start + entry.compress_size
        if free > len(data):
            raise WeightsError(f"record {short(name)} ends beyond the file, which is truncated. Download it again")
        method = -1 if entry.flag_bits & 1 else entry.compress_type
        records[name] = Record(start, entry.compress_size, entry.file_size, method, entry.CRC)
    return records


class _Window(io.RawIOBase):
    """The mapped file for zipfile. It limits reads, because zipfile reads a table of contents of any length."""

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
