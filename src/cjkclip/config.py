"""What the arithmetic reads, as frozen keyword-only data: no tensors, no framework.

Widths are counts of features, sizes are pixels. A field exists only if some tower, or the path from a picture to
its pixels, reads it. No field has a default: what differs between families must be said by the family.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar, cast, get_args, get_origin

from cjkclip.errors import FactsError

Act = Literal["quick_gelu", "gelu"]
Pool = Literal["largest-id", "first-eot"]
# "project": a projection without bias; "pooler": tanh of a square linear layer; "pooler-project": the one, then the
# other; "classify": the pooler, then a linear layer with bias
Head = Literal["project", "pooler", "pooler-project", "classify"]
_T = TypeVar("_T")
# Beyond these a config is damaged: what they count would be made before anyone saw that the weights do not fit.
MOST, MOST_BLOCKS, MOST_SIDE, MOST_REAL = 1 << 31, 1000, 4096, 1e38


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A stack of transformer blocks."""

    width: int
    depth: int
    heads: int
    mlp: int
    act: Act  # cannot be read off the weights: it comes from the file's config or the release
    eps: float  # of every LayerNorm


@dataclass(frozen=True, kw_only=True)
class Vit(Encoder):
    """Vision transformer, pre-norm: patches of `patch` x `patch` pixels, class token first, read at that token."""

    image_size: int
    patch: int
    patch_bias: bool  # has the patch convolution a bias
    pre_norm: bool  # is there a LayerNorm before the first block
    project: bool  # is there a projection; without one the feature is the normalised class token


@dataclass(frozen=True, kw_only=True)
class ResNet:
    """CLIP's modified ResNet: three-convolution stem, average-pooled strides, attention pooling."""

    image_size: int  # a multiple of 32
    width: int  # channels after the stem; the last stage has 32 x width
    stages: tuple[int, ...]  # blocks per stage, four of them
    heads: int  # of the attention pooling


Vision = Vit | ResNet


@dataclass(frozen=True, kw_only=True)
class Text(Encoder):
    """Causal text transformer; its feature is read at one position, chosen by `pool`."""

    vocab: int
    context: int  # length of the position table, in tokens
    pool: Pool  # upstream pools at the largest id when eos_token_id == 2, else at the first `eot`
    eot: int  # id of the end-of-text token (not read when pool == "largest-id")
    project: bool  # is there a projection; without one the feature is the pooled token


@dataclass(frozen=True, kw_only=True)
class Bert(Encoder):
    """Bidirectional text transformer, post-norm, read at its first token; pads are masked."""

    vocab: int
    context: int  # length of the position table, in tokens
    types: int  # rows of the token type table; the first is added everywhere
    head: Head  # what makes the feature of the first token


TextTower = Text | Bert


@dataclass(frozen=True, kw_only=True)
class Image:
    """From a picture to pixels. See reference in docs: each family resizes, crops and rounds in its own way."""

    size: int
    resize: Literal["short-side", "squash"]
    filter: Literal["bicubic", "bilinear"]
    crop: Literal["half-even", "floor"]  # how half of the surplus is rounded; only read for "short-side"
    rgb: Literal["last", "first"]  # is the picture made RGB after the resize or before it
    alpha: Literal["drop", "white"]  # published=True only: transparency dropped, or composited on white
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


KINDS: dict[str, dict[str, type[Any]]] = {
    "vision": {"vit": Vit, "resnet": ResNet},
    "text": {"clip": Text, "bert": Bert},
}


@dataclass(frozen=True, kw_only=True)
class Model:
    """One CLIP: either tower may be absent (a published single tower)."""

    vision: Vision | None
    text: TextTower | None
    image: Image | None
    embed: int  # width of the joint space
    scale: float | None  # what multiplies a cosine, where it is no parameter of the file but a fact (CLOOB)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `from_dict` reads it back."""
        data = asdict(self)
        for part, kinds in KINDS.items():
            if data[part] is not None:
                data[part]["kind"] = next(name for name, kind in kinds.items() if type(getattr(self, part)) is kind)
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Model":
        """Read what `to_dict` wrote. Raises FactsError on a missing, unknown or ill-typed field."""
        missing = {"vision", "text", "image", "embed", "scale"} - set(data)
        if missing:
            raise FactsError(f"config lacks {sorted(missing)}")
        vision, text, image = data["vision"], data["text"], data["image"]
        if type(data["embed"]) is not int or not 0 < data["embed"] <= MOST:
            raise FactsError(f"config: embed is {data['embed']!r}, expected a whole number above 0")
        if not _fits(data["scale"], float) and data["scale"] is not None:
            raise FactsError(f"config: scale is {data['scale']!r}, expected a number or nothing")
        return cls(
            vision=None if vision is None else _read_tower(vision, "vision"),
            text=None if text is None else _read_tower(text, "text"),
            image=None if image is None else _read(Image, image, "image"),
            embed=data["embed"],
            scale=data["scale"],
        )


