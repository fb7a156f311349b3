"""Array types for annotations, with shapes where jaxtyping is loaded; and a test for floating point arrays.

The tests load jaxtyping before the package, and then every function checks the shapes of its arguments (docs/decisions/
0001). Elsewhere `Float[np.ndarray, "n E"]` is just `np.ndarray`, which saves a tenth of a second of import time.
"""

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float, Float32, Float64, Int, Int64, UInt8
else:

    class _Shaped:
        """Return the array type when subscripted with an array type and a shape."""

        def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
            return item[0]

    Bool = Float = Float32 = Float64 = Int = Int64 = UInt8 = _Shaped

__all__ = ["Bool", "Float", "Float32", "Float64", "Int", "Int64", "UInt8", "is_float"]


def is_float(array: np.ndarray) -> bool:
    """Whether an array has a floating point type. bfloat16 counts, although NumPy does not treat it as a float."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"
