"""Results of `get_image_features` and `get_text_features`: a tensor (version 4) that is also an output (version 5).

n items, E joint width, L tokens, D width of the tower.
"""

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn

from cjkclip.compat.transformers.models.outputs import BaseModelOutputWithPooling

FIELDS = BaseModelOutputWithPooling.fields


class Features(Tensor):
    """Features (n, E), not normalised. Computing with them gives plain tensors.

    `pooler_output` returns the same numbers as a plain tensor. `last_hidden_state` (n, L, D), `hidden_states` and
    `attentions` come from the tower; see `features`. Saved and copied features are plain tensors.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyright: ignore  as nn.Parameter does

    @property
    def pooler_output(self) -> Tensor:
        """The features as a plain tensor."""
        return self.view_as(self)

    def __getattr__(self, name: str) -> Any:
        """Raise AttributeError: Python calls this only for missing attributes."""
        if name in ("hidden_states", "attentions"):
            return None
        if name == "last_hidden_state":
            raise AttributeError(
                "these features have no last_hidden_state, which would keep the states of every token in memory: "
                "pass return_dict=True to the call that returned them, or call the tower, model.vision_model(pixels)"
            )
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")

    def __getitem__(self, key: Any) -> Any:
        """Return a field by its name, or an item or slice as a plain tensor."""
        if isinstance(key, str):
            if key not in FIELDS:
                raise KeyError(f"{key!r} is not one of {FIELDS}")
            return getattr(self, key)
        return Tensor.__getitem__(self, key)

    def detach(self) -> Tensor:
        """Return features without gradient; nn.Parameter requires that they are of the same class."""
        return Tensor.detach(self).as_subclass(Features)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Store a plain tensor or parameter, which torch.load reads with weights_only=True."""
        return cast(Any, self._plain()).__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[Any, Any]) -> Any:
        """Return a copy as a plain tensor or parameter."""
        return copy.deepcopy(self._plain(), memo)

    def _plain(self) -> Tensor:
        plain = Tensor.detach(self)
        return (
            nn.Parameter(plain, self.requires_grad)
            if isinstance(self, nn.Parameter)
            else plain.requires_grad_(self.requires_grad)
        )


def features(vectors: Tensor, output: BaseModelOutputWithPooling, keep: bool | None) -> Tensor:
    """Return features with the states of the tower's output if `keep`, or if gradients keep them in memory anyway."""
    if torch.jit.is_tracing():  # pyright: ignore[reportPrivateImportUsage]
        return vectors
    exporting = torch.compiler.is_exporting()  # torch.export cannot trace a subclass that it did not get as an input
    result = vectors if exporting else vectors.as_subclass(Features)
    if exporting:  # not `result is vectors`, which torch.compile takes for true
        result.pooler_output = vectors.view_as(vectors)  # pyright: ignore[reportAttributeAccessIssue]
    for name in ("last_hidden_state", "hidden_states", "attentions"):
        if name in output and (name != "last_hidden_state" or keep or vectors.requires_grad):
            setattr(result, name, output[name])
    return result
