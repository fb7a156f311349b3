"""What the arithmetic reads, as frozen keyword-only data: no tensors, no framework.

Widths are counts of features, sizes are pixels. A field exists only if some tower, or the path from a picture to
its pixels, reads it. No field has a default: what differs between families must be said by the family.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, cast

from cjkclip import records
from cjkclip.errors import FactsError
from cjkclip.records import Limit

Act = Literal["quick_gelu", "gelu"]
Pool = Literal["largest-id", "first-eot"]
# "project": a projection without bias; "pooler": tanh of a square linear layer; "pooler-project": the one, then the
# other; "classify": the pooler, then a linear layer with bias
Head = Literal["project", "pooler", "pooler-project", "classify"]
# Beyond these a config is damaged: what they count would be made before anyone saw that the weights do not fit.
MOST, MOST_BLOCKS, MOST_SIDE, MOST_REAL = 1 << 31, 1000, 4096, 1e38
Count = Annotated[int, Limit("at least", 0), Limit("at most", MOST)]
Real = Annotated[float, Limit("at least", -MOST_REAL), Limit("at most", MOST_REAL)]


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A stack of transformer blocks."""

    width: Count
    depth: Count
    heads: Count
    mlp: Count
    act: Act  # cannot be read off the weights: it comes from the file's config or the release
    eps: Real  # of every LayerNorm


@dataclass(frozen=True, kw_only=True)
class Vit(Encoder):
    """Vision transformer, pre-norm: patches of `patch` x `patch` pixels, class token first, read at that token."""

    kind: ClassVar[str] = "vit"
    image_size: Count
    patch: Count
    patch_bias: bool  # has the patch convolution a bias
    pre_norm: bool  # is there a LayerNorm before the first block
    project: bool  # is there a projection; without one the feature is the normalised class token


@dataclass(frozen=True, kw_only=True)
class ResNet:
    """CLIP's modified ResNet: three-convolution stem, average-pooled strides, attention pooling."""

    kind: ClassVar[str] = "resnet"
    image_size: Count  # a multiple of 32
    width: Count  # channels after the stem; the last stage has 32 x width
    stages: tuple[Count, ...]  # blocks per stage, four of them
    heads: Count  # of the attention pooling


Vision = Vit | ResNet


@dataclass(frozen=True, kw_only=True)
class Text(Encoder):
    """Causal text transformer; its feature is read at one position, chosen by `pool`."""

    kind: ClassVar[str] = "clip"
    vocab: Count
    context: Count  # length of the position table, in tokens
    pool: Pool  # upstream pools at the largest id when eos_token_id == 2, else at the first `eot`
    eot: Count  # id of the end-of-text token (not read when pool == "largest-id")
    project: bool  # is there a projection; without one the feature is the pooled token


@dataclass(frozen=True, kw_only=True)
class Bert(Encoder):
    """Bidirectional text transformer, post-norm, read at its first token; pads are masked."""

    kind: ClassVar[str] = "bert"
    vocab: Count
    context: Count  # length of the position table, in tokens
    types: Count  # rows of the token type table; the first is added everywhere
    head: Head  # what makes the feature of the first token


TextTower = Text | Bert


@dataclass(frozen=True, kw_only=True)
class Image:
    """From a picture to pixels. See reference in docs: each family resizes, crops and rounds in its own way."""

    size: Count
    resize: Literal["short-side", "squash"]
    filter: Literal["bicubic", "bilinear"]
    crop: Literal["half-even", "floor"]  # how half of the surplus is rounded; only read for "short-side"
    rgb: Literal["last", "first"]  # is the picture made RGB after the resize or before it
    alpha: Literal["drop", "white"]  # published=True only: transparency dropped, or composited on white
    mean: tuple[Real, Real, Real]
    std: tuple[Real, Real, Real]


@dataclass(frozen=True, kw_only=True)
class Model:
    """One CLIP: either tower may be absent (a published single tower)."""

    vision: Vision | None
    text: TextTower | None
    image: Image | None
    embed: Annotated[Count, Limit("at least", 1)]  # width of the joint space
    scale: Real | None  # what multiplies a cosine, where it is no parameter of the file but a fact (CLOOB)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `from_dict` reads it back."""
        data = asdict(self)
        for part in ("vision", "text"):
            if data[part] is not None:
                data[part]["kind"] = getattr(self, part).kind
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Model":
        """Read what `to_dict` wrote. Raises FactsError on a missing, unknown or ill-typed field."""
        model = records.read(cls, data, "config")
        for part in ("vision", "text", "image"):
            record = getattr(model, part)
            if record is not None and (odd := _impossible(record)):
                raise FactsError(f"config: {part} cannot be: {odd}")
        return model


def unknown(data: Mapping[str, Any]) -> dict[str, str]:
    """The fields that a record for `Model.from_dict` leaves out: dotted name -> what belongs there."""
    lacking: dict[str, str] = {}
    for part in fields(Model):
        record: Any = data.get(part.name)
        kind = records.chosen(part.type, record)
        known = fields(kind) if kind and isinstance(record, Mapping) else ()
        lacking |= {f"{part.name}.{f.name}": records.spell(f.type) for f in known if f.name not in record}
    return lacking


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
