"""Flax's msgpack files: every form of the encoding, what is written, and files that lie."""

import json
import mmap
import struct
from pathlib import Path

import numpy as np
import pytest
from ml_dtypes import bfloat16

from cjkclip.checkpoints.weights import Tensors, find, read, write
from cjkclip.checkpoints.weights.msgpack import head, pack, read_value
from cjkclip.errors import WeightsError
from support.damaged import hold

LONGEST = {"map": 0xDF, "array": 0xDD, "str": 0xDB, "bin": 0xC6, "ext": 0xC9}
KINDS = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "uint16",
    "float16",
    "int32",
    "uint32",
    "float32",
    "float64",
    "int64",
    "uint64",
)


def long(kind: str, length: int) -> bytes:
    """The first bytes of something in the form with four bytes for its length, which any length may have."""
    return bytes([LONGEST[kind]]) + struct.pack(">I", length)


def text(value: str) -> bytes:
    return long("str", len(value.encode())) + value.encode()


def table(entries: dict[str, bytes]) -> bytes:
    return long("map", len(entries)) + b"".join(text(key) + value for key, value in entries.items())


def array(shape: tuple[int, ...], kind: str, content: bytes, code: int = 1) -> bytes:
    """An array as flax packs one: an extension that is msgpack itself."""
    sides = b"".join(b"\xd3" + struct.pack(">q", side) for side in shape)
    inside = b"\x93" + long("array", len(shape)) + sides + text(kind) + long("bin", len(content)) + content
    return long("ext", len(inside)) + bytes([code]) + inside


ONE = array((2,), "float32", struct.pack("<2f", 1, 2))


def read_bytes(folder: Path, content: bytes) -> Tensors:
    (folder / "flax_model.msgpack").write_bytes(content)
    return read(folder / "flax_model.msgpack")


def from_bytes(folder: Path, content: bytes) -> object:
    (folder / "value").write_bytes(content)
    with (folder / "value").open("rb") as file:
        return read_value(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), 0, len(content))


def refused(folder: Path, content: bytes, words: str) -> None:
    with pytest.raises(WeightsError, match=words) as caught:
        read_bytes(folder, content)
    assert str(caught.value).startswith("flax_model.msgpack: ")
    assert len(str(caught.value)) < 1000


def test_a_tree_is_flattened_and_every_element_type_is_read(tmp_path):
    arrays = {kind: np.arange(6).reshape(2, 3).astype(kind) for kind in KINDS}
    leaves = {kind: array((2, 3), kind, a.tobytes()) for kind, a in arrays.items()}
    leaves["bfloat16"] = array((2,), "bfloat16", bytes.fromhex("803f49c0"))
    leaves |= {"scalar": array((), "float32", struct.pack("<f", 2.5), code=3), "empty": array((0, 3), "int8", b"")}
    ours = read_bytes(tmp_path, table({"a": table({"名前": table(leaves)}), "none": table({})}))
    for kind, expected in arrays.items():
        np.testing.assert_array_equal(ours[f"a/名前/{kind}"], expected, strict=True)
    np.testing.assert_array_equal(ours["a/名前/bfloat16"], np.array([1.0, -3.140625], bfloat16), strict=True)
    assert ours["a/名前/scalar"].shape == ()
    assert ours["a/名前/scalar"] == 2.5
    assert ours["a/名前/empty"].shape == (0, 3)
    assert len(ours) == len(KINDS) + 3
    assert not any(a.flags.writeable for a in ours.values())


NUMBERS = {
    "00": 0, "7f": 127, "e0": -32, "ff": -1, "cc80": 128, "cdffff": 65535, "ce80000000": 1 << 31,
    "cf4000000000000000": 1 << 62, "d0ff": -1, "d18000": -32768, "d280000000": -(1 << 31),
    "d38000000000000000": -(1 << 63), "ca3fc00000": 1.5, "cbbff0000000000000": -1.0, "c2": False, "c3": True,
}  # fmt: skip


