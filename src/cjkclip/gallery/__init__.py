"""A gallery: pictures as vectors, to be searched by text or by picture.

>>> import numpy as np
>>> gallery = Gallery(["cat", "dog"], np.array([[1, 0], [0, 1]], dtype=np.float32))
>>> [hit.name for hit in gallery.search(np.array([[0.6, 0.8]], dtype=np.float32), k=1)[0]]
['dog']
"""

from cjkclip.gallery.bundled import Bundled, bundled, guess_language
from cjkclip.gallery.files import find_pictures
from cjkclip.gallery.rows import Rows
from cjkclip.gallery.sheet import Sheet, SheetImage, SheetRow, draw_sheet
from cjkclip.gallery.sheet.fonts import Fonts, find_fonts
from cjkclip.gallery.store import Gallery, Hit

__all__ = [
    "Bundled",
    "Fonts",
    "Gallery",
    "Hit",
    "Rows",
    "Sheet",
    "SheetImage",
    "SheetRow",
    "bundled",
    "draw_sheet",
    "find_fonts",
    "find_pictures",
    "guess_language",
]
