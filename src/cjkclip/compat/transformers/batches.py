"""What tokenizers and processors hand over: BatchEncoding and BatchFeature, dictionaries that can become tensors.

Refuses: rows of different lengths where a tensor is asked for, and kinds of tensors other than "pt" and "np".
"""

from collections import UserDict
from collections.abc import Mapping
from typing import Any, TypeVar

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

    def to(self: _B, target: Any, *, non_blocking: bool = False) -> _B:
        """Tensors on a device, or (floating point only) of a type, in place."""
        torch = need("torch", extra="torch")
        kind = isinstance(target, torch.dtype)
        for name, value in self.data.items():
            if isinstance(value, torch.Tensor) and (not kind or value.is_floating_point()):
                self.data[name] = value.to(target, non_blocking=non_blocking)
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