@pytest.mark.parametrize("code", NUMBERS)
def test_plain_numbers_are_arrays_without_axes(tmp_path, code):
    got = read_bytes(tmp_path, table({"step": bytes.fromhex(code)}))["step"]
    assert got.shape == ()
    assert got.item() == NUMBERS[code]
    assert got.dtype == np.array(NUMBERS[code]).dtype


FIRST = {  # kind -> from which length on which first byte
    "str": {0: 0xA0, 32: 0xD9, 256: 0xDA, 65536: 0xDB},
    "bin": {0: 0xC4, 256: 0xC5, 65536: 0xC6},
    "array": {0: 0x90, 16: 0xDC, 65536: 0xDD},
    "map": {0: 0x80, 16: 0xDE, 65536: 0xDF},
    "ext": {0: 0xC7, 1: 0xD4, 2: 0xD5, 3: 0xC7, 4: 0xD6, 5: 0xC7, 8: 0xD7, 9: 0xC7, 16: 0xD8, 17: 0xC7, 256: 0xC8,
            65536: 0xC9},
}  # fmt: skip


@pytest.mark.parametrize("kind", FIRST)
def test_every_length_has_its_own_form(tmp_path, kind):
    """Packed in the shortest form, and read like what this file packs in the longest."""
    for start in FIRST[kind]:
        for size in {max(start - 1, 0), start}:
            if size < 60_000 or kind not in ("array", "map"):  # which take long to check
                check_form(tmp_path, kind, size)
            else:
                assert head(kind, size)[0] == FIRST[kind][65536 if size == 65536 else 16]


def check_form(tmp_path: Path, kind: str, size: int) -> None:
    keys = [f"{i:05}" for i in range(size)]
    value, body = {
        "str": ("x" * size, b"x" * size),
        "bin": (b"x" * size, b"x" * size),
        "ext": ((7, [b"x" * size]), b"\x07" + b"x" * size),
        "array": ([5] * size, b"\x05" * size),
        "map": (dict.fromkeys(keys, 5), b"".join(b"\xa5" + key.encode() + b"\x05" for key in keys)),
    }[kind]
    packed, longest = b"".join(pack(value)), long(kind, size) + body
    first = next(byte for start, byte in reversed(FIRST[kind].items()) if size >= start)
    assert packed[0] == first + (size if first in (0x80, 0x90, 0xA0) else 0)
    assert packed.endswith(body)
    for content in (packed, longest):
        got, start = from_bytes(tmp_path, content), len(content) - size
        assert got == {"bin": (start, size, None), "ext": (start, size, 7)}.get(kind, value)


def test_arrays_that_flax_cut_because_of_their_length(tmp_path, monkeypatch):
    halves = {str(i): array((3,), "bfloat16", bytes.fromhex("803f") * 3) for i in (1, 0)}
    cut = {"__msgpack_chunked_array__": b"\xc3", "shape": table({"0": b"\x02", "1": b"\x03"}), "chunks": table(halves)}
    ours = read_bytes(tmp_path, table({"w": table(cut)}))
    np.testing.assert_array_equal(ours["w"], np.ones((2, 3), bfloat16), strict=True)
    monkeypatch.setattr("cjkclip.checkpoints.weights.flax.CHUNK", 9)  # a piece has whole elements: 8 bytes
    tensors = Tensors({"w": np.arange(6, dtype="<f4").reshape(2, 3), "v": np.ones(2, np.float32)})
    write(tmp_path / "cut.msgpack", tensors)
    assert (tmp_path / "cut.msgpack").read_bytes().count(b"\x91\x02\xa7float32") == 4
    np.testing.assert_array_equal(read(tmp_path / "cut.msgpack")["w"], tensors["w"], strict=True)
    for words, change in {
        "different types": {"chunks": table({"0": array((3,), "int8", b"abc"), "1": halves["1"]})},
        "is split into pieces": {"chunks": table({"0": array((1, 3), "bfloat16", bytes(6)), "1": halves["1"]})},
        "types or shapes": {"chunks": table({"1": halves["1"]})},
        "or shapes": {"chunks": b"\x01"},
        "impossible shape": {"shape": table({"0": b"\xff", "1": b"\xfa"})},
        "cannot have 12 bytes": {"shape": table({"0": b"\x02", "1": b"\x04"})},
        "cannot have": {"shape": table({"1": b"\x06"})},
    }.items():
        refused(tmp_path, table({"w": table(cut | change)}), words)


