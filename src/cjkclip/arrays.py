"""Array types with their shapes, for annotations: those of jaxtyping where it is loaded, else names for plain types.

The tests load jaxtyping before the package, and then every function checks the shapes of what it gets (docs/decisions/
0001). Nobody else waits for its import, a tenth of a second: `Float[np.ndarray, "n E"]` is `np.ndarray` to them.
"""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool, Float, Float32, Float64, Int, Int64, UInt8
else:

    class _Shaped:
        """Subscribed with an array type and a shape, it is the array type."""

        def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
            return item[0]

    Bool = Float = Float32 = Float64 = Int = Int64 = UInt8 = _Shaped

__all__ = ["Bool", "Float", "Float32", "Float64", "Int", "Int64", "UInt8"]
