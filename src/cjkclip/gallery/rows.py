"""Names and vectors on their way into a file: the vectors lie on the disk from the start, the names in memory.

n rows, E joint width. Written: a gallery (.safetensors), NumPy's .npz (names, vectors, fingerprint) and .npy (vectors
alone), whole or not at all. Refuses: other endings, a file without rows, names that .npz cannot hold whole,
in a gallery vectors that are not of unit length.
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
LONGEST_NAME = 1024  # characters in .npz, where every name takes the room of the longest: at most that of a vector
PIECE = 1 << 20  # characters of names that are made fixed-width at once


def check_names(path: Path, names: Sequence[str]) -> None:
    """Raise InputError for a name that the file `path` could not hold whole."""
    for name in names if path.suffix == ".npz" else ():
        if len(name) > LONGEST_NAME or name.endswith("\0"):  # NumPy pads with NUL, and so drops it at the end
            raise InputError(
                f"the name {name[:SHOWN]!r}{'...' * (len(name) > SHOWN)} has {len(name):,} characters, expected for "
                f".npz up to {LONGEST_NAME:,} and no NUL at the end: write .safetensors, which holds any name"
            )


class Rows:
    """Rows for the file `path`, which `save` makes; a context. Without `save` nothing is left, nor changed.

    The vectors lie in a file beside `path` that has no name where the system can do that (everywhere but on Windows),
    so that it goes with the program however that ends.
    """

    def __init__(self, path: Path, width: int) -> None:
        """`width`: numbers in a row. Raises InputError if nothing can be written beside `path`."""
        if path.suffix not in ENDINGS:
            raise InputError(f"{str(path)!r} must end in one of {' '.join(ENDINGS)}")
        self.path, self.width = path, width
        self.names: list[str] = []
        self._file = self._beside()

    def __enter__(self) -> "Rows":
        """The rows."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let the file beside go."""
        self._file.close()

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.names)

    def add(self, names: Sequence[Name], vectors: Float[np.ndarray, "n E"]) -> None:
        """Append rows; those with a number that is not finite are left out. Raises InputError when the disk is full."""
        names = as_text(names)
        if not is_float(vectors) or vectors.shape != (len(names), self.width):
            raise InputError(
                f"got {len(names)} names and vectors of shape {vectors.shape} and type {vectors.dtype}, expected "
                f"(n, {self.width}) of floating point: give one name per vector, as the model gave it"
            )
        check_names(self.path, names)
        single = vectors.astype("<f4", copy=False)  # what `save` reads
        good = np.flatnonzero(np.isfinite(single).all(axis=1))
        self._append(self._file, single[good])
        self.names += [names[int(i)] for i in good]

    def save(self, fingerprint: str) -> None:
        """Make `path` of the rows, in place of what was there. Raises InputError."""
        if not self.names:
            raise InputError(f"there is nothing to write to {str(self.path)!r}: no row was added")
        vectors = _mapped(self._file, "<f4", (len(self), self.width))
        try:
            if self.path.suffix == ".safetensors":
                write_gallery(self.path, self.names, vectors, fingerprint)
                return
            with replacing(self.path) as file:
                if self.path.suffix == ".npy":
                    np.save(file, vectors, allow_pickle=False)
                else:
                    with self._beside() as beside:
                        names = self._fixed(beside)
                        np.savez(file, vectors=vectors, names=names, fingerprint=np.array(fingerprint))
        except WeightsError as error:
            raise InputError(str(error)) from error

    def _fixed(self, file: BinaryIO) -> np.ndarray:
        """The names as NumPy keeps text: each in the room of the longest, so not in memory."""
        longest = max(map(len, self.names)) or 1
        kind, piece = f"<U{longest}", PIECE // longest
        for start in range(0, len(self), piece):
            self._append(file, np.array(self.names[start : start + piece], kind))
        return _mapped(file, kind, (len(self),))

    def _beside(self) -> BinaryIO:
        try:
            return cast(BinaryIO, tempfile.TemporaryFile(buffering=0, dir=self.path.parent))
        except OSError as error:
            raise self._refused(error) from error

    def _append(self, file: BinaryIO, array: np.ndarray) -> None:
        """Written, not mapped: writing to a full disk raises, writing to its map kills the program."""
        try:
            left = memoryview(array.tobytes())
            while left:  # what a disk that is almost full takes is only a part
                left = left[file.write(left) :]
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> InputError:
        return InputError(f"{str(self.path)!r} cannot be written: {error.strerror or error}")


def _mapped(file: BinaryIO, kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """What a file holds, read from the disk when it is looked at."""
    return np.memmap(file, kind, "r", shape=shape)
