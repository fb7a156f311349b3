"""Read weight files as {name: array} and write them. A file can never run code.

The container is recognised by its first bytes, never by the file name: safetensors, the index of a sharded
checkpoint, the zip files of torch.save and torch.jit.save, the older files of torch.save, Flax's msgpack, NumPy's
.npz, HDF5. None needs the framework that wrote it; HDF5 needs h5py. Only safetensors, torch's zip and msgpack can be
written. Other containers, damaged files, truncated files and wrong sizes raise WeightsError.
"""

import mmap
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np

from cjkclip.checkpoints.weights.safetensors import parse_json, read_safetensors, write_safetensors
from cjkclip.checkpoints.weights.tensors import Tensors, short
from cjkclip.errors import ModelNotFoundError, WeightsError
from cjkclip.machine.mapped import MappedFile

__all__ = ["OpenFile", "Tensors", "find", "read", "weight_files", "write"]

# A directory is searched in this order, then for a file with one of the first suffixes, then with one of the second.
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
SUFFIXES = (".pt", ".pth", ".safetensors", ".bin", ".ckpt"), (".msgpack", ".h5", ".npz")
# Files that training tools leave beside the weights.
NOT_WEIGHTS = re.compile(
    r"(training_args|optimizer|scheduler|scaler|rng_state|random_states|sampler|dataloader|zero_|trainer_state)[\w.-]*"
)

_SIGNS = (
    (b"\x93NUMPY", "a NumPy .npy file"),
    (b"\x1f\x8b", "a gzip file; unpack it first"),
    (b"GGUF", "a GGUF file"),
    (b"version https://git-lfs", "a git-lfs pointer instead of the file; run 'git lfs pull'"),
    (b"<", "a web page or XML, probably a failed download"),
    (b"PK\x05\x06", "an empty zip archive"),
)


def find(folder: Path) -> Path:
    """Return the weight file in `folder`: the first of `FILES`, else the only one with one of `SUFFIXES`.

    open_clip's files come first if config.json is timm's: the image encoder alone is stored under transformers' names.
    Raises ModelNotFoundError if none exists, WeightsError if several exist or the directory cannot be read.
    """
    folder = Path(folder)
    try:
        if not folder.is_dir():
            raise ModelNotFoundError(f"{folder} is not a directory; pass the directory that contains the weights")
        names = weight_files((path.name for path in folder.iterdir() if path.is_file()), timms=_is_timms(folder))
    except OSError as error:
        raise WeightsError(f"{folder} cannot be read: {error.strerror or error}") from error
    if len(names) > 1:
        raise WeightsError(
            f"{folder} contains several weight files ({', '.join(names[:20])}). Pass the path of one of them: "
            f"load({str(folder / names[0])!r})"
        )
    if names:
        return folder / names[0]
    endings = ", ".join(suffix for suffixes in SUFFIXES for suffix in suffixes)
    raise ModelNotFoundError(
        f"{folder} contains no weight file. Expected {', '.join(FILES)}, or one file ending in {endings}"
    )


def weight_files(names: Iterable[str], *, timms: bool = False) -> list[str]:
    """Return the weight file of a directory, as a list; it has several names if the caller must choose one.

    timms: transformers' file names belong to timm's image encoder, so open_clip's files come first.

    >>> weight_files(["model.safetensors", "flax_model.msgpack"]), weight_files(["b.pt", "a.pt", "c.npz"])
    (['model.safetensors'], ['a.pt', 'b.pt'])
    """
    files = set(names)
    for name in sorted(FILES, key=lambda name: timms and not name.startswith("open_clip")):
        if name in files:
            return [name]
    for suffixes in SUFFIXES:
        if matches := [
            name for name in sorted(files) if Path(name).suffix in suffixes and not NOT_WEIGHTS.fullmatch(name)
        ]:
            return matches
    return []


def read(path: Path) -> Tensors:
    """Return the tensors of a weight file: {name: read-only array}, views of the mapped file where possible.

    An index gives the tensors of all its shards. See `Tensors` for bfloat16.
    Raises ModelNotFoundError if the file does not exist, WeightsError if it cannot be read safely.
    """
    path = Path(path)
    if path.is_dir():
        raise WeightsError(f"{path} is a directory, expected a weight file. Use read(find(folder))")
    if not path.is_file():
        raise ModelNotFoundError(f"there is no weight file {path}. Check the path")
    data = _map(path)
    try:
        return _read_index(path, data) if _is_json(data) else _read_one(path, data)
    except WeightsError as error:
        raise WeightsError(f"{path.name}: {error}") from error


@runtime_checkable
class OpenFile(Protocol):
    """An open binary file, such as io.BytesIO, the file of an upload, or open(path, "rb")."""

    def read(self) -> bytes:
        """Return the rest of the file."""
        ...


def read_file(file: OpenFile, name: str) -> Tensors:
    """Return the tensors of an open file, from its current position on, read into memory. Raises WeightsError.

    `name` is for messages. An index of shards, and HDF5, need a path.
    """
    content: Any = file.read()
    if not isinstance(content, bytes) or not content:
        raise WeightsError(f"{name}: expected an open binary file with a position before its end: file.seek(0)")
    data = mmap.mmap(-1, len(content))
    data[:] = content
    try:
        return _read_one(Path(name), data)
    except WeightsError as error:
        raise WeightsError(f"{name}: {error}") from error


