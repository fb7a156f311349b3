"""Open files, buffers and torch tensors as images: turned into bytes and arrays, which `picture` decodes."""

from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import PIL.Image

from cjkclip.errors import ImageError
from cjkclip.machine.forks import Lock

CHANNELS = (1, 3, 4)
_TURN = Lock()  # an open file has one position, and may be in a list twice


@runtime_checkable
class OpenImage(Protocol):
    """A binary file that is open: BytesIO, the result of open(path, "rb"), or the file of an upload."""

    def read(self, size: int = -1, /) -> Any:
        """Return bytes."""
        ...


@runtime_checkable
class TorchTensor(Protocol):
    """A torch tensor (C, H, W), (H, W, C) or (H, W): uint8, or floating point in [0, 1]."""

    def detach(self) -> Any:
        """Return the tensor without gradient."""
        ...

    def cpu(self) -> Any:
        """Return the tensor in the memory of the CPU."""
        ...


Source = bytearray | memoryview | OpenImage | TorchTensor
KINDS = (bytearray, memoryview, OpenImage, TorchTensor)


def content(picture: Any) -> Any:
    """Return the bytes of an open file, from its start, or of a buffer, and a tensor as an array; others unchanged."""
    if isinstance(picture, PIL.Image.Image | np.ndarray | bytes | str):
        return cast(Any, picture)
    if isinstance(picture, bytearray | memoryview):
        return bytes(cast(Any, picture))
    if isinstance(picture, TorchTensor):
        return _array(np.asarray(picture.detach().cpu()))
    return _read(picture) if isinstance(picture, OpenImage) else picture


def _read(file: Any) -> bytes:
    with _TURN:
        if file.seekable():
            file.seek(0)
        data = file.read()
    if not isinstance(data, bytes):
        kind = type(data).__name__
        raise ImageError(f"an open file that gives {kind}; expected a file in binary mode: open(path, 'rb')")
    return data


def _array(array: np.ndarray) -> np.ndarray:
    """Return a tensor with its channels last. If both ends could be channels, they come first, as torch has them."""
    if array.ndim == 3 and array.shape[0] in CHANNELS:
        return np.moveaxis(array, 0, -1)
    return array
