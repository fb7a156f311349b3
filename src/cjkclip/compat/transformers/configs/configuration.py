"""The base of transformers' configurations: fields as attributes, files, and conversion to and from `config.Model`."""

import difflib
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
from cjkclip.compat.sources import IGNORED, PLACES, SAVE_IDLE, require_idle, where, without_idle
from cjkclip.compat.transformers.hub import push
from cjkclip.config import Model
from cjkclip.errors import InputError, LayoutError
from cjkclip.text.files import read_json

Fields = dict[str, Any]
# Fields of every configuration, which files may leave out.
COMMON: Fields = {"output_attentions": False, "output_hidden_states": False, "return_dict": True}
LABELS: dict[int, str] = {0: "LABEL_0", 1: "LABEL_1"}  # id2label of a configuration without labels
ATTENTION = ("attn_implementation", "_attn_implementation")


def places(options: Mapping[str, Any], name: str | Path, owner: str) -> tuple[Where, Fields]:
    """Split options of `from_pretrained` into those for the place of a repository and the rest. Raises OptionError."""
    rest = without_idle(options, f"{owner}.from_pretrained")
    return where(rest, name), {n: value for n, value in rest.items() if n not in (*PLACES, *IGNORED)}


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
        """Set fields by name, the others to their defaults; fields that no tower reads are stored too.

        Raises TypeError for a name that is probably misspelled, InputError for sizes that do not fit.
        """
        names = {*self.defaults, *COMMON, *self.nested}
        for name in fields:
            near = () if name in names else difflib.get_close_matches(name, names, n=1, cutoff=0.93)
            if near:
                raise TypeError(f"{type(self).__name__} has no field {name!r}: did you mean {near[0]!r}?")
        self._set(fields, checked=True)

    def _set(self, fields: Mapping[str, Any], checked: bool) -> None:
        own = {n: value for n, value in fields.items() if n not in ("model_type", *ATTENTION) and n[:1] != "_"}
        self.__dict__.update(COMMON | deepcopy(dict(self.defaults)))
        for name, value in own.items():
            setattr(self, name, value)
        for name in ATTENTION:
            if fields.get(name) is not None:
                self.__dict__["_attn_implementation"] = fields[name]
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
    def from_dict(cls: type[_M], config_dict: Mapping[str, Any], **fields: Any) -> _M:
        """Build from the content of a config.json; unknown fields are stored too, and `fields` override it."""
        config = cls.__new__(cls)
        config._set(config_dict, checked=False)
        return config.updated(fields)

    @classmethod
    def from_json_file(cls: type[_M], json_file: str | Path) -> _M:
        """Build from a config.json."""
        return cls.from_dict(read_json(Path(json_file)))

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> tuple[Fields, Fields]:
        """Return the content of a checkpoint's config.json, and the options that are fields."""
        where, fields = places(options, pretrained_model_name_or_path, cls.__name__)
        source = checkpoints.resolve(pretrained_model_name_or_path, replace(where, small=True))
        return config_record(source.name, source.folder) or {}, fields

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
    def from_pretrained(cls: type[_M], pretrained_model_name_or_path: str | Path, **options: Any) -> _M:
        """Read the configuration of a checkpoint: a hub name, an alias or a directory. `options` may set fields.

        Raises LayoutError if the checkpoint is of another kind, TypeError for an unknown option.
        """
        where, fields = places(options, pretrained_model_name_or_path, cls.__name__)
        source = checkpoints.resolve(pretrained_model_name_or_path, replace(where, small=True))
        record = config_record(source.name, source.folder)
        part = None if record is None else cls.reads(record)
        if part is not None:
            return cls.from_dict(part).updated(fields)
        return cls.from_model(checkpoints.read(source).config).updated(fields)

    def updated(self: _M, fields: Mapping[str, Any]) -> _M:
        """Set fields and return this configuration. Raises TypeError for an unknown field."""
        known = {*self.__dict__, "num_labels", "id2label", "label2id", "problem_type", *ATTENTION}
        if unknown := sorted(name for name in fields if name not in known):
            raise TypeError(
                f"got {unknown}, neither options of from_pretrained nor fields of {type(self).__name__}: "
                f"remove them, or use one of {sorted(name for name in self.__dict__ if name[:1] != '_')}"
            )
        self.update(fields)
        return self

    def update(self, config_dict: Mapping[str, Any]) -> None:
        """Set fields by name; any name is accepted."""
        for name, value in config_dict.items():
            if name in ATTENTION:
                self.__dict__["_attn_implementation"] = value
            else:
                setattr(self, name, value)

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **options: Any) -> None:
        """Write config.json into a directory, which is created if necessary."""
        require_idle({"push_to_hub": push_to_hub} | options, "save_pretrained", SAVE_IDLE)
        Path(save_directory).mkdir(parents=True, exist_ok=True)
        self.to_json_file(Path(save_directory) / "config.json")

    def push_to_hub(self, repo_id: str, **options: Any) -> str:
        """Upload config.json to a repository of Hugging Face's hub; return the commit's URL. See `hub.push`."""
        return push(self, repo_id, options)

    def get_text_config(self, decoder: bool | None = None, encoder: bool | None = None) -> "PretrainedConfig":
        """Return the configuration of the text tower; a configuration of one tower returns itself."""
        del decoder, encoder
        return getattr(self, "text_config", self)

    def set_vocab_size(self, size: int) -> None:
        """Set the number of tokens of the text tower."""
        self.get_text_config().__dict__["vocab_size"] = size

    @property
    def name_or_path(self) -> str:
        """The name that the model of this configuration was loaded by, else an empty string."""
        return self.__dict__.get("_name_or_path", "")

    @name_or_path.setter
    def name_or_path(self, value: str) -> None:
        self.__dict__["_name_or_path"] = str(value)

    @property
    def use_return_dict(self) -> bool:
        """Whether calls return objects, not tuples."""
        return bool(self.return_dict)

    @property
    def id2label(self) -> dict[int, str]:
        """Names of classes by number, for models that classify; two of them if none were set."""
        return {int(number): name for number, name in self.__dict__.get("id2label", LABELS).items()}

    @id2label.setter
    def id2label(self, value: Mapping[Any, str] | None) -> None:
        if value is not None:
            self.__dict__["id2label"] = {int(number): name for number, name in value.items()}

    @property
    def label2id(self) -> dict[str, int]:
        """Numbers of classes by name."""
        default = {name: number for number, name in self.id2label.items()}
        return self.__dict__.get("label2id", default)

    @label2id.setter
    def label2id(self, value: Mapping[str, int] | None) -> None:
        if value is not None:
            self.__dict__["label2id"] = dict(value)

    @property
    def num_labels(self) -> int:
        """The number of classes."""
        return len(self.id2label)

    @num_labels.setter
    def num_labels(self, value: int) -> None:
        if value != self.num_labels:
            self.id2label = {number: f"LABEL_{number}" for number in range(value)}
            self.label2id = {name: number for number, name in self.id2label.items()}

    def to_dict(self) -> Fields:
        """Return all fields as plain JSON data."""
        own = {name: value for name, value in self.__dict__.items() if name[:1] != "_"}
        plain = {n: v.to_dict() if isinstance(v, PretrainedConfig) else deepcopy(v) for n, v in own.items()}
        return {"model_type": self.model_type} | plain

    def to_diff_dict(self) -> Fields:
        """Return the fields that differ from the defaults of the class, as plain JSON data."""
        default: Fields = type(self)().to_dict()
        diff: Fields = {"model_type": self.model_type}
        for name, value in self.to_dict().items():
            part = self.__dict__.get(name)
            if isinstance(part, PretrainedConfig):
                diff[name] = part.to_diff_dict()
            elif name not in default or value != default[name]:
                diff[name] = value
        return diff

    def to_json_string(self, use_diff: bool = False) -> str:
        """Return `to_dict` as JSON text, or `to_diff_dict`."""
        return json.dumps(self.to_diff_dict() if use_diff else self.to_dict(), indent=2, sort_keys=True) + "\n"

    def to_json_file(self, json_file_path: str | Path, use_diff: bool = False) -> None:
        """Write `to_dict` into a file, or `to_diff_dict`."""
        dump(Path(json_file_path), self.to_diff_dict() if use_diff else self.to_dict())

    def __eq__(self, other: object) -> bool:
        """Whether the other has the same class and fields."""
        return type(other) is type(self) and cast(PretrainedConfig, other).to_dict() == self.to_dict()

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        """Return the class name, and the fields as JSON."""
        return f"{type(self).__name__} {self.to_json_string()}"

    def __getattr__(self, name: str) -> Any:
        """Raise AttributeError: Python calls this only for missing fields."""
        if name == "problem_type":
            return None
        raise AttributeError(f"{type(self).__name__} has no field {name!r}")
