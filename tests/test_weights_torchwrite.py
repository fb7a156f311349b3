"""Files of torch.save that we write: torch reads them bit for bit. test_peers.py loads them with their packages."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from ml_dtypes import bfloat16

from cjkclip.checkpoints.weights import read, write
from cjkclip.checkpoints.weights.torchwrite import write_torch
from cjkclip.errors import WeightsError

BASE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
KINDS = ("?", "u1", "i1", "<i2", "<f2", "<i4", "<f4", "<f8", "<i8")
ARRAYS = {
    **{f"kind.{kind.strip('<')}": np.array([[3], [1]]).astype(kind) for kind in KINDS},
    "turned": BASE.transpose(2, 0, 1),
    "stepped": BASE[:, ::2, ::-1],
    "num_batches_tracked": np.array(7, np.int64),
    "empty": np.zeros((0, 2), np.float16),
    "名前.重み": np.ones(3, np.float16),
    "bf16": np.array([1, -3.140625], bfloat16),
}


def assert_loads(file: Path, under: str | None) -> None:
    theirs = torch.load(file, weights_only=True)
    state = theirs if under is None else theirs[under]
    assert under is None or list(theirs) == [under]
    assert list(state) == list(ARRAYS)
    for name, tensor in state.items():
        half = tensor.dtype == torch.bfloat16
        assert tensor.is_contiguous()
        bits = tensor.view(torch.int16).numpy().view(bfloat16) if half else tensor.numpy()
        np.testing.assert_array_equal(bits, ARRAYS[name], strict=True)


@pytest.mark.parametrize("under", [None, "state_dict"])
@pytest.mark.parametrize("suffix", ["pt", "pth", "bin"])
def test_torch_loads_what_we_write(tmp_path, suffix, under):
    file = tmp_path / f"w.{suffix}"
    write(file, ARRAYS, under=under)
    assert_loads(file, under)
    ours = read(file)
    assert list(ours) == list(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(ours[name], array, strict=True)


@pytest.mark.parametrize("mapped", [True, False])
def test_storages_are_aligned_like_torch_s_and_can_be_mapped(tmp_path, mapped):
    write(tmp_path / "ours.pt", ARRAYS)
    state = torch.load(tmp_path / "ours.pt", weights_only=True, mmap=mapped)
    assert state["turned"][3, 1, 2] == BASE[1, 2, 3]
    torch.save(state, tmp_path / "archive.pt")  # whose stem torch takes for the folder in the zip
    content = (tmp_path / "ours.pt").read_bytes()
    with zipfile.ZipFile(tmp_path / "ours.pt") as ours, zipfile.ZipFile(tmp_path / "archive.pt") as theirs:
        assert set(ours.namelist()) <= set(theirs.namelist())
        assert ours.testzip() is None
        for entry in ours.infolist():
            start = entry.header_offset + 30 + sum(content[entry.header_offset + at] for at in (26, 28))
            assert start % 64 == 0
            named = not entry.filename.endswith("data.pkl")  # the pickles differ in their memo alone
            assert not named or ours.read(entry.filename) == theirs.read(entry.filename)


def test_the_same_tensors_make_the_same_bytes(tmp_path):
    write(tmp_path / "1.pt", ARRAYS, under="state_dict")
    write(tmp_path / "2.pt", read(tmp_path / "1.pt"), under="state_dict")
    assert (tmp_path / "1.pt").read_bytes() == (tmp_path / "2.pt").read_bytes()


def test_a_tensor_of_more_elements_than_a_short_number_holds(tmp_path, monkeypatch):
    """Its pickle alone is looked at: the storage stays empty."""
    huge = np.broadcast_to(np.int8(1), (1 << 16, 1 << 16))
    monkeypatch.setattr("cjkclip.checkpoints.weights.torchwrite.stored_bytes", lambda *_: b"")
    write_torch(tmp_path / "w.pt", {"w": huge})
    seen: list[tuple[object, ...]] = []

    class Reader(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> object:
            return {"_rebuild_tensor_v2": lambda *args: seen.append(args)}.get(name, dict)

        def persistent_load(self, pid: tuple[object, ...]) -> object:
            return pid[-1]

    with zipfile.ZipFile(tmp_path / "w.pt") as archive:
        Reader(io.BytesIO(archive.read("archive/data.pkl"))).load()
    assert seen == [(1 << 32, 0, (1 << 16, 1 << 16), (1 << 16, 1), False, {})]


def test_what_torch_has_no_storage_for_is_refused(tmp_path):
    for array in (np.ones(1, np.uint16), np.ones(1, np.uint64), np.ones(1, np.complex64), np.array(["text"])):
        with pytest.raises(WeightsError, match=r"tensor 'w' of .* cannot be stored"):
            write(tmp_path / "w.pt", {"w": array})
    with pytest.raises(WeightsError, match="no place for metadata"):
        write(tmp_path / "w.pt", {"w": np.ones(1)}, {"made": "here"})
    with pytest.raises(WeightsError, match="only torch's files have a dict around"):
        write(tmp_path / "w.safetensors", {"w": np.ones(1)}, under="state_dict")
    with pytest.raises(WeightsError, match="cannot be written"):
        write(tmp_path / "nowhere" / "w.pt", {"w": np.ones(1)})
    assert list(tmp_path.iterdir()) == []
