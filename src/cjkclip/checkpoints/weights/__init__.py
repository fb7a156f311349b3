"""Weight files -> {name: array}, and back. A file never runs code, whatever it says.

Containers, told apart by their first bytes and never by their names: safetensors, the index of a sharded
checkpoint, the zip files of torch.save and torch.jit.save, the older files of torch.save, Flax's msgpack, NumPy's
.npz, HDF5. None needs the framework that wrote it; HDF5 needs h5py. Written: safetensors, torch's zip, msgpack.
Refuses: every other container, naming what the file looks like; files that are damaged, cut short, or lie
about their sizes. All of these are WeightsError.
"""

import mmap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import cast

import numpy as np

from cjkclip.checkpoints.weights.safetensors import parse_json, read_safetensors, write_safetensors
from cjkclip.checkpoints.weights.tensors import Tensors, short
from cjkclip.errors import ModelNotFoundError, WeightsError
from cjkclip.machine.mapped import MappedFile

__all__ = ["Tensors", "find", "read", "wanted", "write"]

# In this order a folder is searched; after these, its only file with one of the first suffixes, or else the second.
FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "flax_model.msgpack",
    "flax_model.msgpack.index.json",
    "tf_model.h5",
)
SUFFIXES = (".pt", ".pth", ".safetensors", ".bin"), (".msgpack", ".h5", ".npz")
# What training tools leave beside the weights.
NOT_WEIGHTS = ("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scaler.pt")

_SIGNS = (
    (b"\x93NUMPY", "a NumPy .npy file"),
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"GGUF", "a GGUF file"),
    (b"version https://git-lfs", "a pointer of git-lfs, not the file itself; run 'git lfs pull'"),
    (b"<", "a web page or XML, so probably a failed download"),
    (b"PK\x05\x06", "an empty zip archive"),
)


def find(folder: Path) -> Path:
    """The weight file in `folder`: the first of `FILES`, else the only one with one of `SUFFIXES`.

    open_clip's come first where config.json is timm's: its image encoder lies beside them, under transformers' names.
    Raises ModelNotFoundError if there is none, WeightsError if only the caller can choose, or may not read the folder.
    """
    folder = Path(folder)
    try:
        if not folder.is_dir():
            raise ModelNotFoundError(f"{folder} is not a folder")
        left = wanted((path.name for path in folder.iterdir() if path.is_file()), timms=_is_timms(folder))
    except OSError as error:
        raise WeightsError(f"{folder} cannot be read: {error.strerror or error}") from error
    if len(left) > 1:
        raise WeightsError(f"{folder} holds several weight files ({', '.join(left[:20])}); name the one you mean")
    if left:
        return folder / left[0]
    endings = ", ".join(suffix for suffixes in SUFFIXES for suffix in suffixes)
    raise ModelNotFoundError(
        f"{folder} holds no weight file: expected {', '.join(FILES)}, or one file ending in {endings}"
    )


def wanted(names: Iterable[str], *, timms: bool = False) -> list[str]:
    """Which of a folder's files it is read from; several where only the caller can choose.

    timms: transformers' names are those of timm's image encoder there, so that open_clip's come first.

    >>> wanted(["model.safetensors", "flax_model.msgpack"]), wanted(["b.pt", "a.pt", "c.npz"])
    (['model.safetensors'], ['a.pt', 'b.pt'])
    """
    files = set(names)
    for name in sorted(FILES, key=lambda name: timms and not name.startswith("open_clip")):
        if name in files:
            return [name]
    for suffixes in SUFFIXES:
        if left := [name for name in sorted(files - {*NOT_WEIGHTS}) if Path(name).suffix in suffixes]:
            return left
    return []


