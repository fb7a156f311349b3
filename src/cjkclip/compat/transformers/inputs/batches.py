"""Outputs of tokenizers and processors: BatchEncoding and BatchFeature, dictionaries that can convert to tensors."""

from collections import UserDict
from collections.abc import Mapping
from typing import Any, TypeVar, cast

import numpy as np

from cjkclip.errors import InputError
from cjkclip.need import need

_B = TypeVar("_B", bound="_Batch")


class _Batch(UserDict[str, Any]):
    """Dictionary whose values are also attributes."""

    def __init__(
        self, data: Mapping[str, Any] | None = None, tensor_type: str | None = None, prepend_batch_axis: bool = False
    ) -> None:
        """Store `data`, converted to tensors if tensor_type is "pt" or "np". Raises InputError."""
        super().__init__(dict(data or {}))
        self.convert_to_tensors(tensor_type, prepend_batch_axis)

    def __getattr__(self, name: str) -> Any:
        if name == "data" or name not in self.data:
            raise AttributeError(
                f"{type(self).__name__} has no {name!r}; it has {sorted(self.__dict__.get('data', ()))}"
            )
        return self.data[name]

    def convert_to_tensors(self: _B, tensor_type: str | None = None, prepend_batch_axis: bool = False) -> _B:
        """Convert every value to a tensor, in place; `prepend_batch_axis` makes one row a batch of one."""
        for name, value in self.data.items() if tensor_type is not None else ():
            self.data[name] = as_tensor([value] if prepend_batch_axis else value, str(tensor_type), name)
        return self

    def to(self: _B, target: Any = None, dtype: Any = None, *, device: Any = None, non_blocking: bool = False) -> _B:
        """Move tensors to a device and floats also to a type, in place. `target` is either one. Raises InputError.

        Accepts to("cuda"), to(torch.float16), to("cuda", torch.float16), to(device="cuda", dtype=torch.float16).
        """
        torch = need("torch", extra="torch")
        kind = isinstance(target, torch.dtype)
        if target is not None and (dtype if kind else device) is not None:
            raise InputError(f"got the {'dtype' if kind else 'device'} twice, {target!r} first: pass it once")
        dtype, device = (target, device) if kind else (dtype, device if target is None else target)
        if not isinstance(device, str | int | torch.device | None) or not isinstance(dtype, torch.dtype | None):
            raise InputError(
                f"got device {device!r} and dtype {dtype!r}, expected a device and a type: to('cuda', torch.float16)"
            )
        if device is None and dtype is None:
            raise InputError("got neither a device nor a dtype: pass one or both, as in to('cuda', torch.float16)")

        def move(value: Any) -> Any:
            if isinstance(value, list | tuple):
                several = cast(list[Any], value)
                return type(several)(map(move, several))
            if not isinstance(value, torch.Tensor):
                return value
            own = dtype if value.is_floating_point() else None  # half precision would round ids
            return value.to(device=device, dtype=own, non_blocking=non_blocking)

        self.data = {name: move(value) for name, value in self.data.items()}
        return self


class BatchEncoding(_Batch):
    """Output of a tokenizer: input_ids, attention_mask and other requested values."""


class BatchFeature(_Batch):
    """Output of an image processor or a processor."""


def as_tensor(value: Any, kind: str, name: str) -> Any:
    """Convert lists or arrays to one array ("np") or torch tensor ("pt"). Raises InputError with `name`."""
    if kind not in ("pt", "np"):
        raise InputError(
            f"return_tensors is {kind!r}, expected 'pt' (torch), 'np' (NumPy) or None: return_tensors='pt'"
        )
    torch = need("torch", extra="torch") if kind == "pt" else None
    if torch is not None and isinstance(value, torch.Tensor):
        return value
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(
            f"{name}: its {len(value)} rows differ in length or shape, but a tensor needs equal rows: "
            "pass padding=True, truncation=True (texts), or do_resize=True, do_center_crop=True (images)"
        ) from error
    return array if torch is None else torch.from_numpy(np.ascontiguousarray(array))