def test_what_is_written_is_read_back_bit_for_bit_and_is_sorted(tmp_path):
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    arrays = {
        "b/2/w": base.transpose(2, 0, 1),
        "b/10/w": base[:, ::2],
        "a": np.array(3.5, np.float16),
        "b/x": np.zeros((0, 2)),
    }
    tensors = {**arrays, "c": np.array([1, -3.140625], bfloat16)}
    write(tmp_path / "1.msgpack", tensors)
    write(tmp_path / "2.msgpack", dict(reversed(tensors.items())))
    assert (tmp_path / "1.msgpack").read_bytes() == (tmp_path / "2.msgpack").read_bytes()
    again = read(tmp_path / "1.msgpack")
    assert list(again) == ["a", "b/10/w", "b/2/w", "b/x", "c"]
    for name, array in tensors.items():
        np.testing.assert_array_equal(again[name], array, strict=True)
    write(tmp_path / "3.msgpack", {"a": np.arange(2, dtype="<i4")})
    expected = "81 a1 61 c7 13 01 93 91 02 a5 69 6e 74 33 32 c4 08 00 00 00 00 01 00 00 00"
    assert (tmp_path / "3.msgpack").read_bytes().hex(" ") == expected


def test_names_and_element_types_that_have_no_place(tmp_path):
    for names in (("a", "a/b"), ("a/b/c", "a/b")):
        with pytest.raises(WeightsError, match="a part of its path is an array itself"):
            write(tmp_path / "w.msgpack", dict.fromkeys(names, np.ones(1)))
    with pytest.raises(WeightsError, match="cannot be stored"):
        write(tmp_path / "w.msgpack", {"a": np.ones(1, np.complex64)})
    with pytest.raises(WeightsError, match="no place for metadata"):
        write(tmp_path / "w.msgpack", {"a": np.ones(1)}, {"made": "here"})
    assert list(tmp_path.iterdir()) == []


