"""Weight files whose container is damaged, lies, or is another one: always WeightsError, never a surprise."""

import json
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from cjkclip.checkpoints.weights import read
from support.damaged import hold, refused

STATE = {"w": torch.arange(6.0).view(2, 3).t(), "b": torch.ones(3).bfloat16(), "i": torch.arange(2)}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\x00", "no known file type .first bytes: 00"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "its HDF5 is damaged"),
        (b"\x93NUMPY\x01\x00", "a NumPy .npy file"),
        (b"\x1f\x8b\x08\x00", "gzip file; unpack it"),
        (b"GGUF\x03\x00", "GGUF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\x83\xa1a", "msgpack"),
        (b"\xde\x00\x10", "msgpack"),
        (b"PK\x05\x06" + bytes(18), "an empty zip archive"),
        (b"PK\x03\x04" + bytes(40), "zip archive is truncated or damaged"),
        (bytes(257) + b"ustar\x0000", "a tar archive of .* save it again: torch.save"),
        (b"{}", "JSON without a 'weight_map'"),
        (b'{"weight_map": 3}', "JSON without a 'weight_map'"),
        (b"{" * 100_000, "JSON is damaged"),
        (b'{"weight_map": {"a": "b", "a": "c"}}', "a name occurs twice"),
        (random.Random(0).randbytes(4096), "no known file type"),
    ],
)
def test_what_is_no_checkpoint_is_said_to_look_like_what_it_is(tmp_path, content, words):
    (tmp_path / "model.safetensors").write_bytes(content)
    refused(tmp_path / "model.safetensors", words)


def test_names_do_not_matter(tmp_path):
    torch.save(STATE, tmp_path / "model.safetensors")
    safetensors.torch.save_file({"w": torch.ones(2)}, tmp_path / "model.pt")
    assert set(read(tmp_path / "model.safetensors")) == set(STATE)
    assert set(read(tmp_path / "model.pt")) == {"w"}


@pytest.mark.parametrize("length", [0x7B, 0x0280, 0x0480, 0x4B50])
def test_a_safetensors_length_may_look_like_another_container(tmp_path, length):
    """Its first bytes are those of JSON, of two pickles, and of half a zip."""
    header = json.dumps({"w": entry()}).encode().ljust(length)
    (tmp_path / "w").write_bytes(struct.pack("<Q", length) + header + np.ones(2, "<f4").tobytes())
    assert read(tmp_path / "w")["w"].tolist() == [1, 1]
    safetensors.deserialize((tmp_path / "w").read_bytes())


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8), **more: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets, **more}