def unknown(data: Mapping[str, Any]) -> dict[str, str]:
    """The fields that a record for `Model.from_dict` leaves out: dotted name -> what belongs there."""
    parts: dict[str, Any] = {"image": Image}
    for part, kinds in KINDS.items():
        tower: Mapping[str, Any] = data.get(part) or {}
        parts[part] = kinds.get(tower.get("kind", ""))
    return {
        f"{part}.{field.name}": _spell(field.type)
        for part, kind in parts.items()
        if data.get(part) is not None and kind is not None
        for field in fields(kind)
        if field.name not in data[part]
    }


def _read_tower(record: Mapping[str, Any], part: str) -> Any:
    kind = record.get("kind")
    if kind not in KINDS[part]:
        raise FactsError(f"config: {part}.kind is {kind!r}, expected one of {sorted(KINDS[part])}")
    return _read(KINDS[part][kind], {k: v for k, v in record.items() if k != "kind"}, part)


def _read(kind: type[_T], record: Mapping[str, Any], where: str) -> _T:
    known = {f.name: f.type for f in fields(cast(Any, kind))}
    lacks, unknown = sorted(set(known) - set(record)), sorted(set(record) - set(known))
    if lacks or unknown:
        raise FactsError(f"config: {where} lacks {lacks} and has unknown {unknown}")
    values = {k: tuple(cast(list[Any], v)) if isinstance(v, list) else v for k, v in record.items()}
    for name, value in values.items():
        if not _fits(value, known[name]):
            raise FactsError(f"config: {where}.{name} is {value!r}, expected {_spell(known[name])}")
    made = kind(**values)
    if odd := _impossible(made):
        raise FactsError(f"config: {where} cannot be: {odd}")
    return made


def _impossible(made: object) -> str | None:
    """Why no tower, and no picture, can have these numbers; None if they are possible."""
    if isinstance(made, Image):
        fits = 0 < made.size <= MOST_SIDE and all(made.std)
        return None if fits else f"size {made.size} (1 to {MOST_SIDE}), std {made.std} (not 0)"
    if isinstance(made, ResNet):
        depth, width, small = sum(made.stages), made.width * 32, (made.image_size // 32, made.width // 2)
        depth = depth if len(made.stages) == 4 else MOST_BLOCKS + 1
    else:
        tower = cast(Vit | Text | Bert, made)
        depth, width, small = tower.depth, tower.width, (tower.width, tower.mlp)
        small += (tower.patch, tower.image_size // max(1, tower.patch)) if isinstance(tower, Vit) else (tower.vocab,)
    heads = cast(Any, made).heads
    if depth > MOST_BLOCKS or not all(0 < number <= MOST for number in small) or heads < 1 or width % heads:
        return f"{made} (widths and sizes above 0, a width that its heads divide, at most {MOST_BLOCKS} blocks)"
    return None


def _fits(value: object, kind: Any) -> bool:
    """Is a value of the kind that a field is annotated with: int, float, a Literal, a tuple of numbers?"""
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        items, kinds = cast(tuple[object, ...], value), get_args(kind)
        if not isinstance(value, tuple):
            return False
        kinds = kinds[:1] * len(items) if kinds[-1] is Ellipsis else kinds
        return len(items) == len(kinds) and all(map(_fits, items, kinds))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST_REAL
    return type(value) is kind and 0 <= cast(int, value) <= MOST


def _spell(kind: Any) -> str:
    return f"one of {list(get_args(kind))}" if get_origin(kind) is Literal else getattr(kind, "__name__", str(kind))
