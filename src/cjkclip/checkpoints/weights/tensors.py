"""Tensors as a file stores them: names, arrays, and the text beside them.

Refuses: views that leave the bytes they are said to lie in, a name used twice, element types that no CLIP uses.
"""

import mmap
from collections.abc import Iterable, Mapping

import numpy as np

from cjkclip.errors import WeightsError
from cjkclip.need import need

# NumPy's names, and one of ml_dtypes', by those in a safetensors header; see `dtype_of`.
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
FORMAT = {"format": "pt"}  # transformers refuses a safetensors file whose header does not say so
MAX_DIMS = 32


class Tensors(dict[str, np.ndarray]):
    """Arrays by name in the order of the file; what `read` returns is read-only.

    bfloat16, which NumPy lacks, is the type of that name from ml_dtypes. `metadata` is the text of a safetensors
    header, None if it has none; `write` uses it, so that reading and writing a file changes no bit of it. It stays
    with this object: a plain dict made from it loses it.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]] = (),
        *,
        metadata: Mapping[str, str] | None = FORMAT,
    ) -> None:
        """Arrays that a caller made; `FORMAT` is what most readers expect as metadata."""
        super().__init__(arrays)
        self.metadata = None if metadata is None else dict(metadata)

    def put(self, name: str, stored: np.ndarray) -> None:
        """Add one stored tensor, in place even at an odd address."""
        if name in self:
            raise WeightsError(f"two tensors have the name {short(name)}")
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise WeightsError(f"the name {short(name)} of a tensor is no valid Unicode") from error
        stored.flags.writeable = False
        self[name] = stored


def dtype_of(element: str) -> np.dtype:
    """The little-endian type of arrays, by its name in `DTYPES`."""
    if element == "BF16":
        return np.dtype(need("ml_dtypes", extra="bfloat16").bfloat16)  # NumPy lacks this type
    return np.dtype(DTYPES[element]).newbyteorder("<")


def view(
    data: mmap.mmap | bytes, start: int, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...] | None = None
) -> np.ndarray:
    """Array over the bytes of `data` from `start` on, without a copy; `strides` count elements."""
    kind = dtype_of(dtype)
    if len(shape) > MAX_DIMS:
        raise WeightsError(f"a tensor with {len(shape)} dimensions (at most {MAX_DIMS})")
    steps = None if strides is None else tuple(s * kind.itemsize for s in strides)
    try:
        if 0 in shape:
            return np.empty(shape, kind)
        return np.ndarray(shape, kind, buffer=data, offset=start, strides=steps)
    except (ValueError, OverflowError) as error:
        raise WeightsError(f"a tensor of shape {shape} does not fit the bytes it is said to lie in") from error


def element_of(name: str, array: np.ndarray) -> str:
    """The name in `DTYPES` under which a tensor is to be stored. Raises WeightsError if its type has none."""
    found = ELEMENTS.get(array.dtype.name)
    if found is None:
        raise WeightsError(f"tensor {short(name)} of {array.dtype} cannot be stored; known are {', '.join(DTYPES)}")
    return found


def stored_bytes(array: np.ndarray, element: str) -> bytes:
    """The bytes of `array`, little-endian and in C order, whatever its own order and strides."""
    return array.astype(dtype_of(element), copy=False).tobytes()


def short(value: object) -> str:
    """`value` for a message: strings and numbers cut to length, anything else by its type alone.

    A hostile file can hold values whose full text would not end.
    """
    if isinstance(value, str | bytes):
        return repr(value if len(value) <= 120 else value[:120])
    if isinstance(value, int) and value.bit_length() <= 64:
        return repr(value)
    return f"a {type(value).__name__}"
