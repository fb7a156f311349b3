"""Inputs that come with the package, to look at a model with: bundled pictures, and their names in five languages.

n pictures or texts, S pixels a side, L tokens. A model without preprocessing or tokenizer files gets noise instead.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import cast

import numpy as np
import PIL.Image

from cjkclip import moji
from cjkclip.config import Model, TextTower
from cjkclip.errors import FactsError
from cjkclip.image import Picture, load_pixels, open_picture
from cjkclip.need import need
from cjkclip.text import Tokenizer, Tokens

# Width and height of the crops. At every published size one of them leaves a surplus that OpenAI's crop and
# transformers' halve differently.
CROPS = ((64, 64), (57, 64), (64, 39), (64, 48), (41, 64), (64, 57))
AND = {"en": " and ", "zh": "和", "zh-Hant": "和", "ja": "と", "ko": ", "}

CALIBRATED, JUDGED = 43, 7  # every so many concepts


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """What the towers of one model are asked with; None for a tower that it lacks."""

    pixels: np.ndarray | None  # (n, 3, S, S) float32
    tokens: Tokens | None


def inputs(config: Model, tokenizer: Tokenizer | None) -> Inputs:
    """The built-in pictures and sentences by a model's own rules."""
    pixels = tokens = None
    if config.vision is not None:
        shown = pictures()
        pixels = load_pixels(shown, config.image) if config.image else noise(len(shown), config.vision.image_size)
    if config.text is not None:
        tokens = tokenizer(sentences()) if tokenizer is not None else random_tokens(config.text)
    return Inputs(pixels=pixels, tokens=tokens)


def calibration(
    config: Model,
    tokenizer: Tokenizer | None,
    languages: Sequence[str],
    own: tuple[Sequence[Picture], Sequence[str]] = ((), ()),
) -> Inputs:
    """Drawings, parts of a photograph, names and longer sentences: what int8 learns its ranges from.

    `own`: pictures, or texts, in place of these. Raises FactsError where the model cannot be shown any.
    """
    concepts, pictures, words = moji.concepts()[3::CALIBRATED], list(own[0]), list(own[1])
    if not pictures and config.vision is not None:
        pictures = [open_picture(moji.pictures("fluent")[concept.cp]) for concept in concepts]
        pictures += parts("china.jpg", len(pictures))
    if not words:
        words = [c.names[lang] for lang in languages for c in concepts[::3]]
        words += ["，".join((c.names[lang], *c.keywords[lang])) for lang in languages for c in concepts[1::3]]
    return real(config, tokenizer, pictures, words)


def judging(
    config: Model, tokenizer: Tokenizer | None, languages: Sequence[str], own: Sequence[Picture] = ()
) -> tuple[Inputs, int]:
    """Other drawings and parts of another photograph, and the names of the drawings; how many drawings there are.

    `own`: pictures in place of the photograph.
    """
    named = moji.gallery("noto")[::JUDGED]
    shown: list[Picture] = [open_picture(data) for _, data in named]
    if config.vision is not None:
        shown += list(own) or parts("flower.jpg", 32)
    names = [concept.names[language] for language in languages for concept, _ in named]
    return real(config, tokenizer, shown, names), len(named)


def real(config: Model, tokenizer: Tokenizer | None, pictures: Sequence[Picture], texts: Sequence[str]) -> Inputs:
    """Pictures and texts for the towers that a model has. Raises FactsError where it cannot be shown any."""
    pixels = tokens = None
    if config.vision is not None:
        if config.image is None:
            raise FactsError("this checkpoint came without preprocessing, so no picture can be shown to it")
        pixels = load_pixels(pictures, config.image)
    if config.text is not None:
        if tokenizer is None:
            raise FactsError("this checkpoint came without tokenizer files, so no sentence can be shown to it")
        tokens = tokenizer(texts)
    return Inputs(pixels=pixels, tokens=tokens)


def parts(name: str, count: int) -> list[PIL.Image.Image]:
    """Square parts of one of scikit-learn's photographs, large and small, the same each time."""
    array = cast(np.ndarray, need("sklearn.datasets", extra="int8").load_sample_image(name))
    shape = cast(tuple[int, ...], array.shape)
    rng, found = np.random.default_rng(0), list[PIL.Image.Image]()
    for _ in range(count):
        side = int(rng.integers(min(shape[:2]) // 6, min(shape[:2]) + 1))
        top, left = (int(rng.integers(0, length - side + 1)) for length in shape[:2])
        found.append(PIL.Image.fromarray(array[top : top + side, left : left + side]))
    return found


def pictures() -> tuple[PIL.Image.Image, ...]:
    """Bundled pictures, cropped to different proportions."""
    return tuple(
        open_picture(data).crop((0, 0, *size))
        for (_, data), size in zip(_chosen(), CROPS[: len(_chosen())], strict=True)
    )


def sentences() -> tuple[str, ...]:
    """Names in five languages; then, per language, all of them as one long sentence with full-width marks."""
    words = [[concept.names[language] for concept, _ in _chosen()] for language in moji.LANGUAGES]
    return tuple(word for row in words for word in row) + tuple("，".join([*row * 6, "OK！"]) for row in words)


def captions(count: int) -> tuple[str, ...]:
    """As many short captions, all different, in five languages by turns: two names each. At most 1,379.

    >>> captions(3)[1:]
    ('哈哈和大笑', '呵呵和嘻嘻')
    """
    shown = moji.concepts()
    pairs = ((shown[i], shown[(i + 1) % len(shown)], moji.LANGUAGES[i % len(moji.LANGUAGES)]) for i in range(count))
    return tuple(f"{a.names[language]}{AND[language]}{b.names[language]}" for a, b, language in pairs)


def photograph(width: int, height: int, quality: int = 90) -> bytes:
    """A JPEG with the smooth parts and the detail of a photograph, more or less, the same each time."""
    rng = np.random.default_rng(width)
    coarse = PIL.Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((width, height), 3)
    grain = rng.normal(0, 8, (height, width, 1))
    pixels = np.clip(np.asarray(coarse, np.float32) + grain, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def noise(count: int, side: int) -> np.ndarray:
    """Normalised pixels of no picture, the same each time: (count, 3, side, side)."""
    return np.random.default_rng(0).normal(size=(count, 3, side, side)).astype(np.float32)


def random_tokens(*towers: TextTower) -> Tokens:
    """Ids that every one of the towers reads: anything but the last id, which stands at the end."""
    vocab, context = min(tower.vocab for tower in towers), min(tower.context for tower in towers)
    ids = np.random.default_rng(0).integers(0, vocab - 1, (8, min(context, 32)))
    ids[:, -1] = vocab - 1
    return Tokens(ids=ids, mask=np.ones_like(ids), truncated=())


@cache
def _chosen() -> tuple[tuple[moji.Concept, bytes], ...]:
    """As many concepts as there are crops, from the whole gallery."""
    shown = moji.gallery("noto")
    return tuple(shown[:: max(1, len(shown) // len(CROPS))][: len(CROPS)])
