"""Array types: what counts as a float; and names with shapes for annotations, jaxtyping's where it is loaded.

The tests load jaxtyping before the package, and then every function checks the shapes of what it gets (docs/decisions/
0001). Nobody else waits for its import, a tenth of a second: `Float[np.ndarray, "n E"]` is `np.ndarray` to them.
"""

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float, Float32, Float64, Int, Int64, UInt8
else:

    class _Shaped:
        """Subscribed with an array type and a shape, it is the array type."""

        def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
            return item[0]

    Bool = Float = Float32 = Float64 = Int = Int64 = UInt8 = _Shaped

__all__ = ["Bool", "Float", "Float32", "Float64", "Int", "Int64", "UInt8", "is_float"]


def is_float(array: np.ndarray) -> bool:
    """Does it hold floating point numbers? bfloat16 counts, which is no kind of float to NumPy."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"
