"""NumPy's .npz: as NumPy writes it, plain and compressed, and archives that lie."""

import io
import pickle
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from cjkclip.checkpoints.weights import read, write
from cjkclip.errors import WeightsError
from support.damaged import hold, refused

BASE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
ARRAYS = {
    **{
        f"kind {kind.strip('<')}": np.ones((2, 1), kind)
        for kind in ("?", "u1", "i1", "<i2", "<u2", "<f2", "<i4", "<u4")
    },
    **{f"kind {kind.strip('<')}": np.ones((2, 1), kind) for kind in ("<f4", "<f8", "<i8", "<u8")},
    "by column": np.asfortranarray(BASE),
    "turned": BASE.transpose(2, 0, 1),
    "scalar": np.array(2.5, np.float32),
    "empty": np.zeros((0, 2), np.float16),
    "text/名前": np.ones(3, np.float16),
}


def header(descr: object = "<f4", order: object = False, shape: object = (2,), **more: object) -> str:
    return repr({"descr": descr, "fortran_order": order, "shape": shape, **more})


def npy(head: str, content: bytes = b"\0\0\x80?\0\0\0@", version: int = 1) -> bytes:
    """A .npy file with this header, whatever it says."""
    length = struct.pack("<H" if version == 1 else "<I", len(head))
    return b"\x93NUMPY" + bytes([version, 0]) + length + head.encode("latin-1") + content


def archive(folder: Path, content: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    """An archive whose only record is `content`."""
    with zipfile.ZipFile(folder / "w.npz", "w", method) as out:
        out.writestr("w.npy", content)
    return folder / "w.npz"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_files_of_numpy(tmp_path, save):
    save(tmp_path / "w.npz", **ARRAYS)
    ours = read(tmp_path / "w.npz")
    assert list(ours) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(ours[name], array, strict=True)
        assert not ours[name].flags.writeable
    assert ours["by column"].flags.f_contiguous
    assert not ours["kind u1"].flags.owndata  # where the address allows it, a view of the file or of what was unpacked


@pytest.mark.parametrize("version", [1, 2, 3])
def test_every_version_of_the_header(tmp_path, version):
    for head in (header(), header() + " " * 64 + "\n", header(shape=(2,)).replace("2,", "2L,")):
        got = read(archive(tmp_path, npy(head, version=version)))["w"]
        np.testing.assert_array_equal(got, np.float32([1, 2]), strict=True)


LIES = {
    "objects": (npy(header("|O"), pickle.dumps(print)), "its elements are '|O': these are Python objects"),
    "big-endian": (npy(header(">f4")), "its elements are '>f4'. Expected one of"),
    "texts": (npy(header("<U2")), "its elements are '<U2'"),
    "complex numbers": (npy(header("<c8", shape=(1,))), "its elements are '<c8'"),
    "raw bytes": (npy(header("|V2", shape=(4,))), "its elements are '|V2'"),
    "fields": (npy(header([("a", "<f4")])), "its elements are a list"),
    "negative shape": (npy(header(shape=(-2,))), "impossible shape"),
    "shape of a truth": (npy(header(shape=(True, 2))), "impossible shape"),
    "shape that is a number": (npy(header(shape=2)), "impossible shape"),
    "order that is a number": (npy(header(order=0)), "impossible shape or order"),
    "endless shape": (npy(header(shape=(1 << 62, 4))), "does not have its 8 bytes"),
    "endless and empty": (npy(header(shape=(0, 1 << 62, 1 << 62)), b""), "does not fit"),
    "many dimensions": (npy(header(shape=(1,) * 39 + (2,))), "40 dimensions"),
    "too few bytes": (npy(header(shape=(3,))), "does not have its 8 bytes"),
    "too many bytes": (npy(header(shape=())), "does not have its 8 bytes"),
    "something else": (npy(header(version=1)), "contain exactly"),
    "nothing": (npy("{}"), "does not contain exactly descr"),
    "list": (npy("[1]"), "does not contain exactly descr"),
    "call": (npy("print('bitten')"), "header is damaged"),
    "brackets": (npy("(" * 9000), "header is damaged"),
    "half a table": (npy("{"), "header is damaged"),
    "long header": (npy(header() + " " * 10_001), "does not begin like a .npy file"),
    "header beyond the end": (npy(header())[:30], "does not begin like"),
    "no header": (b"", "record 'w.npy': it does not begin like a .npy"),
    "other file": (b"\x93NUMPX" + npy(header())[6:], "does not begin like"),
}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["plain", "packed"])
@pytest.mark.parametrize("case", LIES)
def test_a_record_that_lies(tmp_path, case, method):
    content, words = LIES[case]
    refused(archive(tmp_path, content, method), words)


def test_records_that_do_not_unpack_to_what_the_archive_says(tmp_path):
    file = archive(tmp_path, npy(header()), zipfile.ZIP_DEFLATED)
    sound = file.read_bytes()
    assert read(file)["w"].tolist() == [1, 2]
    entry, size = sound.index(b"PK\x01\x02"), len(npy(header()))
    for at, patch, words in (
        (entry + 16, b"\1\2\3\4", "does not unpack to the"),  # the checksum
        (entry + 24, bytes([size + 1]), "does not unpack to the"),
        (entry + 24, bytes([size - 1]), "does not unpack to the"),
        (entry + 10, b"\x0c", "compressed by a method that NumPy does not use"),
        (entry + 8, b"\x01", "it is encrypted"),
        (40, b"\xff\xff\xff", "compressed bytes are damaged"),
        (entry + 24, b"\0\0\0\x7f", "records unpack to 2130706432 bytes, too much for a file of"),
    ):
        file.write_bytes(sound[:at] + patch + sound[at + len(patch) :])
        refused(file, words)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    """A record that unpacks to more than it says stops there; records that say so are not touched at all."""
    zeros = npy(header(shape=(1 << 20,)), bytes(4 << 20))
    file = archive(tmp_path, zeros, zipfile.ZIP_DEFLATED)
    assert read(file)["w"].shape == (1 << 20,)
    content = bytearray(file.read_bytes())
    entry = content.index(b"PK\x01\x02")
    content[entry + 24 : entry + 28] = struct.pack("<I", 1000)
    asked: list[int] = []
    unpacker = zlib.decompressobj

    class Watched:
        eof = False

        def __init__(self, *args: int) -> None:
            self.inner = unpacker(*args)

        def decompress(self, packed: bytes, most: int) -> bytes:
            asked.append(most)
            return self.inner.decompress(packed, most)

    monkeypatch.setattr(zlib, "decompressobj", Watched)
    file.write_bytes(content)
    refused(file, "does not unpack to the 1000 bytes")
    assert asked == [1001]
    monkeypatch.setattr("cjkclip.checkpoints.weights.npz.MIN_LIMIT", 1 << 20)
    archive(tmp_path, zeros, zipfile.ZIP_DEFLATED)
    refused(file, "records unpack to 4194375")
    assert asked == [1001]


def test_npz_is_read_only(tmp_path):
    with pytest.raises(
        WeightsError, match=r"w.npz: .npz files are read but not written. Use a name that ends in .safetensors"
    ):
        write(tmp_path / "w.npz", {"w": np.ones(1)})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_300_mutations_give_tensors_or_a_weights_error(tmp_path, save):
    content = io.BytesIO()
    save(content, w=BASE, b=np.asfortranarray(BASE), i=np.arange(3))
    (tmp_path / save.__name__).write_bytes(content.getvalue())
    hold(tmp_path / save.__name__, 300)
