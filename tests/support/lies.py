"""Corrupt files in a valid outer form, with wrong content. One function per container."""

import io
import json
import pickletools
import random
import struct
import tarfile
import warnings
import zipfile
import zlib
from functools import cache
from typing import Any

from support.mutations import blocks, mutate, near

CLIMBING = ("../up", "/up", "..\\up", "C:\\up", "a/../../up", "./../up", "\\\\host\\share", "up\x00down", "", ".", "..")
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 1 << 31, (1 << 63) - 1, 1 << 63, 1 << 64, 10**4200, 1.5, 1e308, -0.0),
    *(float("nan"), float("inf"), "", "F32", "BF16", "F8_E4M3", "gelu", "x" * 5000, "\ud800", "\x00", *CLIMBING[:4]),
    *([], {}, [[]], [None], [1 << 62, 1 << 62], [0, -1], {"a": 1}, {"content": 3}, [{}] * 3, ["a", "b"]),
)
MODULES = (
    b"os\nsystem\n",
    b"builtins\neval\n",
    b"builtins\ngetattr\n",
    b"torch\nload\n",
    b"torch.storage\nos.system\n",
)
SHALLOW, DEEP = 60, 100_000


def lie_json(rng: random.Random, content: bytes) -> bytes:
    """Replace, drop, double or nest without end one to three values, names or entries of a JSON file."""
    if rng.random() < 0.15:
        return rng.choice((mutate, blocks))(rng, content)
    data = json.loads(content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = _lied(rng, data)
    text = json.dumps(data, ensure_ascii=rng.random() < 0.7).encode("utf-8", "surrogatepass")
    if isinstance(data, dict) and data and rng.random() < 0.05:
        key = rng.choice(list(data))
        text = b"{" + json.dumps({key: rng.choice((data[key], None))})[1:-1].encode() + b", " + text[1:]
    if rng.random() < 0.03:
        opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}")))
        deep = rng.choice((SHALLOW, DEEP))
        text = text.replace(b": ", b": " + opening * deep + b"1" + closing * deep + b', "more": ', 1)
    return text


def _lied(rng: random.Random, data: Any) -> Any:
    """Return `data` with one node changed; every level is equally likely."""
    if not isinstance(data, dict | list) or not data or rng.random() < 0.02:
        return rng.choice(ODD)
    key = rng.choice(list(data) if isinstance(data, dict) else range(len(data)))
    if isinstance(data[key], dict | list) and data[key] and rng.random() < 0.75:
        data[key] = _lied(rng, data[key])
        return data
    kind = rng.random()
    if kind < 0.15:
        del data[key]
    elif kind < 0.25 and isinstance(data, dict):
        data[rng.choice((*CLIMBING, key + "x", key[:-1], "n" * 2000))] = data.pop(key)
    elif kind < 0.35:
        other = rng.choice(list(data.values()) if isinstance(data, dict) else data)
        data[key] = other
    elif type(data[key]) is int and kind < 0.7:
        data[key] = rng.choice((data[key] + 1, data[key] - 1, -data[key], data[key] * 2, data[key] << 31))
    else:
        data[key] = rng.choice(ODD)
    return data


def lie_safetensors(rng: random.Random, content: bytes) -> bytes:
    """Corrupt the JSON of the header, or the length before it."""
    size = int.from_bytes(content[:8], "little")
    kind = rng.random()
    if kind < 0.1:
        length = rng.choice((0, 1, size - 1, size + 1, len(content), 1 << 31, (1 << 63) - 1, (1 << 64) - 1))
        return struct.pack("<Q", length) + content[8:]
    header, rest = content[8 : 8 + size], content[8 + size :]
    header = mutate(rng, header) if kind < 0.3 else lie_json(rng, header)
    return struct.pack("<Q", len(header)) + header + rest