def read(path: Path) -> Tensors:
    """The tensors in a weight file: {name: read-only array}, views of the file where that is possible.

    For an index, those of all its shards. See `Tensors` for bfloat16.
    Raises ModelNotFoundError if there is no such file, WeightsError for anything that cannot be read safely.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path} is a folder; read(find(folder)) reads the weight file in it")
    if not path.is_file():
        raise ModelNotFoundError(f"there is no weight file {path}")
    data = _map(path)
    try:
        return _read_index(path, data) if _is_json(data) else _read_one(path, data)
    except WeightsError as error:
        raise WeightsError(f"{path.name}: {error}") from error


def write(
    path: Path,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
    *,
    under: str | None = None,
) -> None:
    """Write `tensors` whole or not at all: .msgpack as Flax does, .pt, .pth, .bin as torch.save, else safetensors.

    The same bytes each time; what `read` returned keeps every bit, bfloat16 included. `metadata` is the text of a
    safetensors header (None takes that of a `Tensors`, else {"format": "pt"}), `under` the key of torch's outer dict
    under which the tensors stand. Raises WeightsError if the container has no place for these, for an element type,
    or for a name, if it is only read (.npz, .h5), or if the file cannot be written.
    """
    path = Path(path)
    torch, suffix = path.suffix in {".pt", ".pth", ".bin"}, path.suffix
    if suffix in {".npz", ".h5"}:
        raise WeightsError(f"{path.name}: {suffix} files are read but not written; write .safetensors")
    if metadata is not None and (torch or suffix == ".msgpack"):
        raise WeightsError(f"{path.name}: a {suffix} file has no place for metadata; write .safetensors")
    if under is not None and not torch:
        raise WeightsError(f"{path.name}: only torch's files have a dict around their tensors; write .pt")
    if torch:
        from cjkclip.checkpoints.weights.torchwrite import write_torch

        write_torch(path, tensors, under)
    elif suffix == ".msgpack":
        from cjkclip.checkpoints.weights.flax import write_flax

        write_flax(path, tensors)
    else:
        write_safetensors(path, tensors, metadata)


def _is_timms(folder: Path) -> bool:
    """Whether config.json beside open_clip's is timm's, which names an architecture and no type of model."""
    config = folder / "config.json"
    if not ((folder / "open_clip_config.json").is_file() and config.is_file()):
        return False
    try:
        record = parse_json(config.read_bytes())
        return "architecture" in record and "model_type" not in record
    except WeightsError:  # whoever needs it says that it is damaged
        return False


def _map(path: Path) -> MappedFile:
    try:
        return MappedFile.of(path)
    except ValueError as error:
        raise WeightsError(f"{path.name}: the file is empty (0 bytes); fetch it again") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error


def _is_json(data: mmap.mmap) -> bool:
    return data[:1] == b"{" and b"\x00" not in data[:9]  # a safetensors length may begin with the byte of a brace


def _read_one(path: Path, data: mmap.mmap) -> Tensors:
    """By its first bytes. The readers are imported where they are used: together they take as long as most files."""
    # safetensors first: its length can begin like any of the others, but no length fills more than four bytes
    if data[4:9] == b"\x00\x00\x00\x00{":
        return read_safetensors(data)
    if data[:4] == b"PK\x03\x04":
        return _read_archive(data)
    if data[:1] == b"\x80" and data[1:2] <= b"\x05":
        from cjkclip.checkpoints.weights.torchfile import read_legacy

        return read_legacy(data)
    if data[8:9] == b"{":  # so that a length that lies is called by its name
        return read_safetensors(data)
    if data[:8] == b"\x89HDF\r\n\x1a\n":
        from cjkclip.checkpoints.weights.hdf5 import read_hdf5

        return read_hdf5(path, data)
    from cjkclip.checkpoints.weights.msgpack import is_table

    if is_table(data[:6]):
        from cjkclip.checkpoints.weights.flax import read_flax

        return read_flax(data)
    raise WeightsError(
        f"this looks like {_looks(data)}. Expected safetensors, a file of torch.save or torch.jit.save, or one of "
        "Flax, TensorFlow (.h5) or NumPy (.npz)"
    )


def _read_archive(data: mmap.mmap) -> Tensors:
    from cjkclip.checkpoints.weights.archive import read_records
    from cjkclip.checkpoints.weights.npz import is_npz, read_npz

    records = read_records(data)
    if is_npz(records):
        return read_npz(data, records)
    from cjkclip.checkpoints.weights.torchfile import read_zip

    return read_zip(data, records)


def _looks(data: mmap.mmap) -> str:
    """What a file that is no weight file seems to be."""
    if data[257:262] == b"ustar":
        return (
            "a tar archive: NeMo's, or torch's before 0.1.10. If it is torch's and you trust it, save it again with "
            "torch.save(torch.load(file, weights_only=False), file)"
        )
    looks = next((what for sign, what in _SIGNS if data[: len(sign)] == sign), None)
    return looks or f"nothing known (it begins with the bytes {data[:8].hex(' ')})"


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
            part = _read_one(path.parent / shard, _map(path.parent / shard))
        except WeightsError as error:
            raise WeightsError(f"shard {short(shard)}: {error}") from error
        if set(part) != {name for name, place in places.items() if place == shard}:
            raise WeightsError(f"shard {short(shard)} does not hold the tensors that the index says")
        tensors.update(part)
    return tensors