def test_a_sharded_checkpoint_of_flax(tmp_path):
    parts = {f"flax_model-{i}-of-2.msgpack": {f"layers/{i}/w": np.full(2, i, np.float32)} for i in (1, 2)}
    for name, tensors in parts.items():
        write(tmp_path / name, tensors)
    places = {tensor: name for name, tensors in parts.items() for tensor in tensors}
    (tmp_path / "flax_model.msgpack.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    ours = read(find(tmp_path))
    assert {name: array.tolist() for name, array in ours.items()} == {"layers/1/w": [1, 1], "layers/2/w": [2, 2]}


DEEP = text("a").join([b"\x81"] * 70)
LIES = {
    "cut short": (table({"a": ONE})[:-1], "goes beyond its end"),
    "cut in a key": (b"\x81\xa5ab", "goes beyond its end"),
    "more behind it": (table({"a": ONE}) + b"\xc0", "ends at byte"),
    "endless table": (b"\xdf\xff\xff\xff\xff" + text("a") + ONE, "goes beyond"),
    "endless list": (table({"a": b"\xdd\xff\xff\xff\xff"}), "goes beyond"),
    "endless text": (b"\x81\xdb\xff\xff\xff\xff", "goes beyond"),
    "endless bytes": (table({"a": b"\xc6\xff\xff\xff\xff"}), "goes beyond"),
    "endless extension": (table({"a": b"\xc9\xff\xff\xff\xff\x01"}), "goes beyond"),
    "byte without a meaning": (table({"a": b"\xc1"}), "a byte 0xc1"),
    "key twice": (b"\x82" + text("a") + ONE + text("a") + ONE, "'a' occurs twice"),
    "key that is a number": (b"\x82" + text("a") + ONE + b"\x01" + ONE, "a key that is not a string"),
    "empty key": (b"\x81\xa0" + ONE, "a key that is not a string, or empty"),
    "key that is no UTF-8": (b"\x81\xa1\xff" + ONE, "not UTF-8"),
    "deep": (DEEP + text("a") + ONE, "more than 64 levels"),
    "long name": (table({"a" * 500: table({"b" * 500: ONE})}), "more than 1000 characters"),
    "same name twice": (table({"a/b": ONE, "a": table({"b": ONE})}), "two tensors have the name 'a/b'"),
    "text": (table({"a": text("b")}), "entry 'a' is 'b', expected one of flax's arrays"),
    "nothing": (table({"a": b"\xc0"}), "entry 'a' is a NoneType"),
    "bytes": (table({"a": b"\xc4\x01b"}), "entry 'a' is a Bytes"),
    "list": (table({"a": b"\x91\x01"}), "entry 'a' is a list"),
    "huge number": (table({"a": b"\xcf" + b"\xff" * 8}), "entry 'a' is 18446744073709551615"),
    "complex number": (table({"a": array((), "float32", bytes(4), code=2)}), "entry 'a' is a Bytes"),
    "date": (table({"a": b"\xd6\xff" + bytes(4)}), "entry 'a' is a Bytes"),
    "array of a number": (table({"a": b"\xd4\x01\x07"}), "'a' is not a list of shape"),
    "array of two": (table({"a": b"\xd6\x01\x92\x90\xa1f"}), "'a' is not a list of shape"),
    "array without bytes": (table({"a": b"\xd6\x01\x93\x90\xa0\xc0"}), "'a' is not a list of shape"),
    "array with more behind it": (table({"a": b"\xd7\x01\x93\x90\xa0\xc4\x00\xc0\xc0\xc0"}), "ends at byte"),
    "array that is longer inside": (table({"a": b"\xd6\x01\x93\x90\xa0\xc4", "b": ONE}), "goes beyond"),
    "objects": (table({"a": array((1,), "object", bytes(8))}), "has element type 'object', expected one of bool"),
    "too few bytes": (table({"a": array((3,), "float32", bytes(8))}), r"shape \(3,\) and type float32 cannot have 8"),
    "too many bytes": (table({"a": array((), "float32", bytes(8))}), "cannot have 8 bytes"),
    "negative shape": (table({"a": array((-1, -2), "float32", bytes(8))}), "impossible shape"),
    "endless and empty": (table({"a": array((0, 1 << 62, 1 << 62), "float32", b"")}), "does not fit"),
    "many dimensions": (table({"a": array((1,) * 40, "float32", bytes(4))}), "40 dimensions"),
    "shape of fractions": (table({"a": b"\xc7\x0f\1\x93\x91\xca" + bytes(4) + b"\xa4int8\xc4\1\7"}), "impossible"),
}  # fmt: skip


@pytest.mark.parametrize("case", LIES)
def test_a_tree_that_lies(tmp_path, case):
    refused(tmp_path, *LIES[case])


def test_a_small_file_cannot_claim_endless_time(tmp_path, monkeypatch):
    monkeypatch.setattr("cjkclip.checkpoints.weights.msgpack.MAX_VALUES", 1000)
    refused(tmp_path, table({"a": b"\xdd" + struct.pack(">I", 2000) + b"\xc0" * 2000}), "more than 1000 values")


def test_300_mutations_give_tensors_or_a_weights_error(tmp_path):
    inner = {"w": ONE, "b": array((3,), "bfloat16", bytes(6)), "s": array((), "int64", bytes(8), code=3)}
    file = tmp_path / "sound.msgpack"
    file.write_bytes(table({"inner": table(inner), "step": b"\x07"}))
    assert len(read(file)) == 4
    hold(file, 300)
    write(file, read(file))
    hold(file, 300)
