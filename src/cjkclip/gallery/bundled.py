"""The bundled images as a gallery for any loaded model, with names in five languages."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cjkclip import moji
from cjkclip.gallery.store import Gallery

if TYPE_CHECKING:
    from cjkclip.clip import Clip


@dataclass(frozen=True, kw_only=True)
class Bundled:
    """The gallery, and for each image its concept and its WebP file."""

    gallery: Gallery  # names are English
    concepts: tuple[moji.Concept, ...]
    pictures: tuple[bytes, ...]


def bundled(
    clip: "Clip", design: str = "noto", *, progress: Callable[[int], None] | None = None, batch_size: int = 64
) -> Bundled:
    """Encode the bundled images of `design`, "noto" or "fluent". Raises InputError for another one."""
    entries = moji.gallery(design)
    concepts, pictures = tuple(concept for concept, _ in entries), tuple(picture for _, picture in entries)
    names = [concept.names["en"] for concept in concepts]
    gallery = Gallery.from_pictures(clip, pictures, names, progress=progress, batch_size=batch_size)
    return Bundled(gallery=gallery, concepts=concepts, pictures=pictures)
