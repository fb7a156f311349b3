"""What transformers' models return: an ordered dictionary whose fields are attributes, and a tuple when indexed.

n pictures, m texts, L tokens, D width, E joint width. A field that was not computed is None and stands in neither
the dictionary nor the tuple. Refuses: fields that an output does not have.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch import Tensor


class ModelOutput(OrderedDict[str, Any]):
    """The base of all outputs; the annotations of a subclass are its fields, in order."""

    fields: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        """Read the fields off the annotations."""
        cls.fields = tuple(cls.__annotations__)

    def __init__(self, values: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), **more: Any) -> None:
        """Fields by name. Raises TypeError for a name that this output does not have."""
        given = dict(values) | more
        if unknown := sorted(set(given) - set(self.fields)):
            raise TypeError(f"{type(self).__name__} has no fields {unknown}; it has {list(self.fields)}")
        super().__init__((name, given[name]) for name in self.fields if given.get(name) is not None)

    def __getattr__(self, name: str) -> Any:
        """A field, or None where it was not computed."""
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
        """By name as a dictionary, by number as a tuple."""
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def to_tuple(self) -> tuple[Any, ...]:
        """What was computed, in order; outputs inside become tuples too."""
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in self.values())


class BaseModelOutputWithPooling(ModelOutput):
    """Of a tower: every token (n, L, D), and the one that is read (n, D)."""

    last_hidden_state: "Tensor | None"
    pooler_output: "Tensor | None"
    hidden_states: "tuple[Tensor, ...] | None"
    attentions: "tuple[Tensor, ...] | None"


class CLIPTextModelOutput(ModelOutput):
    """Of a text tower with its projection: (m, E), not normalised."""

    text_embeds: "Tensor | None"
    last_hidden_state: "Tensor | None"
    hidden_states: "tuple[Tensor, ...] | None"
    attentions: "tuple[Tensor, ...] | None"


class CLIPVisionModelOutput(ModelOutput):
    """Of an image tower with its projection: (n, E), not normalised."""

    image_embeds: "Tensor | None"
    last_hidden_state: "Tensor | None"
    hidden_states: "tuple[Tensor, ...] | None"
    attentions: "tuple[Tensor, ...] | None"


class CLIPOutput(ModelOutput):
    """Of both towers: scaled cosines (n, m) and (m, n), features of unit length, the towers' own outputs."""

    loss: "Tensor | None"
    logits_per_image: "Tensor | None"
    logits_per_text: "Tensor | None"
    text_embeds: "Tensor | None"
    image_embeds: "Tensor | None"
    text_model_output: BaseModelOutputWithPooling | None
    vision_model_output: BaseModelOutputWithPooling | None


class ChineseCLIPOutput(ModelOutput):
    """As CLIPOutput."""

    loss: "Tensor | None"
    logits_per_image: "Tensor | None"
    logits_per_text: "Tensor | None"
    text_embeds: "Tensor | None"
    image_embeds: "Tensor | None"
    text_model_output: BaseModelOutputWithPooling | None
    vision_model_output: BaseModelOutputWithPooling | None
