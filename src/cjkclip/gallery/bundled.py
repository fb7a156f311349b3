"""The pictures in the package as a gallery that any loaded model can search.

Names are known in five languages; a query's language decides which are shown. Refuses nothing of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cjkclip import moji
from cjkclip.gallery.store import Gallery

if TYPE_CHECKING:
    from cjkclip.clip import Clip


@dataclass(frozen=True, kw_only=True)
class Bundled:
    """The gallery, and per picture what it shows and the picture itself as a WebP file."""

    gallery: Gallery  # named in English
    concepts: tuple[moji.Concept, ...]
    pictures: tuple[bytes, ...]


def bundled(
    clip: "Clip", design: str = "noto", *, progress: Callable[[int], None] | None = None, batch_size: int = 64
) -> Bundled:
    """Encode the bundled pictures of `design`, "noto" or "fluent". Raises InputError for another one."""
    shown = moji.gallery(design)
    concepts, pictures = tuple(concept for concept, _ in shown), tuple(picture for _, picture in shown)
    names = [concept.names["en"] for concept in concepts]
    gallery = Gallery.from_pictures(clip, pictures, names, progress=progress, batch_size=batch_size)
    return Bundled(gallery=gallery, concepts=concepts, pictures=pictures)
