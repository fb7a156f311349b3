"""What the arithmetic reads, as frozen keyword-only data: no tensors, no framework.

Widths are counts of features, sizes are pixels. A field exists only if some tower, or the path from a picture to
its pixels, reads it. No field has a default: what differs between families must be said by the family.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar, cast

from cjkclip.errors import FactsError

Act = Literal["quick_gelu", "gelu"]
Pool = Literal["largest-id", "first-eot"]
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A stack of pre-norm transformer blocks."""

    width: int
    depth: int
    heads: int
    mlp: int
    act: Act  # cannot be read off the weights: it comes from the file's config or the release
    eps: float  # of every LayerNorm


@dataclass(frozen=True, kw_only=True)
class Vit(Encoder):
    """Vision transformer: patches of `patch` x `patch` pixels, class token first, LayerNorm before and after."""

    image_size: int
    patch: int


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


@dataclass(frozen=True, kw_only=True)
class Image:
    """From a picture to pixels. See reference in docs: each family resizes, crops and rounds in its own way."""

    size: int
    resize: Literal["short-side", "squash"]
    filter: Literal["bicubic", "bilinear"]
    crop: Literal["half-even", "floor"]  # how half of the surplus is rounded; only read for "short-side"
    rgb: Literal["last", "first"]  # is the picture made RGB after the resize or before it
    alpha: Literal["drop", "white"]  # published=True only: transparency dropped, or composited on white
    rescale: Literal["divide", "multiply"]  # x / 255 or x * (1 / 255), which differ in the last bit
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Model:
    """One CLIP: either tower may be absent (a published single tower)."""

    vision: Vision | None
    text: Text | None
    image: Image | None
    embed: int  # width of the joint space

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data; `from_dict` reads it back."""
        data = asdict(self)
        if self.vision is not None:
            data["vision"]["kind"] = "vit" if isinstance(self.vision, Vit) else "resnet"
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Model":
        """Read what `to_dict` wrote. Raises FactsError on a missing, unknown or ill-typed field."""
        vision = data.get("vision")
        kinds: dict[str, type[Vit] | type[ResNet]] = {"vit": Vit, "resnet": ResNet}
        if vision is not None and vision.get("kind") not in kinds:
            raise FactsError(
                f"config: vision.kind is {vision.get('kind')!r}, expected one of {sorted(kinds)}"
            )
        record = None if vision is None else {k: v for k, v in vision.items() if k != "kind"}
        return cls(
            vision=record and _read(kinds[vision["kind"]], record, "vision"),
            text=data.get("text") and _read(Text, data["text"], "text"),
            image=data.get("image") and _read(Image, data["image"], "image"),
            embed=data["embed"],
        )


def _read(kind: type[_T], record: Mapping[str, Any], where: str) -> _T:
    known = {f.name for f in fields(cast(Any, kind))}
    if known != set(record):
        raise FactsError(
            f"config: {where} lacks {sorted(known - set(record))} and has unknown {sorted(set(record) - known)}"
        )
    return kind(**{k: tuple(cast(list[Any], v)) if isinstance(v, list) else v for k, v in record.items()})
