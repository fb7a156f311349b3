"""Write names and vectors to a file; vectors go to disk at once, names stay in memory. n rows, E joint width.

The file is a gallery (.safetensors), NumPy's .npz (names, vectors, fingerprint) or .npy (only vectors). It is written
completely or not at all. A gallery takes only vectors of unit length.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

import numpy as np

from cjkclip.arrays import Float, is_float
from cjkclip.checkpoints.weights.replace import replacing
from cjkclip.errors import InputError, WeightsError
from cjkclip.gallery.store import Name, as_text, write_gallery

ENDINGS = (".npz", ".npy", ".safetensors")
SHOWN = 60  # characters of a name in messages
LONGEST_NAME = 1024  # characters in .npz, where every name takes the space of the longest: at most that of a vector
PIECE = 1 << 20  # characters of names per fixed-width array


def check_names(path: Path, names: Sequence[str]) -> None:
    """Raise InputError for a name that the file `path` would shorten."""
    for name in names if path.suffix == ".npz" else ():
        if len(name) > LONGEST_NAME or name.endswith("\0"):  # NumPy pads with NUL, so it drops NUL at the end
            raise InputError(
                f"the name {name[:SHOWN]!r}{'...' * (len(name) > SHOWN)} has {len(name):,} characters, expected for "
                f".npz up to {LONGEST_NAME:,} and no NUL at the end: write .safetensors, which takes any name"
            )


class Rows:
    """Rows for the file `path`, as a context. `save` writes the file; without `save` nothing changes.

    Vectors are written to an unnamed temporary file, which disappears even if the program is killed (not on Windows).
    """

    def __init__(self, path: Path, width: int) -> None:
        """`width`: numbers in a row. Raises InputError if nothing can be written beside `path`."""
        if path.suffix not in ENDINGS:
            raise InputError(f"{str(path)!r} must end in one of {' '.join(ENDINGS)}")
        self.path, self.width = path, width
        self.names: list[str] = []
        self._file = self._temporary()

    def __enter__(self) -> "Rows":
        """Return these rows."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the temporary file."""
        self._file.close()

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.names)

    def add(self, names: Sequence[Name], vectors: Float[np.ndarray, "n E"]) -> None:
        """Append rows, except rows with NaN or infinity. Raises InputError if the disk is full, or rows do not fit."""
        names = as_text(names)
        if not is_float(vectors) or vectors.shape != (len(names), self.width):
            raise InputError(
                f"got {len(names)} names and vectors of shape {vectors.shape} and type {vectors.dtype}, expected "
                f"(n, {self.width}) of floating point: pass one name per vector, and vectors of one model"
            )
        check_names(self.path, names)
        single = vectors.astype("<f4", copy=False)  # the type that `save` reads
        good = np.flatnonzero(np.isfinite(single).all(axis=1))
        self._append(self._file, single[good])
        self.names += [names[int(i)] for i in good]

    def save(self, fingerprint: str) -> None:
        """Write the rows to `path`, and replace a file that exists. Raises InputError."""
        if not self.names:
            raise InputError(
                f"nothing to write to {str(self.path)!r}: no row was added. Call add(names, vectors) before save"
            )
        vectors = _mapped(self._file, "<f4", (len(self), self.width))
        try:
            if self.path.suffix == ".safetensors":
                write_gallery(self.path, self.names, vectors, fingerprint)
                return
            with replacing(self.path) as file:
                if self.path.suffix == ".npy":
                    np.save(file, vectors, allow_pickle=False)
                else:
                    with self._temporary() as file_of_names:
                        names = self._fixed(file_of_names)
                        np.savez(file, vectors=vectors, names=names, fingerprint=np.array(fingerprint))
        except WeightsError as error:
            raise InputError(str(error)) from error

    def _fixed(self, file: BinaryIO) -> np.ndarray:
        """Return the names as NumPy's fixed-width text, on disk, because each takes the space of the longest."""
        longest = max(map(len, self.names)) or 1
        kind, piece = f"<U{longest}", PIECE // longest
        for start in range(0, len(self), piece):
            self._append(file, np.array(self.names[start : start + piece], kind))
        return _mapped(file, kind, (len(self),))

    def _temporary(self) -> BinaryIO:
        try:
            return cast(BinaryIO, tempfile.TemporaryFile(buffering=0, dir=self.path.parent))
        except OSError as error:
            raise self._failure(error) from error

    def _append(self, file: BinaryIO, array: np.ndarray) -> None:
        """Append an array by writing: on a full disk that raises an error, a mapped file would kill the program."""
        try:
            left = memoryview(array.tobytes())
            while left:  # if the disk is almost full, only a part is written
                left = left[file.write(left) :]
        except OSError as error:
            raise self._failure(error) from error

    def _failure(self, error: OSError) -> InputError:
        return InputError(
            f"{str(self.path)!r} cannot be written: {error.strerror or error}. Free disk space or use another directory"
        )


def _mapped(file: BinaryIO, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Return the content of a file as a memory-mapped array."""
    return np.memmap(file, kind, "r", shape=shape)