HEADERS: dict[str, tuple[object, str]] = {
    "element type": ({"w": entry("F8_E4M3", (8,))}, "element type 'F8_E4M3', expected one of BOOL"),
    "element type that is a number": ({"w": entry(3)}, "element type 3"),
    "too few bytes": ({"w": entry(shape=(3,))}, "needs 12 bytes, its header gives 8"),
    "negative size": ({"w": entry(shape=(-2,))}, "impossible shape"),
    "size that is a truth": ({"w": entry(shape=(True, 2))}, "impossible shape"),
    "size that is a fraction": ({"w": entry(shape=(2.0,))}, "impossible shape"),
    "shape that is a number": ({"w": entry(shape=2)}, "impossible shape"),
    "huge shape": ({"w": entry(shape=(1 << 62, 1 << 62))}, "needs"),
    "empty but endless": ({"w": entry(shape=(0, 1 << 62, 1 << 62), offsets=(0, 0)), "x": entry()}, "does not fit"),
    "many dimensions": ({"w": entry(shape=(1,) * 70 + (2,))}, "71 dimensions"),
    "negative offset": ({"w": entry(offsets=(-8, 0))}, "impossible shape or place"),
    "backward offsets": ({"w": entry(offsets=(8, 0))}, "needs 8 bytes"),
    "three offsets": ({"w": entry(offsets=(0, 4, 8))}, "impossible shape or place"),
    "beyond the end": ({"w": entry(shape=(4,), offsets=(0, 16))}, "describes .* bytes, the file has"),
    "bytes left over": ({"w": entry(shape=(1,), offsets=(0, 4))}, "describes .* bytes, the file has"),
    "overlap": ({"w": entry(), "x": entry()}, "a gap or an overlap before tensor 'x'"),
    "gap": ({"w": entry(offsets=(8, 16))}, "a gap or an overlap"),
    "no offsets": ({"w": {"dtype": "F32", "shape": [2]}}, "does not describe tensor 'w'"),
    "more than it should": ({"w": entry(strides=(1,))}, "does not describe tensor 'w'"),
    "tensor that is a number": ({"w": 3}, "does not describe tensor 'w'"),
    "metadata that is no table": ({"__metadata__": 3, "w": entry()}, "metadata is not a table of strings"),
    "metadata of numbers": ({"__metadata__": {"a": 3}, "w": entry()}, "metadata is not a table of strings"),
    "name that is no text": ({"\ud800": entry()}, "JSON is damaged"),
    "name with a line break": ({"a\nb" * 99: 3}, r"does not describe tensor 'a\\nba\\nb"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_safetensors_header_that_lies(tmp_path, case):
    header, words = HEADERS[case]
    text = json.dumps(header).encode()
    (tmp_path / "w.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    refused(tmp_path / "w.safetensors", words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (struct.pack("<Q", 1 << 62) + b"{}", "should have 4611686018427387904 bytes, in a file of 10"),
        (struct.pack("<Q", 50 << 20) + b"{}" + bytes(51 << 20), "is truncated or damaged"),
        (struct.pack("<Q", 20) + b"{}", "is truncated or damaged"),
        (struct.pack("<Q", 3) + b"{]}", "JSON is damaged"),
        (struct.pack("<Q", 4) + b'{"\xff"', "JSON is damaged"),
        (struct.pack("<Q", 300_000) + b'{"a":' * 60_000, "JSON is damaged"),
        (struct.pack("<Q", 16) + b'{"a":{},"a":{} }', "a name occurs twice"),
        (struct.pack("<Q", 6000) + b'{"a":' + b"9" * 5995, "JSON is damaged"),
    ],
)
def test_a_safetensors_header_that_cannot_be_read(tmp_path, content, words):
    (tmp_path / "w.safetensors").write_bytes(content)
    refused(tmp_path / "w.safetensors", words)


def rezip(file: Path, change: Callable[[dict[str, bytes]], object], method: int = zipfile.ZIP_STORED) -> Path:
    """Write the archive again after `change` has had its records."""
    with zipfile.ZipFile(file) as old:
        records = {name: old.read(name) for name in old.namelist()}
    change(records)
    with zipfile.ZipFile(file, "w", method) as new:
        for name, content in records.items():
            new.writestr(name, content)
    return file


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.save(STATE, tmp_path / "model.pt")
    return tmp_path / "model.pt"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update({"../evil": b""}), "'../evil' that points outside"),
        (lambda r: r.update({"/etc/evil": b""}), "'/etc/evil' that points outside"),
        (lambda r: r.update({"model/data/../../evil": b""}), "points outside"),
        (lambda r: r.pop("model/data/0"), "record 'model/data/0' is missing"),
        (lambda r: r.update({"model/data/0": b"short"}), "has 5 bytes, its pickle expects 24"),
        (lambda r: r.update({"model/byteorder": b"big"}), "big-endian"),
        (lambda r: r.update({"other/data.pkl": b""}), "neither of torch"),
        (lambda r: r.pop("model/data.pkl"), "neither of torch nor a NumPy .npz .it contains 'model"),
        (lambda r: (r.clear(), r.update({"arr_0.npy": b"", "notes.txt": b""})), "neither of torch"),
        (lambda r: (r.clear(), r.update({"data.pkl": b""})), "neither of torch"),
    ],
)
def test_an_archive_that_is_not_torch_s(saved, change, words):
    assert set(read(rezip(saved, lambda records: None))) == set(STATE)
    refused(rezip(saved, change), words)


