"""The base of transformers' configurations: fields as attributes, files, and conversion to and from `config.Model`."""

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
# Fields of every configuration, which files may leave out.
COMMON: Fields = {"output_attentions": False, "output_hidden_states": False, "return_dict": True}
# Fields in files of version 4 or 5 that no tower reads; they are stored, so that saving loses nothing.
TOLERATED = frozenset(
    {"architectures", "dtype", "torch_dtype", "id2label", "label2id", "model_type", "name_or_path", "problem_type"}
    | {"tie_word_embeddings", "torchscript", "transformers_version", "use_cache", "position_embedding_type"}
    | {"classifier_dropout", "dropout", "text_config_dict", "vision_config_dict", "_name_or_path"}
)


def places(options: Fields) -> tuple[Where, Fields]:
    """Split options of `from_pretrained` into those for the place of a repository and the rest."""
    names = (*PLACES, *IGNORED)
    return where(options), {name: value for name, value in options.items() if name not in names}


def config_record(name: str, folder: Path) -> Fields | None:
    """Return the config.json of a checkpoint in transformers' form; None if it has none."""
    record = Checkpoint(source=name, folder=folder, tensors={}).json("config.json")
    return None if record is None or "model_type" not in record else record


_M = TypeVar("_M", bound="PretrainedConfig")


class PretrainedConfig:
    """Base of all configurations: fields are attributes."""

    model_type: ClassVar[str] = ""
    defaults: ClassVar[Mapping[str, Any]] = {}
    nested: ClassVar[Mapping[str, "type[PretrainedConfig]"]] = {}
    inside: ClassVar[tuple[str, str]] = ("", "")  # model type of a file for both towers, and its field for this one

    @staticmethod
    def record(whole: Mapping[str, Any]) -> Fields:
        """Return the fields of `config.Model` from the fields of this configuration."""
        return dict(whole)

    @staticmethod
    def fields_of(model: Model) -> Fields:
        """Return this configuration's fields from `config.Model`. Raises LayoutError if they cannot express it."""
        raise LayoutError(
            f"no configuration of transformers can express {model!r:.80}; use AutoConfig.from_pretrained(name)"
        )

    def __init__(self, **fields: Any) -> None:
        """Set fields by name, the others to their defaults. Raises TypeError for an unknown field, InputError."""
        names = {*self.defaults, *COMMON, *TOLERATED, *self.nested}
        if unknown := sorted(name for name in fields if name not in names):
            raise TypeError(f"{type(self).__name__} has no fields {unknown}; it has {sorted(names - TOLERATED)}")
        self._set(fields, checked=True)

    def _set(self, fields: Mapping[str, Any], checked: bool) -> None:
        own = {name: value for name, value in fields.items() if name != "model_type" and name[:1] != "_"}
        self.__dict__.update(COMMON | deepcopy(dict(self.defaults)) | own)
        for name, kind in self.nested.items():
            part, legacy = fields.get(name), self.__dict__.pop(name + "_dict", None)
            if not isinstance(part, kind) or legacy is not None:
                plain = part.to_dict() if isinstance(part, PretrainedConfig) else part
                record = overridden(plain or {}, legacy, {**COMMON, **kind.defaults})
                part = kind(**record) if checked else kind.from_dict(record)
            setattr(self, name, part)
        width, heads = self.__dict__.get("hidden_size"), self.__dict__.get("num_attention_heads")
        if isinstance(width, int) and isinstance(heads, int) and (heads < 1 or width % heads):
            raise InputError(
                f"{type(self).__name__}: hidden_size {width} is not a multiple of num_attention_heads {heads}: "
                "pass a num_attention_heads that divides hidden_size"
            )

    @classmethod
    def from_dict(cls: type[_M], record: Mapping[str, Any]) -> _M:
        """Build from the content of a config.json; unknown fields are stored too."""
        config = cls.__new__(cls)
        config._set(record, checked=False)
        return config

    @classmethod
    def from_model(cls: type[_M], model: Model) -> _M:
        """Build from `config.Model`. Raises LayoutError if this configuration cannot express it."""
        return cls.from_dict(cls.fields_of(model))

    def to_model(self) -> Model:
        """Return the `config.Model`. Raises FactsError for a value that no tower supports."""
        empty: Fields = {"vision": None, "text": None, "image": None, "scale": None}
        return Model.from_dict(empty | self.record(self.to_dict()))

    @classmethod
    def reads(cls, record: Mapping[str, Any]) -> Fields | None:
        """Return the part of a config.json for this configuration; None if it is of another kind."""
        kind, field = record.get("model_type"), cls.inside[1]
        if kind == cls.model_type:
            parts: list[tuple[Any, str]] = [
                (record.get(name), nested.model_type) for name, nested in cls.nested.items()
            ]
            others = [fields for fields, own in parts if fields and fields.get("model_type", own) != own]
            return None if others else dict(record)
        part = record.get(field) if kind == cls.inside[0] else None
        fits = isinstance(part, dict) and cast(Fields, part).get("model_type", cls.model_type) == cls.model_type
        return cast(Fields, part) if fits else None

    @classmethod
    def from_pretrained(cls: type[_M], name: str | Path, **options: Any) -> _M:
        """Read the configuration of a checkpoint: a hub name, an alias or a directory. `options` may set fields.

        Raises LayoutError if the checkpoint is of another kind, TypeError for an unknown option.
        """
        where, fields = places(options)
        source = checkpoints.resolve(name, replace(where, small=True))
        record = config_record(source.name, source.folder)
        part = None if record is None else cls.reads(record)
        if part is not None:
            return cls.from_dict(part).updated(fields)
        return cls.from_model(checkpoints.read(source).config).updated(fields)

    def updated(self: _M, fields: Mapping[str, Any]) -> _M:
        """Set fields and return this configuration. Raises TypeError for an unknown field."""
        if unknown := sorted(name for name in fields if name not in self.__dict__):
            raise TypeError(
                f"got {unknown}, neither options of from_pretrained nor fields of {type(self).__name__}: "
                f"remove them, or use one of {sorted(name for name in self.__dict__ if name[:1] != '_')}"
            )
        self.__dict__.update(fields)
        return self

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json into a directory, which is created if necessary."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        dump(Path(folder) / "config.json", self.to_dict())

    def to_dict(self) -> Fields:
        """Return all fields as plain JSON data."""
        own = {name: value for name, value in self.__dict__.items() if name[:1] != "_"}
        plain = {n: v.to_dict() if isinstance(v, PretrainedConfig) else deepcopy(v) for n, v in own.items()}
        return {"model_type": self.model_type} | plain

    def to_json_string(self) -> str:
        """Return `to_dict` as JSON text."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"

    def __eq__(self, other: object) -> bool:
        """Whether the other has the same class and fields."""
        return type(other) is type(self) and cast(PretrainedConfig, other).to_dict() == self.to_dict()

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        """Return the class name, and the fields as JSON."""
        return f"{type(self).__name__} {self.to_json_string()}"

    def __getattr__(self, name: str) -> Any:
        """Raise AttributeError: Python calls this only for missing fields."""
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")
