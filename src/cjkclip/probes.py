"""Built-in inputs that test a model: bundled images, and their names in five languages.

n images or texts, S pixels a side, L tokens. A model without preprocessing or tokenizer files gets noise instead.
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

# Width and height of the crops. At every published size, OpenAI's crop and transformers' crop round half of the
# surplus of one of them differently.
CROPS = ((64, 64), (57, 64), (64, 39), (64, 48), (41, 64), (64, 57))
AND = {"en": " and ", "zh": "和", "zh-Hant": "和", "ja": "と", "ko": ", "}

CALIBRATED, JUDGED = 43, 7  # take every 43rd, every 7th concept


@dataclass(frozen=True, kw_only=True, eq=False)
class Inputs:
    """Inputs for the towers of one model; None for a tower that it lacks."""

    pixels: np.ndarray | None  # (n, 3, S, S) float32
    tokens: Tokens | None


def inputs(config: Model, tokenizer: Tokenizer | None) -> Inputs:
    """Return the built-in images and sentences, preprocessed by a model's own rules."""
    pixels = tokens = None
    if config.vision is not None:
        images = pictures()
        pixels = load_pixels(images, config.image) if config.image else noise(len(images), config.vision.image_size)
    if config.text is not None:
        tokens = tokenizer(sentences()) if tokenizer is not None else random_tokens(config.text)
    return Inputs(pixels=pixels, tokens=tokens)


def calibration(
    config: Model,
    tokenizer: Tokenizer | None,
    languages: Sequence[str],
    own: tuple[Sequence[Picture], Sequence[str]] = ((), ()),
) -> Inputs:
    """Return inputs to calibrate int8: drawings, crops of a photograph, names and longer sentences.

    `own`: images and texts to use instead. Raises FactsError if the model lacks preprocessing or a tokenizer.
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
    """Return inputs to judge int8, and the number of drawings: other drawings, their names, another photograph.

    `own`: images to use instead of crops of the photograph.
    """
    drawings = moji.gallery("noto")[::JUDGED]
    images: list[Picture] = [open_picture(data) for _, data in drawings]
    if config.vision is not None:
        images += list(own) or parts("flower.jpg", 32)
    names = [concept.names[language] for language in languages for concept, _ in drawings]
    return real(config, tokenizer, images, names), len(drawings)


def real(config: Model, tokenizer: Tokenizer | None, pictures: Sequence[Picture], texts: Sequence[str]) -> Inputs:
    """Return images and texts as inputs of a model's towers. Raises FactsError without preprocessing or tokenizer."""
    pixels = tokens = None
    if config.vision is not None:
        if config.image is None:
            raise FactsError(
                "this checkpoint has no preprocessing, so it cannot encode images: "
                "put its preprocessor_config.json beside the weights and load again"
            )
        pixels = load_pixels(pictures, config.image)
    if config.text is not None:
        if tokenizer is None:
            raise FactsError(
                "this checkpoint has no tokenizer files, so it cannot encode texts: "
                "put them beside the weights and load again"
            )
        tokens = tokenizer(texts)
    return Inputs(pixels=pixels, tokens=tokens)


def parts(name: str, count: int) -> list[PIL.Image.Image]:
    """Return square crops of one of scikit-learn's photographs, large and small, the same in every call."""
    array = cast(np.ndarray, need("sklearn.datasets", extra="int8").load_sample_image(name))
    shape = cast(tuple[int, ...], array.shape)
    rng, crops = np.random.default_rng(0), list[PIL.Image.Image]()
    for _ in range(count):
        side = int(rng.integers(min(shape[:2]) // 6, min(shape[:2]) + 1))
        top, left = (int(rng.integers(0, length - side + 1)) for length in shape[:2])
        crops.append(PIL.Image.fromarray(array[top : top + side, left : left + side]))
    return crops


def pictures() -> tuple[PIL.Image.Image, ...]:
    """Return bundled images, cropped to different aspect ratios."""
    return tuple(
        open_picture(data).crop((0, 0, *size))
        for (_, data), size in zip(_chosen(), CROPS[: len(_chosen())], strict=True)
    )


def sentences() -> tuple[str, ...]:
    """Return names in five languages, then per language one long sentence of all of them with full-width marks."""
    words = [[concept.names[language] for concept, _ in _chosen()] for language in moji.LANGUAGES]
    return tuple(word for row in words for word in row) + tuple("，".join([*row * 6, "OK！"]) for row in words)


def captions(count: int) -> tuple[str, ...]:
    """Return `count` different short captions of two names each, in five languages in turn. At most 1,379.

    >>> captions(3)[1:]
    ('哈哈和大笑', '呵呵和嘻嘻')
    """
    concepts = moji.concepts()
    pairs = (
        (concepts[i], concepts[(i + 1) % len(concepts)], moji.LANGUAGES[i % len(moji.LANGUAGES)]) for i in range(count)
    )
    return tuple(f"{a.names[language]}{AND[language]}{b.names[language]}" for a, b, language in pairs)


def photograph(width: int, height: int, quality: int = 90) -> bytes:
    """Return a JPEG with smooth areas and detail, roughly like a photograph, the same in every call."""
    rng = np.random.default_rng(width)
    coarse = PIL.Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((width, height), 3)
    grain = rng.normal(0, 8, (height, width, 1))
    pixels = np.clip(np.asarray(coarse, np.float32) + grain, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    PIL.Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return file.getvalue()


def noise(count: int, side: int) -> np.ndarray:
    """Return random normalised pixels, (count, 3, side, side), the same in every call."""
    return np.random.default_rng(0).normal(size=(count, 3, side, side)).astype(np.float32)


def random_tokens(*towers: TextTower) -> Tokens:
    """Return random token ids that every given tower accepts; the last id ends each row and appears nowhere else."""
    vocab, context = min(tower.vocab for tower in towers), min(tower.context for tower in towers)
    ids = np.random.default_rng(0).integers(0, vocab - 1, (8, min(context, 32)))
    ids[:, -1] = vocab - 1
    return Tokens(ids=ids, mask=np.ones_like(ids), truncated=())


@cache
def _chosen() -> tuple[tuple[moji.Concept, bytes], ...]:
    """Return one concept per crop, spread over the whole gallery."""
    gallery = moji.gallery("noto")
    return tuple(gallery[:: max(1, len(gallery) // len(CROPS))][: len(CROPS)])
