"""What tokenizers and processors hand over: BatchEncoding and BatchFeature, dictionaries that can become tensors.

Refuses: rows of different lengths where a tensor is asked for, and kinds of tensors other than "pt" and "np".
"""

from collections import UserDict
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import numpy as np

from cjkclip.errors import InputError
from cjkclip.need import need

_B = TypeVar("_B", bound="_Batch")


class _Batch(UserDict[str, Any]):
    """Values by name, as items and as attributes."""

    def __init__(
        self, data: Mapping[str, Any] | None = None, tensor_type: str | None = None, prepend_batch_axis: bool = False
    ) -> None:
        """`data` as it is, or as tensors: "pt" or "np". Raises InputError."""
        super().__init__(dict(data or {}))
        self.convert_to_tensors(tensor_type, prepend_batch_axis)

    def __getattr__(self, name: str) -> Any:
        if name == "data" or name not in self.data:
            raise AttributeError(
                f"{type(self).__name__} has no {name!r}; it has {sorted(self.__dict__.get('data', ()))}"
            )
        return self.data[name]

    def convert_to_tensors(self: _B, tensor_type: str | None = None, prepend_batch_axis: bool = False) -> _B:
        """Every value as a tensor, in place; `prepend_batch_axis` makes one row a batch of one."""
        for name, value in self.data.items() if tensor_type is not None else ():
            self.data[name] = as_tensor([value] if prepend_batch_axis else value, str(tensor_type), name)
        return self

    def to(self: _B, target: Any = None, dtype: Any = None, *, device: Any = None, non_blocking: bool = False) -> _B:
        """Tensors on a device, those of floating point also of a type, in place. `target` is either. Raises InputError.

        to("cuda"), to(torch.float16), to("cuda", torch.float16), to(device="cuda", dtype=torch.float16).
        """
        torch = need("torch", extra="torch")
        kind = isinstance(target, torch.dtype)
        if target is not None and (dtype if kind else device) is not None:
            raise InputError(f"the {'dtype' if kind else 'device'} came twice, {target!r} first: pass it once")
        dtype, device = (target, device) if kind else (dtype, device if target is None else target)
        if not isinstance(device, str | int | torch.device | None) or not isinstance(dtype, torch.dtype | None):
            raise InputError(
                f"got device {device!r} and dtype {dtype!r}, expected 'cpu' and torch.float16, or the like"
            )
        if device is None and dtype is None:
            raise InputError("got neither a device nor a dtype: pass 'cuda', torch.float16, or both")

        def moved(value: Any) -> Any:
            if isinstance(value, list | tuple):
                several = cast(list[Any], value)
                return type(several)(map(moved, several))
            if not isinstance(value, torch.Tensor):
                return value
            kept = dtype if value.is_floating_point() else None  # ids of half precision would be no ids
            return value.to(device=device, dtype=kept, non_blocking=non_blocking)

        self.data = {name: moved(value) for name, value in self.data.items()}
        return self


class BatchEncoding(_Batch):
    """What a tokenizer gives: input_ids, attention_mask and what else was asked for."""


class BatchFeature(_Batch):
    """What an image processor or a processor gives."""


def as_tensor(value: Any, kind: str, name: str) -> Any:
    """Lists or arrays as one array ("np") or torch tensor ("pt"). `name` is for the message. Raises InputError."""
    if kind not in ("pt", "np"):
        raise InputError(f"return_tensors is {kind!r}, expected 'pt' (torch), 'np' (NumPy) or None")
    torch = need("torch", extra="torch") if kind == "pt" else None
    if torch is not None and isinstance(value, torch.Tensor):
        return value
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(
            f"{name}: its {len(value)} rows differ in length or shape, so they make no tensor; ask for padding=True "
            "and truncation=True (texts), or do_resize and do_center_crop (pictures)"
        ) from error
    return array if torch is None else torch.from_numpy(np.ascontiguousarray(array))
