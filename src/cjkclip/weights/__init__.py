"""Weight files -> {name: array}, and back to safetensors. A file never runs code, whatever it says.

Containers, told apart by their first bytes and never by their names: safetensors, the index of a sharded
checkpoint, the zip files of torch.save and torch.jit.save, the older files of torch.save. None needs torch.
Refuses: every other container, naming what the file looks like; files that are damaged, cut short, or lie
about their sizes. All of these are WeightsError.
"""

import mmap
from pathlib import Path
from typing import cast

from cjkclip.errors import ModelNotFoundError, WeightsError
from cjkclip.weights.safetensors import parse_json, read_safetensors, write
from cjkclip.weights.tensors import Tensors, short
from cjkclip.weights.torchfile import read_legacy, read_zip

__all__ = ["Tensors", "find", "read", "write"]

# In this order a folder is searched; after these, its only file with one of the suffixes.
FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
)
SUFFIXES = (".pt", ".pth", ".safetensors", ".bin")
# What training tools leave beside the weights.
NOT_WEIGHTS = ("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt")

_SIGNS = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (TensorFlow, Keras)"),
    (b"\x93NUMPY", "a NumPy .npy file"),
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"GGUF", "a GGUF file"),
    (b"version https://git-lfs", "a pointer of git-lfs, not the file itself; run 'git lfs pull'"),
    (b"<", "a web page or XML, so probably a failed download"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\xde\x00", "msgpack (Flax)"),
    (b"\xdf\x00", "msgpack (Flax)"),
    *((bytes([first]), "msgpack (Flax)") for first in range(0x81, 0x90)),
)


def find(folder: Path) -> Path:
    """The weight file in `folder`: the first of `FILES`, else the only one with one of `SUFFIXES`.

    Raises ModelNotFoundError if there is none, WeightsError if only the caller can choose.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelNotFoundError(f"{folder} is not a folder")
    for name in FILES:
        if (folder / name).is_file():
            return folder / name
    left = sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file() and p.name not in NOT_WEIGHTS)
    if not left:
        raise ModelNotFoundError(
            f"{folder} holds no weight file: expected {', '.join(FILES)}, or one file ending in {', '.join(SUFFIXES)}"
        )
    if len(left) > 1:
        names = ", ".join(p.name for p in left[:20])
        raise WeightsError(f"{folder} holds several weight files ({names}); name the one you mean")
    return left[0]


def read(path: Path) -> Tensors:
    """The tensors in a weight file: {name: read-only array}, views of the file where that is possible.

    For an index, those of all its shards. See `Tensors` for bfloat16 and what else is kept beside the arrays.
    Raises ModelNotFoundError if there is no such file, WeightsError for anything that cannot be read safely.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; read(find(folder)) reads the weight file in it")
    if not path.is_file():
        raise ModelNotFoundError(f"there is no weight file {path}")
    data = _map(path)
    try:
        return _read_index(path, data) if _is_json(data) else _read_one(data)
    except WeightsError as error:
        raise WeightsError(f"{path.name}: {error}") from error


def _map(path: Path) -> mmap.mmap:
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except ValueError as error:
        raise WeightsError(f"{path.name}: the file is empty (0 bytes); fetch it again") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error


def _is_json(data: mmap.mmap) -> bool:
    return data[:1] == b"{" and b"\x00" not in data[:9]  # a safetensors length may begin with the byte of a brace


def _read_one(data: mmap.mmap) -> Tensors:
    # safetensors first: its length can begin like any of the others, but no length fills more than four bytes
    if data[4:9] == b"\x00\x00\x00\x00{":
        return read_safetensors(data)
    if data[:4] == b"PK\x03\x04":
        return read_zip(data)
    if data[:1] == b"\x80" and data[1:2] <= b"\x05":
        return read_legacy(data)
    if data[8:9] == b"{":  # so that a length that lies is called by its name
        return read_safetensors(data)
    looks = next((what for sign, what in _SIGNS if data[: len(sign)] == sign), None)
    if data[257:262] == b"ustar":
        looks = "a tar archive (torch before 0.1.10, or NeMo)"
    looks = looks or f"nothing known (it begins with the bytes {data[:8].hex(' ')})"
    raise WeightsError(f"this looks like {looks}. Expected safetensors, or a file of torch.save or torch.jit.save")


def _read_index(path: Path, data: mmap.mmap) -> Tensors:
    """All shards, which have to hold exactly the tensors that the index says."""
    shards = parse_json(data[:]).get("weight_map")
    if not isinstance(shards, dict):
        raise WeightsError("this is JSON without a 'weight_map', so no index of a sharded checkpoint")
    tensors, places = Tensors(), cast(dict[str, object], shards)
    for shard in dict.fromkeys(str(place) for place in places.values()):
        if Path(shard).name != shard or "\\" in shard:
            raise WeightsError(f"it names a shard {short(shard)}, which is not a file beside it")
        if not (path.parent / shard).is_file():
            raise WeightsError(f"its shard {short(shard)} is missing")
        try:
            part = _read_one(_map(path.parent / shard))
        except WeightsError as error:
            raise WeightsError(f"shard {short(shard)}: {error}") from error
        if set(part) != {name for name, place in places.items() if place == shard}:
            raise WeightsError(f"shard {short(shard)} does not hold the tensors that the index says")
        tensors.update(part)
        tensors.dtypes.update(part.dtypes)
    return tensors