def test_a_compressed_archive_is_refused(saved):
    refused(rezip(saved, lambda records: None, zipfile.ZIP_DEFLATED), "is compressed or encrypted")


def spoil(file: Path, sign: bytes, nth: int, offset: int, patch: bytes) -> Path:
    """Overwrite bytes `offset` behind the nth place where `sign` stands."""
    content, at = bytearray(file.read_bytes()), -1
    for _ in range(nth + 1):
        at = content.index(sign, at + 1)
    content[at + offset : at + offset + len(patch)] = patch
    file.write_bytes(content)
    return file


@pytest.mark.parametrize(
    ("sign", "nth", "offset", "patch", "words"),
    [
        (b"PK\x01\x02", 4, 24, b"\xff\xff\xff\x7f", "is compressed or encrypted"),  # longer than it is stored
        (b"PK\x01\x02", 4, 20, b"\xff\xff\xff\x7f\xff\xff\xff\x7f", "ends beyond the file"),
        (b"PK\x01\x02", 4, 8, b"\x01", "is compressed or encrypted"),
        (b"PK\x01\x02", 4, 10, b"\x08", "is compressed or encrypted"),
        (b"PK\x01\x02", 5, 42, b"\x00\x00\x00\x00", "is not where the table of contents says"),  # two in one place
        (b"PK\x01\x02", 5, 42, b"\xf0\xff\xff\x00", "is not where the table of contents says"),
        (b"PK\x01\x02", 0, 16, b"\x01\x02\x03\x04", "checksum"),
        (b"PK\x03\x04", 4, 0, b"XX", "is not where the table of contents says"),
        (b"model/data/1", 1, 11, b"0", "two records named 'model/data/0'"),
    ],
)
def test_a_table_of_contents_that_lies(saved, sign, nth, offset, patch, words):
    refused(spoil(saved, sign, nth, offset, patch), words)


def test_a_table_of_contents_without_end_is_not_read(saved, monkeypatch):
    monkeypatch.setattr("cjkclip.checkpoints.weights.archive.MAX_DIRECTORY", 300)
    refused(saved, "table of contents is too long")
    monkeypatch.undo()
    monkeypatch.setattr("cjkclip.checkpoints.weights.torchfile.MAX_BYTES", 10)
    refused(saved, "data.pkl has more than 10 bytes")


def test_an_archive_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE, tmp_path / "model.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    assert set(read(tmp_path / "model.pt")) == set(STATE)


@pytest.mark.parametrize(
    ("sign", "nth", "offset", "patch", "words"),
    [
        (b"\x8a\x0a", 0, 2, b"\x00", "a plain pickle"),
        (b"M\xe9\x03", 0, 1, b"\xe8", "another version or byte order"),
        (b"little_endian", 0, 15, b"\x89", "another version or byte order"),
        (struct.pack("<Q", 6), 0, 0, b"\x07", "not as long as its pickle says"),
    ],
)
def test_a_legacy_file_that_lies(tmp_path, sign, nth, offset, patch, words):
    torch.save(STATE, tmp_path / "model.pt", _use_new_zipfile_serialization=False)
    refused(spoil(tmp_path / "model.pt", sign, nth, offset, patch), words)


def test_a_legacy_file_has_to_end_where_its_storages_do(tmp_path):
    file = tmp_path / "model.pt"
    torch.save(STATE, file, _use_new_zipfile_serialization=False)
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    refused(file, "storages end at byte")
    file.write_bytes(whole + b"\x00")
    refused(file, "storages end at byte")


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_100_mutations_give_tensors_or_a_weights_error(tmp_path, form):
    file = tmp_path / form
    if form == "safetensors":
        safetensors.torch.save_file({name: t.contiguous() for name, t in STATE.items()}, file)
        hold(file, 100, lambda content, _: safetensors.deserialize(content))  # never laxer than the library
    else:
        torch.save(STATE, file, _use_new_zipfile_serialization=form == "zip")
        hold(file, 100)
