"""Outputs of transformers' models: ordered dictionaries with fields as attributes, also indexed as tuples.

n images, m texts, L tokens, D width, E joint width. A field that was not computed is None; neither the dictionary nor
the tuple contains it. Each class is a node of torch's pytrees, so that torch.export can return it.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, ClassVar

from torch import Tensor
from torch.utils import _pytree as pytree  # torch's own documentation registers classes through this module


class ModelOutput(OrderedDict[str, Any]):
    """Base of all outputs; the annotations of a subclass are its fields, in order."""

    fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        """Take the fields from the annotations, and register the class with torch's pytrees."""
        cls.fields = tuple(cls.__annotations__)
        pytree.register_pytree_node(
            cls,
            _taken_apart,
            partial(_put_together, cls),
            serialized_type_name=f"{cls.__module__}.{cls.__name__}",
            flatten_with_keys_fn=_with_keys,
        )

    def __init__(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), **more: Any) -> None:
        """Set fields by name. Raises TypeError for a name that this output does not have."""
        fields = dict(values) | more
        if unknown := sorted(set(fields) - set(self.fields)):
            raise TypeError(f"{type(self).__name__} has no fields {unknown}; it has {list(self.fields)}")
        super().__init__((name, fields[name]) for name in self.fields if fields.get(name) is not None)

    def __getattr__(self, name: str) -> Any:
        """Return a field, or None if it was not computed."""
        if name not in self.fields:
            raise AttributeError(f"{type(self).__name__} has no field {name!r}; it has {list(self.fields)}")
        return self.get(name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field."""
        if name in self.fields:
            self[name] = value
        else:
            super().__setattr__(name, value)

    def __getitem__(self, key: str | int | slice) -> Any:
        """Return an item by name, as a dictionary does, or by number, as a tuple does."""
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """Return the computed values in order; nested outputs become tuples too."""
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in self.values())


def _taken_apart(output: ModelOutput) -> tuple[list[Any], list[str]]:
    return list(output.values()), list(output)


def _with_keys(output: ModelOutput) -> tuple[list[tuple[Any, Any]], list[str]]:
    return [(pytree.MappingKey(name), value) for name, value in output.items()], list(output)


def _put_together(kind: type[ModelOutput], values: Iterable[Any], names: Iterable[str]) -> ModelOutput:
    return kind(zip(names, values, strict=True))


class BaseModelOutputWithPooling(ModelOutput):
    """Output of a tower: the states of all tokens (n, L, D), and the pooled vector (n, D)."""

    last_hidden_state: Tensor | None
    pooler_output: Tensor | None
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None


class CLIPTextModelOutput(ModelOutput):
    """Output of a text tower with projection: features (m, E), not normalised."""

    text_embeds: Tensor | None
    last_hidden_state: Tensor | None
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None


class CLIPVisionModelOutput(ModelOutput):
    """Output of an image tower with projection: features (n, E), not normalised."""

    image_embeds: Tensor | None
    last_hidden_state: Tensor | None
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None


class CLIPOutput(ModelOutput):
    """Output of both towers: scaled cosine similarities (n, m) and (m, n), unit features, and each tower's output."""

    loss: Tensor | None
    logits_per_image: Tensor | None
    logits_per_text: Tensor | None
    text_embeds: Tensor | None
    image_embeds: Tensor | None
    text_model_output: BaseModelOutputWithPooling | None
    vision_model_output: BaseModelOutputWithPooling | None


class ChineseCLIPOutput(ModelOutput):
    """The fields of CLIPOutput, under Chinese-CLIP's name."""

    loss: Tensor | None
    logits_per_image: Tensor | None
    logits_per_text: Tensor | None
    text_embeds: Tensor | None
    image_embeds: Tensor | None
    text_model_output: BaseModelOutputWithPooling | None
    vision_model_output: BaseModelOutputWithPooling | None
