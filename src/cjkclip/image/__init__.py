"""A picture, from wherever it comes, made into the pixels that a vision tower reads.

`open_picture` decodes one picture, `load_pixels` makes a batch. Refuses damaged, missing and oversized
pictures, as ImageErrors that name them.
"""

from cjkclip.image.picture import Picture, listed, open_picture
from cjkclip.image.pixels import OnError, load_pixels, tell

__all__ = ["OnError", "Picture", "listed", "load_pixels", "open_picture", "tell"]