def lie_pickle(rng: random.Random, content: bytes) -> bytes:
    """Change, drop or double opcodes of a pickle: numbers, names and steps."""
    ops = [(op, at) for op, _, at in pickletools.genops(content)]
    i = rng.randrange(len(ops) - 1)
    (op, at), after = ops[i], ops[i + 1][1]
    kind = rng.randrange(6)
    if kind == 0:
        return content[:at] + content[after:]
    if kind == 1:
        return content[:after] + content[at:after] * rng.choice((1, 3, 3000)) + content[after:]
    if kind == 2:
        return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
    if kind == 3:
        return content[:at] + b"c" + rng.choice(MODULES) + rng.choice((b"", b")R", b"X\x01\0\0\0x\x85R")) + content[at:]
    if "INT" in op.name:
        number = rng.choice(
            (b"J\xff\xff\xff\xff", b"J\xff\xff\xff\x7f", b"\x8a\x08" + b"\xff" * 7 + b"\x7f", b"N", b"K\0")
        )
        return content[:at] + number + content[after:]
    return content[:at] + mutate(rng, content[at:after]) + content[after:]


def lie_legacy(rng: random.Random, content: bytes) -> bytes:
    """Corrupt the fourth pickle at the start of a legacy file of torch.save, which contains the tensors."""
    stream = io.BytesIO(content)
    ends = [0]
    for _ in range(5):
        for _op in pickletools.genops(stream):
            pass
        ends.append(stream.tell())
    turn = rng.choice((0, 1, 2, 3, 3, 3, 3, 4))
    start, end = ends[turn], ends[turn + 1]
    return content[:start] + lie_pickle(rng, content[start:end]) + content[end:]


def lie_zip(rng: random.Random, content: bytes) -> bytes:
    """Corrupt records, names, packing or tables of a zip; its pickle, if any, keeps a correct checksum."""
    kind = rng.random()
    if kind < 0.35:
        return near(rng, content, (b"PK\x01\x02", b"PK\x01\x02", b"PK\x05\x06", b"PK\x03\x04", b"PK\x06\x06"))
    with zipfile.ZipFile(io.BytesIO(content)) as old:
        records = [(name, old.read(name)) for name in old.namelist()]
    pickles = [i for i, (name, _) in enumerate(records) if name.endswith("data.pkl")]
    i = rng.randrange(len(records))
    name, inner = records[i]
    if kind < 0.7 and (pickles or name.endswith(".npy")):
        i = pickles[0] if pickles else i
        spoil = (lie_pickle if rng.random() < 0.8 else mutate) if pickles else lie_npy
        records[i] = (records[i][0], spoil(rng, records[i][1]))
    elif kind < 0.75:
        records[i] = (rng.choice(CLIMBING) or "x", inner)
    elif kind < 0.8:
        records.append((rng.choice((name, "other/data.pkl", "../up", "/up", "__init__.py")), inner))
    elif kind < 0.85:
        records.pop(i)
    elif kind < 0.9:
        rng.shuffle(records)
    elif inner:
        records[i] = (name, rng.choice((mutate, blocks))(rng, inner))
    return _zipped(rng, records, bomb=rng.random() < 0.06)


def lie_npy(rng: random.Random, content: bytes) -> bytes:
    """Corrupt the header of a .npy file."""
    if rng.random() < 0.4:
        return near(rng, content, (b"\x93NUMPY", b"descr", b"shape", b"fortran"))
    end = 10 + int.from_bytes(content[8:10], "little")
    header = content[10:end].decode("latin-1")
    old, new = rng.choice(
        (
            ("'<f4'", rng.choice(("'|O'", "'>f4'", "'<f8'", "'<V4'", "[('a','<f4')]", "None", "'<U9'", "'<M8[s]'"))),
            (
                "'shape': (",
                rng.choice(("'shape': (-1, ", "'shape': (9**9**9, ", "'shape': (1<<62, ", "'shape': (True, ")),
            ),
            ("'shape': (", f"'shape': ({'(' * rng.choice((50, 3000))}"),
            ("False", rng.choice(("True", "None", "__import__('os')", "[] * 10**9", "'a' * 10**10"))),
            ("'shape': (", "'shape': (" + "9" * rng.choice((18, 20, 5000)) + ", "),
        )
    )
    text = header.replace(old, new).encode("latin-1")
    return content[:8] + struct.pack("<H", min(len(text), 65535)) + text + content[end:]


