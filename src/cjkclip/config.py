"""The config of a model as frozen keyword-only data: no tensors, no framework.

Widths are counts of features, sizes are pixels. A field exists only if a tower or the preprocessing
reads it. No field has a default: each family must state every value that differs between families.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Annotated, Any, ClassVar, Literal, cast

from cjkclip import records
from cjkclip.errors import FactsError
from cjkclip.records import Limit

Act = Literal["quick_gelu", "gelu"]
Pool = Literal["largest-id", "first-eot"]
# "project": a projection without bias; "pooler": tanh of a square linear layer; "pooler-project": the pooler, then the
# projection; "classify": the pooler, then a linear layer with bias
Head = Literal["project", "pooler", "pooler-project", "classify"]
# A larger value means a damaged config. Without a limit, arrays of that size would be allocated before the check finds
# that the weights do not fit.
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
    act: Act  # the weights do not show it: it comes from the file's config or the release
    eps: Real  # of every LayerNorm


@dataclass(frozen=True, kw_only=True)
class Vit(Encoder):
    """Vision transformer, pre-norm: `patch` x `patch` pixels a patch; the class token, first, gives the feature."""

    kind: ClassVar[str] = "vit"
    image_size: Count
    patch: Count
    patch_bias: bool  # whether the patch convolution has a bias
    pre_norm: bool  # whether a LayerNorm comes before the first block
    project: bool  # whether there is a projection; without one the feature is the normalised class token


@dataclass(frozen=True, kw_only=True)
class PooledVit(Vit):
    """A ViT with the pooler of transformers' ViTModel: tanh of a square linear layer, before the projection."""

    kind: ClassVar[str] = "vit-pooler"


@dataclass(frozen=True, kw_only=True)
class ResNet:
    """CLIP's modified ResNet: three-convolution stem, average-pooled strides, attention pooling."""

    kind: ClassVar[str] = "resnet"
    image_size: Count  # a multiple of 32
    width: Count  # channels after the stem; the last stage has 32 x width
    stages: tuple[Count, ...]  # blocks per stage, four of them
    heads: Count  # of the attention pooling


Vision = Vit | PooledVit | ResNet


@dataclass(frozen=True, kw_only=True)
class Text(Encoder):
    """Causal text transformer; `pool` chooses the position whose output is the feature."""

    kind: ClassVar[str] = "clip"
    vocab: Count
    context: Count  # length of the position table, in tokens
    pool: Pool  # upstream pools at the largest id when eos_token_id == 2, else at the first `eot`
    eot: Count  # id of the end-of-text token (not read when pool == "largest-id")
    project: bool  # whether there is a projection; without one the feature is the pooled token


@dataclass(frozen=True, kw_only=True)
class Bert(Encoder):
    """Bidirectional text transformer, post-norm; its first token gives the feature, and padding is masked."""

    kind: ClassVar[str] = "bert"
    start: ClassVar[int] = 0  # row of the position table for the first token
    vocab: Count
    context: Count  # tokens of the longest text; the position table has `start` rows more
    types: Count  # rows of the token type table; the first is added everywhere
    head: Head  # how the output at the first token becomes the feature


@dataclass(frozen=True, kw_only=True)
class Roberta(Bert):
    """A BERT whose positions begin after the padding's, as in RoBERTa and XLM-R, where the padding has id 1."""

    kind: ClassVar[str] = "roberta"
    start: ClassVar[int] = 2


TextTower = Text | Bert | Roberta


@dataclass(frozen=True, kw_only=True)
class Image:
    """Preprocessing of images to pixels: each family resizes, crops and rounds in its own way."""

    size: Count
    resize: Literal["short-side", "squash"]
    filter: Literal["bicubic", "bilinear"]
    crop: Literal["half-even", "floor"]  # rounding of half the surplus; used with "short-side" only
    rgb: Literal["last", "first"]  # conversion to RGB after or before the resize
    alpha: Literal["drop", "white"]  # used with published=True only: drop transparency, or composite on white
    mean: tuple[Real, Real, Real]
    std: tuple[Real, Real, Real]


@dataclass(frozen=True, kw_only=True)
class Model:
    """A CLIP model; one tower may be absent (a published single tower)."""

    vision: Vision | None
    text: TextTower | None
    image: Image | None
    embed: Annotated[Count, Limit("at least", 1)]  # width of the joint space
    scale: Real | None  # factor of cosine similarities where it is not a parameter of the file (CLOOB)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; `from_dict` reads it."""
        data = asdict(self)
        for part in ("vision", "text"):
            if data[part] is not None:
                data[part]["kind"] = getattr(self, part).kind
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Model":
        """Read data of `to_dict`. Raises FactsError for a field that is missing, unknown or does not fit."""
        model = records.read(cls, data, "config")
        for part in ("vision", "text", "image"):
            record = getattr(model, part)
            if record is not None and (reason := _impossible(record)):
                raise FactsError(f"config: {part} has impossible values, correct config.json or the facts: {reason}")
        return model


def unknown(data: Mapping[str, Any]) -> dict[str, str]:
    """Return dotted name -> type of each field that is missing in a record for `Model.from_dict`."""
    missing: dict[str, str] = {}
    for part in fields(Model):
        record: Any = data.get(part.name)
        kind = records.chosen(part.type, record)
        known = fields(kind) if kind and isinstance(record, Mapping) else ()
        missing |= {f"{part.name}.{f.name}": records.spell(f.type) for f in known if f.name not in record}
    return missing


def _impossible(record: object) -> str | None:
    """Explain why no tower or preprocessing can have these numbers; None if they are possible."""
    if isinstance(record, Image):
        fits = 0 < record.size <= MOST_SIDE and all(record.std)
        return None if fits else f"size {record.size} (1 to {MOST_SIDE}), std {record.std} (not 0)"
    if isinstance(record, ResNet):
        depth, width, small = sum(record.stages), record.width * 32, (record.image_size // 32, record.width // 2)
        depth = depth if len(record.stages) == 4 else MOST_BLOCKS + 1
    else:
        tower = cast(Vit | Text | Bert, record)
        depth, width, small = tower.depth, tower.width, (tower.width, tower.mlp)
        small += (tower.patch, tower.image_size // max(1, tower.patch)) if isinstance(tower, Vit) else (tower.vocab,)
    heads = cast(Any, record).heads
    if depth > MOST_BLOCKS or not all(0 < number <= MOST for number in small) or heads < 1 or width % heads:
        return f"{record} (widths and sizes above 0, a width that its heads divide, at most {MOST_BLOCKS} blocks)"
    return None
