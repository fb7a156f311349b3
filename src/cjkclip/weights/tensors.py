"""Tensors as a file stores them: names, arrays, and the two things that NumPy arrays cannot say.

Refuses: views that leave the bytes they are said to lie in, a name used twice, element types that no CLIP uses.
"""

import mmap
from collections.abc import Iterable, Mapping

import numpy as np

from cjkclip.errors import WeightsError

# By their names in a safetensors header. bfloat16 is held as its 16 bits until `Tensors.put` widens it.
DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
}
_NAMES = {dtype.str: name for name, dtype in DTYPES.items() if name != "BF16"}
FORMAT = {"format": "pt"}  # transformers refuses a safetensors file whose header does not say so
MAX_DIMS = 32


class Tensors(dict[str, np.ndarray]):
    """Arrays by name in the order of the file; what `read` returns is read-only.

    `dtypes` names the stored type where NumPy has none: today only {"name": "BF16"}, whose array is float32
    and holds exactly the stored values. `metadata` is the text of a safetensors header, None if it has none.
    `write` uses both, so that reading and writing a file changes no bit of it. They stay with this object: a
    plain dict made from it loses them, and its bfloat16 tensors are then written as float32.
    """

    def __init__(
        self,
        arrays: Mapping[str, np.ndarray] | Iterable[tuple[str, np.ndarray]] = (),
        *,
        dtypes: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = FORMAT,
    ) -> None:
        """Arrays that a caller made; `FORMAT` is what most readers expect as metadata."""
        super().__init__(arrays)
        self.dtypes = dict(dtypes or {})
        self.metadata = None if metadata is None else dict(metadata)

    def put(self, name: str, dtype: str, stored: np.ndarray) -> None:
        """Add one stored tensor. Copies only bfloat16 and what lies at an odd address."""
        if name in self:
            raise WeightsError(f"two tensors have the name {short(name)}")
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise WeightsError(f"the name {short(name)} of a tensor is no valid Unicode") from error
        if dtype == "BF16":
            self.dtypes[name] = dtype
            stored = widen(stored)
        elif not stored.flags.aligned:
            stored = stored.copy()
        stored.flags.writeable = False
        self[name] = stored


def view(
    data: mmap.mmap | bytes, start: int, dtype: str, shape: tuple[int, ...], strides: tuple[int, ...] | None = None
) -> np.ndarray:
    """Array over the bytes of `data` from `start` on, without a copy; `strides` count elements."""
    kind = DTYPES[dtype]
    if len(shape) > MAX_DIMS:
        raise WeightsError(f"a tensor with {len(shape)} dimensions (at most {MAX_DIMS})")
    steps = None if strides is None else tuple(s * kind.itemsize for s in strides)
    try:
        if 0 in shape:
            return np.empty(shape, kind)
        return np.ndarray(shape, kind, buffer=data, offset=start, strides=steps)
    except (ValueError, OverflowError) as error:
        raise WeightsError(f"a tensor of shape {shape} does not fit the bytes it is said to lie in") from error


def element_of(tensors: Mapping[str, np.ndarray], name: str) -> str:
    """The name in `DTYPES` under which a tensor is to be stored. Raises WeightsError if its type has none."""
    marked = tensors.dtypes.get(name) if isinstance(tensors, Tensors) else None
    dtype = tensors[name].dtype
    found = marked or _NAMES.get(dtype.newbyteorder("<").str)
    if found is None:
        raise WeightsError(f"tensor {short(name)} of {dtype} cannot be stored; known are {', '.join(DTYPES)}")
    return found


def stored_bytes(name: str, array: np.ndarray, element: str) -> bytes:
    """The bytes of `array` as an `element`, in C order. Raises WeightsError if bfloat16 would have to round."""
    if element != "BF16":
        return array.astype(DTYPES[element], copy=False).tobytes()  # in C order, whatever the strides
    try:
        return narrow(array).tobytes()
    except ValueError as error:
        raise WeightsError(
            f"tensor {short(name)} is marked bfloat16, but its values would have to be rounded. "
            f"Round them first, or write it as {array.dtype}: del tensors.dtypes[{short(name)}]"
        ) from error


def widen(bits: np.ndarray) -> np.ndarray:
    """float32 of the same values as these bfloat16 bits.

    >>> widen(np.array([0x3F80, 0xC049], np.uint16)).tolist()
    [1.0, -3.140625]
    """
    return np.asarray(bits.astype("<u4") << 16).view("<f4")


def narrow(values: np.ndarray) -> np.ndarray:
    """bfloat16 bits of float32 values that need no rounding; ValueError if one does.

    >>> [hex(bits) for bits in narrow(np.array([1.0, -3.140625], np.float32))]
    ['0x3f80', '0xc049']
    """
    bits = values.astype("<f4", order="C").view("<u4")
    if (bits & 0xFFFF).any():
        raise ValueError("not bfloat16 values")
    return np.asarray(bits >> 16).astype("<u2")


def short(value: object) -> str:
    """`value` for a message: strings and numbers cut to length, anything else by its type alone.

    A hostile file can hold values whose full text would not end.
    """
    if isinstance(value, str | bytes):
        return repr(value if len(value) <= 120 else value[:120])
    if isinstance(value, int) and value.bit_length() <= 64:
        return repr(value)
    return f"a {type(value).__name__}"