def _zipped(rng: random.Random, records: list[tuple[str, bytes]], *, bomb: bool) -> bytes:
    """Write an archive of these records, stored or packed; with `bomb` one record unpacks to a gigabyte."""
    method = rng.choice((zipfile.ZIP_STORED,) * 4 + (zipfile.ZIP_DEFLATED,))
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as new:
        warnings.simplefilter("ignore")  # zipfile warns about a name that occurs twice
        for name, inner in records:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = method
            new.writestr(entry, b"BOMB" * 64 if bomb and name == records[0][0] else inner)
    content = out.getvalue()
    return _with_bomb(content, rng) if bomb else content


def _with_bomb(content: bytes, rng: random.Random) -> bytes:
    """Replace the marked record by a decompression bomb, with its size in the tables or with the old size."""
    packed, size = _bomb()
    at = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x03\x04", 4) if content.count(b"PK\x03\x04") > 1 else at
    length = len(content[26:28]) and int.from_bytes(content[26:28], "little")
    said = rng.choice((size, 256, 60 << 20, (1 << 32) - 2))
    local = (
        content[:8] + b"\x08\0" + content[10:14] + struct.pack("<III", 0, len(packed), said) + content[26 : 30 + length]
    )
    body = local + packed
    shift = len(body) - end
    middle, table = content[end:at], bytearray(content[at:])
    place = 0
    for turn in range(content.count(b"PK\x01\x02")):
        if table[place : place + 4] != b"PK\x01\x02":
            break
        if turn == 0:
            table[place + 10 : place + 12] = b"\x08\0"
            table[place + 16 : place + 28] = struct.pack("<III", 0, len(packed), said)
        else:
            offset = int.from_bytes(table[place + 42 : place + 46], "little") + shift
            table[place + 42 : place + 46] = struct.pack("<I", offset)
        place += 46 + sum(struct.unpack("<HHH", table[place + 28 : place + 34]))
    offset = int.from_bytes(table[place + 16 : place + 20], "little") + shift
    table[place + 16 : place + 20] = struct.pack("<I", offset)
    return body + middle + bytes(table)


@cache
def _bomb() -> tuple[bytes, int]:
    """Return 256 MiB of zeros, deflated, and that size."""
    size = 256 << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(size >> 20)) + packer.flush(), size


def lie_tar(rng: random.Random, content: bytes) -> bytes:
    """Corrupt a tar of torch.save before 0.1.10: names that leave the directory, links, or damage."""
    if rng.random() < 0.5:
        return rng.choice((mutate, blocks))(rng, content)
    out = io.BytesIO(content)
    with tarfile.open(fileobj=out, mode="a") as archive:
        entry = tarfile.TarInfo(rng.choice(CLIMBING) or "x")
        entry.type = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.REGTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE))
        entry.linkname = rng.choice(("/etc/passwd", "../..", "tensors"))
        archive.addfile(entry)
    return out.getvalue()


def lie_msgpack(rng: random.Random, content: bytes) -> bytes:
    """Corrupt lengths, types and names in the tree of a Flax file."""
    return near(
        rng, content, (b"kernel", b"bias", b"float32", b"layers", b"text_model", b"embedding", b"scale", b"\xc7")
    )


def lie_hdf5(rng: random.Random, content: bytes) -> bytes:
    """Corrupt tables of an HDF5 file: trees, heaps, symbol tables, the file header."""
    return near(rng, content, (b"\x89HDF", b"TREE", b"HEAP", b"SNOD", b"kernel", b"\x11\0\x10\0", b"\x08\0\x18\0"))


def lie_lines(rng: random.Random, content: bytes) -> bytes:
    """Double, swap, drop, empty or replace lines of a vocabulary."""
    lines = content.split(b"\n")
    for _ in range(rng.choice((1, 2, 9))):
        i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
        odd = rng.choice((b"", b" ", b"\r", b"\x00", b"\xff", b"a b c", b"x" * 100_000, "\u2028".encode(), lines[j]))
        lines[i] = odd
        lines[j:j] = [lines[i]] if rng.random() < 0.3 else []
    return b"\n".join(lines)