def write(
    path: Path,
    tensors: Mapping[str, np.ndarray],
    metadata: Mapping[str, str] | None = None,
    *,
    under: str | None = None,
) -> None:
    """Write `tensors` completely or not at all: .msgpack as Flax does, .pt, .pth, .bin as torch.save, else safetensors.

    Writing is deterministic and keeps every bit that `read` returned, bfloat16 included. `metadata` is the text of a
    safetensors header (None: that of a `Tensors`, else {"format": "pt"}), `under` the key in torch's outer dict.
    Raises WeightsError if the container cannot hold metadata, `under`, an element type or a name, if it cannot be
    written here (.npz, .h5), or if the disk has an error.
    """
    path = Path(path)
    torch, suffix = path.suffix in {".pt", ".pth", ".bin"}, path.suffix
    if suffix in {".npz", ".h5"}:
        raise WeightsError(
            f"{path.name}: {suffix} files are read but not written. Use a name that ends in .safetensors"
        )
    if metadata is not None and (torch or suffix == ".msgpack"):
        raise WeightsError(
            f"{path.name}: a {suffix} file has no place for metadata. Use a name that ends in .safetensors"
        )
    if under is not None and not torch:
        raise WeightsError(
            f"{path.name}: only torch's files have a dict around their tensors. Use a name that ends in .pt"
        )
    if torch:
        from cjkclip.checkpoints.weights.torchwrite import write_torch

        write_torch(path, tensors, under)
    elif suffix == ".msgpack":
        from cjkclip.checkpoints.weights.flax import write_flax

        write_flax(path, tensors)
    else:
        write_safetensors(path, tensors, metadata)


def _is_timms(folder: Path) -> bool:
    """Whether the config.json beside open_clip's is timm's, which has an architecture and no model type."""
    config = folder / "config.json"
    if not ((folder / "open_clip_config.json").is_file() and config.is_file()):
        return False
    try:
        record = parse_json(config.read_bytes())
        return "architecture" in record and "model_type" not in record
    except WeightsError:  # the reader of the config reports the damage
        return False


def _map(path: Path) -> MappedFile:
    try:
        return MappedFile.of(path)
    except ValueError as error:
        raise WeightsError(f"{path.name}: the file is empty (0 bytes). Download it again") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error


def _is_json(data: mmap.mmap) -> bool:
    return data[:1] == b"{" and b"\x00" not in data[:9]  # a safetensors length may begin with the byte "{"


def _read_one(path: Path, data: mmap.mmap) -> Tensors:
    """Read a file by its first bytes. Readers are imported on use: importing all takes as long as reading a file."""
    # safetensors comes first: its length can look like the start of another container, but has at most four bytes
    if data[4:9] == b"\x00\x00\x00\x00{":
        return read_safetensors(data)
    if data[:4] == b"PK\x03\x04":
        return _read_archive(data)
    if data[:1] == b"\x80" and data[1:2] <= b"\x05":
        from cjkclip.checkpoints.weights.torchfile import read_legacy

        return read_legacy(data)
    if data[8:9] == b"{":  # a wrong length then gets the message for safetensors
        return read_safetensors(data)
    if data[:8] == b"\x89HDF\r\n\x1a\n":
        from cjkclip.checkpoints.weights.hdf5 import read_hdf5

        return read_hdf5(path, data)
    from cjkclip.checkpoints.weights.msgpack import is_table

    if is_table(data[:6]):
        from cjkclip.checkpoints.weights.flax import read_flax

        return read_flax(data)
    raise WeightsError(
        f"this looks like {_looks(data)}. Expected safetensors, a file of torch.save or torch.jit.save, Flax's "
        "msgpack, TensorFlow's .h5 or NumPy's .npz"
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
    """Describe a file that is not a weight file."""
    if data[257:262] == b"ustar":
        return (
            "a tar archive of NeMo, or of torch before 0.1.10. If it is torch's and you trust it, save it again: "
            "torch.save(torch.load(file, weights_only=False), file)"
        )
    kind = next((name for sign, name in _SIGNS if data[: len(sign)] == sign), None)
    return kind or f"no known file type (first bytes: {data[:8].hex(' ')})"


def _read_index(path: Path, data: mmap.mmap) -> Tensors:
    """Read all shards, which must contain exactly the tensors of the index."""
    shards = parse_json(data[:]).get("weight_map")
    if not isinstance(shards, dict):
        raise WeightsError(
            "this is JSON without a 'weight_map', not the index of a sharded checkpoint. Pass the weight file"
        )
    tensors, places = Tensors(), cast(dict[str, object], shards)
    for shard in dict.fromkeys(str(place) for place in places.values()):
        if Path(shard).name != shard or "\\" in shard:
            raise WeightsError(f"its shard {short(shard)} is not a file in the same directory")
        if not (path.parent / shard).is_file():
            raise WeightsError(f"its shard {short(shard)} is missing. Download it into the same directory")
        try:
            part = _read_one(path.parent / shard, _map(path.parent / shard))
        except WeightsError as error:
            raise WeightsError(f"shard {short(shard)}: {error}") from error
        if set(part) != {name for name, place in places.items() if place == shard}:
            raise WeightsError(
                f"shard {short(shard)} does not contain the tensors that the index lists. Download both again"
            )
        tensors.update(part)
    return tensors
