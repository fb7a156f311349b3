"""What transformers' configurations have in common: fields as attributes, files, and the way to our records.

Refuses: fields that no configuration has, heads that do not divide the width, files of another kind of model.
"""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

from cjkclip import checkpoints
from cjkclip.checkpoints import Where
from cjkclip.checkpoints.formats import Checkpoint
from cjkclip.checkpoints.formats.transformers import dump, overridden
from cjkclip.compat.sources import IGNORED, PLACES, where
from cjkclip.config import Model
from cjkclip.errors import InputError, LayoutError

Fields = dict[str, Any]
# what every configuration has, and files may leave out
COMMON: Fields = {"output_attentions": False, "output_hidden_states": False, "return_dict": True}
# what files of either version say and no tower reads; kept, so that saving loses nothing
TOLERATED = frozenset(
    {"architectures", "dtype", "torch_dtype", "id2label", "label2id", "model_type", "name_or_path", "problem_type"}
    | {"tie_word_embeddings", "torchscript", "transformers_version", "use_cache", "position_embedding_type"}
    | {"classifier_dropout", "dropout", "text_config_dict", "vision_config_dict", "_name_or_path"}
)


def places(options: Fields) -> tuple[Where, Fields]:
    """What `from_pretrained` may say of where a repository lies, and the other options."""
    read = (*PLACES, *IGNORED)
    return where(options), {name: value for name, value in options.items() if name not in read}


def config_record(name: str, folder: Path) -> Fields | None:
    """The config.json of a checkpoint as transformers wrote it; None where there is none of its kind."""
    record = Checkpoint(source=name, folder=folder, tensors={}).json("config.json")
    return None if record is None or "model_type" not in record else record


_M = TypeVar("_M", bound="PretrainedConfig")


class PretrainedConfig:
    """The base of all configurations: fields are attributes."""

    model_type: ClassVar[str] = ""
    defaults: ClassVar[Mapping[str, Any]] = {}
    nested: ClassVar[Mapping[str, "type[PretrainedConfig]"]] = {}
    inside: ClassVar[tuple[str, str]] = ("", "")  # the model type of a whole model's file, and its field that has it

    @staticmethod
    def record(whole: Mapping[str, Any]) -> Fields:
        """Our record's fields from this configuration's."""
        return dict(whole)

    @staticmethod
    def tell(model: Model) -> Fields:
        """This configuration's fields from our record. Raises LayoutError if it cannot say it."""
        raise LayoutError(f"no configuration of transformers says a model of {model!r:.80}")

    def __init__(self, **fields: Any) -> None:
        """Fields by name; what is left out has its default. Raises TypeError for an unknown one, InputError."""
        known = {*self.defaults, *COMMON, *TOLERATED, *self.nested}
        if unknown := sorted(name for name in fields if name not in known):
            raise TypeError(f"{type(self).__name__} has no fields {unknown}; it has {sorted(known - TOLERATED)}")
        self._set(fields, checked=True)

    def _set(self, fields: Mapping[str, Any], checked: bool) -> None:
        kept = {name: value for name, value in fields.items() if name != "model_type" and name[:1] != "_"}
        self.__dict__.update(COMMON | deepcopy(dict(self.defaults)) | kept)
        for name, kind in self.nested.items():
            given, legacy = fields.get(name), self.__dict__.pop(name + "_dict", None)
            if not isinstance(given, kind) or legacy is not None:
                plain = given.to_dict() if isinstance(given, PretrainedConfig) else given
                record = overridden(plain or {}, legacy, {**COMMON, **kind.defaults})
                given = kind(**record) if checked else kind.from_dict(record)
            setattr(self, name, given)
        width, heads = self.__dict__.get("hidden_size"), self.__dict__.get("num_attention_heads")
        if isinstance(width, int) and isinstance(heads, int) and (heads < 1 or width % heads):
            raise InputError(
                f"{type(self).__name__}: hidden_size {width} is no multiple of num_attention_heads {heads}"
            )

    @classmethod
    def from_dict(cls: type[_M], record: Mapping[str, Any]) -> _M:
        """From the data of a config.json; fields that are not known are kept."""
        config = cls.__new__(cls)
        config._set(record, checked=False)
        return config

    @classmethod
    def from_model(cls: type[_M], model: Model) -> _M:
        """From our record. Raises LayoutError if this configuration cannot say it."""
        return cls.from_dict(cls.tell(model))

    def to_model(self) -> Model:
        """Our record. Raises FactsError for a value that no tower computes with."""
        empty: Fields = {"vision": None, "text": None, "image": None, "scale": None}
        return Model.from_dict(empty | self.record(self.to_dict()))

    @classmethod
    def reads(cls, record: Mapping[str, Any]) -> Fields | None:
        """The part of a config.json that is this configuration's; None if it is of another kind."""
        kind, field = record.get("model_type"), cls.inside[1]
        if kind == cls.model_type:
            parts: list[tuple[Any, str]] = [(record.get(name), part.model_type) for name, part in cls.nested.items()]
            others = [part for part, own in parts if part and part.get("model_type", own) != own]
            return None if others else dict(record)
        found = record.get(field) if kind == cls.inside[0] else None
        mine = isinstance(found, dict) and cast(Fields, found).get("model_type", cls.model_type) == cls.model_type
        return cast(Fields, found) if mine else None

    @classmethod
    def from_pretrained(cls: type[_M], name: str | Path, **options: Any) -> _M:
        """Of a checkpoint: a hub name, an alias or a folder. `options` may set fields.

        Raises LayoutError if the checkpoint is of another kind, TypeError for an unknown option.
        """
        where, fields = places(options)
        source = checkpoints.resolve(name, replace(where, small=True))
        record = config_record(source.name, source.folder)
        mine = None if record is None else cls.reads(record)
        if mine is not None:
            return cls.from_dict(mine).updated(fields)
        return cls.from_model(checkpoints.read(source).config).updated(fields)

    def updated(self: _M, fields: Mapping[str, Any]) -> _M:
        """This configuration with fields set. Raises TypeError for one that it does not have."""
        if unknown := sorted(name for name in fields if name not in self.__dict__):
            raise TypeError(f"from_pretrained and {type(self).__name__} know no {unknown}")
        self.__dict__.update(fields)
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json into a folder, which is made."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        dump(Path(folder) / "config.json", self.to_dict())

    def to_dict(self) -> Fields:
        """Plain JSON data, complete."""
        own = {name: value for name, value in self.__dict__.items() if name[:1] != "_"}
        plain = {n: v.to_dict() if isinstance(v, PretrainedConfig) else deepcopy(v) for n, v in own.items()}
        return {"model_type": self.model_type} | plain

    def to_json_string(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def __eq__(self, other: object) -> bool:
        """Of the same kind, with the same fields."""
        return type(other) is type(self) and cast(PretrainedConfig, other).to_dict() == self.to_dict()

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        """The kind, and the fields as JSON."""
        return f"{type(self).__name__} {self.to_json_string()}"

    def __getattr__(self, name: str) -> Any:
        """Only asked for what is not there."""
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")
