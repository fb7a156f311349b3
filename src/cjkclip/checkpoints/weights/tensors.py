"""Tensors as a file stores them: names, arrays and metadata."""

import mmap
from collections.abc import Iterable, Mapping

import numpy as np

from cjkclip.errors import WeightsError
from cjkclip.need import need

# Element types of a safetensors header -> names of NumPy's types; bfloat16 is ml_dtypes' (see `dtype_of`).
DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "I16": "int16",
    "U16": "uint16",
    "F16": "float16",
    "BF16": "bfloat16",
    "I32": "int32",
    "U32": "uint32",
    "F32": "float32",
    "F64": "float64",
    "I64": "int64",
    "U64": "uint64",
}
ELEMENTS = {dtype: element for element, dtype in DTYPES.items()}
FORMAT = {"format": "pt"}  # transformers rejects a safetensors file without it
MAX_DIMS = 32


class Tensors(dict[str, np.ndarray]):
    """Arrays by name in the order of the file; `read` returns them read-only.

    bfloat16, which NumPy lacks, is the type of that name from ml_dtypes. `metadata` is the text of a safetensors
    header, None if it has none. `write` uses it, so a round trip changes no bit of a file. A plain dict with the same
    arrays has no metadata.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]] = (),
        *,
        metadata: Mapping[str, str] | None = FORMAT,
    ) -> None:
        """Take arrays; most readers expect `FORMAT` as metadata."""
        super().__init__(arrays)
        self.metadata = None if metadata is None else dict(metadata)

    def put(self, name: str, stored: np.ndarray) -> None:
        """Add one stored tensor without a copy, at any address."""
        if name in self:
            raise WeightsError(f"two tensors have the name {short(name)}")
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise WeightsError(f"the tensor name {short(name)} is not valid Unicode") from error
        stored.flags.writeable = False
        self[name] = stored


def dtype_of(element: str) -> np.dtype:
    """Return the little-endian NumPy type for a name in `DTYPES`."""
    if element == "BF16":
        return np.dtype(need("ml_dtypes", extra="bfloat16").bfloat16)  # NumPy lacks this type
    return np.dtype(DTYPES[element]).newbyteorder("<")


def view(
    data: mmap.mmap | bytes, start: int, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...] | None = None
) -> np.ndarray:
    """Return an array over the bytes of `data` from `start` on, without a copy; `strides` count elements."""
    kind = dtype_of(dtype)
    if len(shape) > MAX_DIMS:
        raise WeightsError(f"a tensor has {len(shape)} dimensions, expected at most {MAX_DIMS}")
    steps = None if strides is None else tuple(s * kind.itemsize for s in strides)
    try:
        if 0 in shape:
            return np.empty(shape, kind)
        return np.ndarray(shape, kind, buffer=data, offset=start, strides=steps)
    except (ValueError, OverflowError) as error:
        raise WeightsError(f"a tensor of shape {shape} does not fit its bytes in the file") from error


def element_of(name: str, array: np.ndarray) -> str:
    """Return the name in `DTYPES` of a tensor's element type. Raises WeightsError if there is none."""
    element = ELEMENTS.get(array.dtype.name)
    if element is None:
        raise WeightsError(
            f"tensor {short(name)} of {array.dtype} cannot be stored. Convert it to one of {', '.join(ELEMENTS)}"
        )
    return element


def stored_bytes(array: np.ndarray, element: str) -> bytes:
    """Return the bytes of `array`, little-endian and in C order, for any order and strides."""
    return array.astype(dtype_of(element), copy=False).tobytes()


def short(value: object) -> str:
    """Return `value` for a message: strings and numbers shortened, anything else as its type.

    A hostile file can contain values whose full text would never end.
    """
    if isinstance(value, str | bytes):
        return repr(value if len(value) <= 120 else value[:120])
    if isinstance(value, int) and value.bit_length() <= 64:
        return repr(value)
    return f"a {type(value).__name__}"
