"""Compare two checkpoints: tokens, pixels and every stage of both towers.

    comparison = verify.compare("moji", "converted/")
    comparison.same, comparison.first        # True, None; or False and the first stage that differs

The inputs are part of the package: cropped images of the bundled gallery, and its names in five languages. Both models
get the first checkpoint's pixels and ids, so a difference in tokenizer or resize is reported once and does not hide
the weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from cjkclip.clip import Clip
from cjkclip.config import TextTower
from cjkclip.engines import Stages
from cjkclip.errors import InputError
from cjkclip.loading import load
from cjkclip.probes import noise, pictures, random_tokens, sentences
from cjkclip.text import Tokens

__all__ = ["TOLERANCE", "Comparison", "Stage", "compare", "pictures", "sentences"]

TOLERANCE = 2e-6  # relative to a stage's largest value; float32 sums in another order differ by less
SIDES = ("first", "second")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One value that both checkpoints computed."""

    name: str  # "tokens", "pixels", a stage of an engine ("image_block_0"), or "logit_scale"
    largest: float  # the largest absolute value on the first side; for tokens, the number of texts
    apart: float | None  # the largest absolute difference; for tokens, texts whose ids differ; None: see `note`
    note: str  # more about the difference, or ""

    @property
    def relative(self) -> float | None:
        """`apart` over `largest`."""
        return self.apart if self.apart is None or self.largest == 0 else self.apart / self.largest


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Every stage in the order of computation, and the differences of the configs."""

    stages: tuple[Stage, ...]
    facts: tuple[str, ...]  # "vision.act: 'gelu' and 'quick_gelu'"; towers that one side lacks
    tolerance: float

    def within(self, stage: Stage) -> bool:
        """Whether a stage is the same, within the tolerance."""
        return stage.relative is not None and stage.relative <= self.tolerance

    @property
    def first(self) -> Stage | None:
        """The first stage that differs."""
        return next((stage for stage in self.stages if not self.within(stage)), None)

    @property
    def same(self) -> bool:
        """Whether every stage is the same, within the tolerance."""
        return self.first is None


def compare(a: Clip | str | Path, b: Clip | str | Path, *, tolerance: float = TOLERANCE) -> Comparison:
    """Compare two models, each loaded or given by name. Use the same engine for both.

    tolerance: the largest difference that counts as the same, relative to a stage's largest value. Raises InputError
    if the models have no tower in common, and the errors of `load`.
    """
    clips = tuple(each if isinstance(each, Clip) else load(each, precision="fp32") for each in (a, b))
    one, two = clips
    vision, text = (all(getattr(clip.config, part) is not None for clip in clips) for part in ("vision", "text"))
    if not vision and not text:
        raise InputError(
            "the models have no tower in common: one has only an image tower, the other only a text tower. "
            "Compare models that share a tower"
        )
    inputs, towers = list[Stage](), list[Stage]()
    if text:
        tokens, stages = _tokens(one, two)
        inputs += stages
        towers += _texts(one, two, tokens)
    if vision:
        pixels, stages = _pixels(one, two)
        inputs += stages
        towers = [*_images(one, two, pixels), *towers]
    if vision and text:
        towers.append(_difference("logit_scale", np.array(one.logit_scale), np.array(two.logit_scale)))
    return Comparison(stages=(*inputs, *towers), facts=tuple(_facts(one, two)), tolerance=tolerance)


def _tokens(one: Clip, two: Clip) -> tuple[Tokens, list[Stage]]:
    """Return the ids for both towers, and the comparison of the tokenizers."""
    texts = sentences()
    rows = [clip.tokenize(texts) if clip.tokenizer is not None else None for clip in (one, two)]
    first, second = rows
    if first is None or second is None:
        note = _only(first is not None, "tokenizer files")
        stage = Stage(name="tokens", largest=float(len(texts)), apart=None, note=note)
        return first or second or random_tokens(*(cast(TextTower, clip.config.text) for clip in (one, two))), [
            stage
        ] if first or second else []
    other = [i for i in range(len(texts)) if not np.array_equal(_ids(first, i), _ids(second, i))]
    note = f"different ids for {texts[other[0]][:20]!r}" if other else ""
    return first, [Stage(name="tokens", largest=float(len(texts)), apart=float(len(other)), note=note)]


def _ids(tokens: Tokens, row: int) -> np.ndarray:
    return tokens.ids[row][tokens.mask[row] == 1]


def _texts(one: Clip, two: Clip, tokens: Tokens) -> list[Stage]:
    length = int(np.flatnonzero(tokens.mask.sum(axis=0)).max(initial=0)) + 1
    ids, mask = tokens.ids[:, :length], tokens.mask[:, :length]
    for side, clip in zip(SIDES, (one, two), strict=True):
        tower = cast(TextTower, clip.config.text)
        if length > tower.context or ids.max() >= tower.vocab:
            accepted = f"{tower.context} ids per text, below {tower.vocab}"
            note = f"{length} ids per text, up to {ids.max()}, do not fit the {side}: it accepts {accepted}"
            return [Stage(name="text_features", largest=0.0, apart=None, note=note)]
    return _stages(one.engine.text_stages(ids, mask), two.engine.text_stages(ids, mask))


def _pixels(one: Clip, two: Clip) -> tuple[np.ndarray, list[Stage]]:
    """Return the pixels for both towers, and the comparison of the preprocessing."""
    images = pictures()
    first, second = (clip.preprocess(images) if clip.config.image is not None else None for clip in (one, two))
    if first is None and second is None:
        size = cast(Any, one.config.vision).image_size
        return noise(len(images), size), []
    if first is None or second is None:
        stage = Stage(name="pixels", largest=0.0, apart=None, note=_only(first is not None, "preprocessing files"))
        return cast(np.ndarray, first if second is None else second), [stage]
    stage = _difference("pixels", first, second)
    if first.shape != second.shape or np.array_equal(first, second):
        return first, [stage]
    other = int((np.abs(first - second).max(axis=(1, 2, 3)) > 0).sum())
    return first, [replace(stage, note=f"{other} of {len(first)} images")]


def _images(one: Clip, two: Clip, pixels: np.ndarray) -> list[Stage]:
    sizes = [cast(Any, clip.config.vision).image_size for clip in (one, two)]
    for side, size in zip(SIDES, sizes, strict=True):
        if pixels.shape[2] != size:
            note = f"pixels of {pixels.shape[2]} a side do not fit the {side}: it accepts {size}"
            return [Stage(name="image_features", largest=0.0, apart=None, note=note)]
    return _stages(one.engine.image_stages(pixels), two.engine.image_stages(pixels))


def _stages(first: Stages, second: Stages) -> list[Stage]:
    stages: list[Stage] = []
    for name in (*first, *(name for name in second if name not in first)):
        if name in first and name in second:
            stages.append(_difference(name, first[name], second[name]))
        else:
            stages.append(Stage(name=name, largest=0.0, apart=None, note=_only(name in first, "this stage")))
    return stages


def _difference(name: str, first: np.ndarray, second: np.ndarray) -> Stage:
    if first.shape != second.shape:
        return Stage(name=name, largest=0.0, apart=None, note=f"shapes {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return Stage(name=name, largest=0.0, apart=None, note="values that are not finite")
    largest, apart = float(np.abs(first).max()), float(np.abs(first - second).max())
    return Stage(name=name, largest=largest, apart=apart, note="")


def _only(first: bool, what: str) -> str:
    return f"only the {SIDES[not first]} has {what}"


def _facts(one: Clip, two: Clip) -> Iterator[str]:
    """Yield the differences of the configs, by dotted names."""
    ours, theirs = (clip.config.to_dict() for clip in (one, two))
    for part, what in (("vision", "an image tower"), ("text", "a text tower")):
        if (ours[part] is None) != (theirs[part] is None):
            yield _only(ours[part] is not None, what)
            rules = {part, "image"} if part == "vision" else {part}
            ours, theirs = ({k: v for k, v in record.items() if k not in rules} for record in (ours, theirs))
    first, second = dict(_flat(ours)), dict(_flat(theirs))
    for name in (*first, *(name for name in second if name not in first)):
        if first.get(name) != second.get(name) and not (name == "text.eot" and _unread(first) and _unread(second)):
            yield f"{name}: {first.get(name)!r} and {second.get(name)!r}"


def _flat(record: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{field}", each) for field, each in cast(dict[str, Any], value).items())
        else:
            yield name, value


def _unread(facts: dict[str, Any]) -> bool:
    """Whether the id of the end token is unused, because the text is pooled at the largest id."""
    return facts.get("text.pool") == "largest-id"
