"""The bundled picture gallery: 1,379 concepts, drawn in two designs, with names in five languages.

    from cjkclip import moji

    for concept, picture in moji.gallery("noto"):    # picture: a WebP file of 64 x 64 pixels, as bytes
        concept.char, concept.names["ja"], concept.keywords["ko"]

The files are beside this module and are read at the first call, with the standard library alone. Their authors and
licences are in THIRD_PARTY_LICENSES.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal
from zipfile import ZipFile

from cjkclip.errors import InputError

__all__ = ["DESIGNS", "LANGUAGES", "Concept", "concepts", "gallery", "pictures"]

LANGUAGES = ("en", "zh", "zh-Hant", "ja", "ko")
DESIGNS = ("noto", "fluent")


@dataclass(frozen=True, kw_only=True)
class Concept:
    """One subject of the gallery, with its names and keywords from Unicode's CLDR."""

    cp: str  # lower-case hexadecimal code points joined by "-", without fe0f: "2764-200d-1f525"
    char: str  # the emoji itself
    group: str  # Unicode's group, in English: "Animals & Nature"
    split: Literal["train", "valid", "test"]  # by int(sha256(cp), 16) % 10: 0 test, 1 valid, the others train
    # language -> name; no two concepts share a name in a language
    names: Mapping[str, str] = field(hash=False)
    # language -> keywords without the name; other concepts may have the same
    keywords: Mapping[str, tuple[str, ...]] = field(hash=False)


@cache
def concepts() -> tuple[Concept, ...]:
    """Return all 1,379 concepts in Unicode's order; every design has an image of each.

    >>> [concept.names["zh"] for concept in concepts() if concept.char == "🐼"]
    ['熊猫']
    """
    data = json.loads((files(__name__) / "captions.json").read_text(encoding="utf-8"))
    return tuple(_concept(record, data["languages"]) for record in data["concepts"])


@cache
def pictures(design: str = "noto") -> Mapping[str, bytes]:
    """Return the images of one of `DESIGNS`: code points -> a WebP file, 64 x 64 pixels, on white.

    Raises InputError for another design.

    >>> pictures("fluent")["1f43c"][:4]
    b'RIFF'
    """
    if design not in DESIGNS:
        raise InputError(f"design {design!r} is not in the package: use one of {list(DESIGNS)}")
    with (files(__name__) / f"{design}.zip").open("rb") as file, ZipFile(file) as archive:
        images = {name.removesuffix(".webp"): archive.read(name) for name in archive.namelist()}
    return MappingProxyType(images)


def gallery(design: str = "noto") -> tuple[tuple[Concept, bytes], ...]:
    """Return every concept with its image in one of `DESIGNS`, in Unicode's order. Raises InputError for another.

    >>> concept, picture = gallery("noto")[0]
    >>> concept.names["ko"], len(gallery("noto"))
    ('활짝 웃는 얼굴', 1379)
    """
    images = pictures(design)
    return tuple((concept, images[concept.cp]) for concept in concepts())


def _concept(record: Mapping[str, Any], languages: list[str]) -> Concept:
    keywords: list[list[str]] = record["keywords"]
    return Concept(
        cp=record["cp"],
        char=record["char"],
        group=record["group"],
        split=record["split"],
        names=dict(zip(languages, record["names"], strict=True)),
        keywords={lang: tuple(words) for lang, words in zip(languages, keywords, strict=True)},
    )
