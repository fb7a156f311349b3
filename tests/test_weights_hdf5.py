"""HDF5 files: as h5py and Keras lay them out, and everything in such a file that is not a plain array in it."""

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from cjkclip.checkpoints.weights import read, write
from cjkclip.errors import MissingDependencyError, WeightsError
from support.damaged import hold, refused

BASE = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
KINDS = ("?", "u1", "i1", "<i2", "<u2", "<f2", "<i4", "<u4", "<f4", "<f8", "<i8", "<u8")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tf_model.h5"


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_datasets_are_views_of_the_file_under_their_full_paths(file, libver):
    arrays = {f"kind/{kind.strip('<')}": np.ones((2, 1), kind) for kind in KINDS}
    arrays |= {"a/tf_model/名前/kernel:0": BASE, "a/scalar:0": np.float32([2.5]), "none": np.array(3.5)}
    arrays |= {"empty": np.zeros((0, 2), np.float16), "turned": BASE.transpose(2, 0, 1)}
    with h5py.File(file, "w", libver=libver) as made:
        for name, array in arrays.items():
            made[name] = array
        made.create_group("top_level_model_weights")
        made.attrs["layer_names"] = [b"a"]
    ours = read(file)
    assert set(ours) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(ours[name], array, strict=True)
        assert not ours[name].flags.writeable
    assert not ours["kind/u1"].flags.owndata  # where the address allows it


def links(made: h5py.File) -> None:
    made["linked"] = h5py.SoftLink("/w")


def external_link(made: h5py.File) -> None:
    made["linked"] = h5py.ExternalLink("/etc/passwd", "/w")


def external_storage(made: h5py.File) -> None:
    made.create_dataset("out", (4,), "u1", external=[("/etc/passwd", 0, 4)])


def virtual(made: h5py.File) -> None:
    layout = h5py.VirtualLayout((2,), "<f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "w", (2,))
    made.create_virtual_dataset("seen", layout)


def twice(made: h5py.File) -> None:
    made["group/again"] = made["group"]


def filtered(name: str) -> object:
    return lambda made: made.create_dataset("packed", data=BASE, **{name: True})


def odd_float(made: h5py.File) -> None:
    """Numbers of 16 bits with the exponent of float32: NumPy has none, and h5py takes the next best."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    space = h5py.h5s.create_simple((2,))
    h5py.h5d.create(made.id, b"odd", kind, space).write(space, space, np.ones(2, "<f4"))


def unplugged(made: h5py.File) -> None:
    """A filter that nobody has; creating it is allowed when it may be left out."""
    made_with = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made_with.set_chunk((2,))
    made_with.set_filter(32_099, h5py.h5z.FLAG_OPTIONAL)
    h5py.h5d.create(made.id, b"packed", h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((2,)), made_with)


SPOILT = {
    "soft link": (links, "'linked' is a link, which is not followed"),
    "external link": (external_link, "'linked' is a link, which is not followed"),
    "external storage": (external_storage, "'out' is in chunks, compressed, or not in this file"),
    "virtual": (virtual, "'seen' is in chunks, compressed, or not"),
    "group in itself": (twice, "'group/again' is neither an array nor a group, or a group in two places"),
    "type": (lambda made: made.__setitem__("t", np.dtype("<f4")), "'t' is neither an array nor a group"),
    "chunks": (lambda made: made.create_dataset("c", data=BASE, chunks=(1, 3, 4)), "'c' is in chunks"),
    "deflated": (lambda made: made.create_dataset("c", data=BASE, compression="gzip"), "'c' is in chunks, compressed"),
    "shuffled": (filtered("shuffle"), "'packed' is in chunks"),
    "checked": (filtered("fletcher32"), "'packed' is in chunks"),
    "filter that nobody has": (unplugged, "'packed' is in chunks"),
    "compact": (lambda made: made.create_dataset("c", data=h5py.Empty("f4")), "'c' is in chunks"),
    "big-endian": (
        lambda made: made.__setitem__("b", BASE.astype(">f4")),
        "'b' of >f4 cannot be read, expected one of",
    ),
    "complex": (lambda made: made.__setitem__("b", BASE.astype("<c8")), "'b' of complex64 cannot be read"),
    "texts": (lambda made: made.__setitem__("b", ["文字"]), "'b' of object cannot be read"),
    "fields": (lambda made: made.__setitem__("b", np.zeros(2, [("a", "<f4")])), r"'b' of \[.* cannot be read"),
    "odd numbers": (odd_float, "'odd' of .* cannot be read"),
    "never written": (lambda made: made.create_dataset("b", (3,), "<f4"), "'b' has no content: it was never written"),
    "long name": (lambda made: made.__setitem__("n" * 600 + "/" + "n" * 600, BASE), "too long names"),
}


@pytest.mark.parametrize("case", SPOILT)
def test_what_is_no_plain_array_in_the_file_is_refused(file, case):
    change, words = SPOILT[case]
    with h5py.File(file, "w") as made:
        made["w"] = BASE
        made["group/w"] = BASE
    assert set(read(file)) == {"w", "group/w"}
    with h5py.File(file, "a") as made:
        change(made)
    refused(file, words)


def test_a_file_without_end_is_not_walked(file, monkeypatch):
    with h5py.File(file, "w") as made:
        for i in range(30):
            made.create_group(f"{i}/a/b")
    assert read(file) == {}
    monkeypatch.setattr("cjkclip.checkpoints.weights.hdf5.MAX_PARTS", 80)
    refused(file, "more than 80 parts")


def test_a_file_that_is_cut_short(file):
    with h5py.File(file, "w") as made:
        made["w"] = BASE
    content = file.read_bytes()
    for size in (8, 99, len(content) // 2, len(content) - 1):
        file.write_bytes(content[:size])
        refused(file, "its HDF5 is damaged")


def test_without_h5py_the_extra_is_named(file, monkeypatch):
    with h5py.File(file, "w") as made:
        made["w"] = BASE
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        MissingDependencyError, match=r"needs h5py, which is not installed: pip install 'cjkclip\[h5\]'"
    ):
        read(file)


def test_hdf5_is_read_only(tmp_path):
    with pytest.raises(WeightsError, match=r"w.h5: .h5 files are read but not written"):
        write(tmp_path / "w.h5", {"w": np.ones(1)})


@pytest.mark.parametrize("libver", ["earliest", "latest"])
def test_300_mutations_give_tensors_or_a_weights_error(tmp_path, libver):
    with h5py.File(tmp_path / libver, "w", libver=libver) as made:
        made["a/m/w:0"], made["b:0"], made["i"] = BASE, np.ones(3), np.arange(2)
    hold(tmp_path / libver, 300)
