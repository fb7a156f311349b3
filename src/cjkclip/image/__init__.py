"""Convert images (files, bytes, PIL images or arrays) to the pixels that an image tower reads.

`open_picture` decodes one image, `load_pixels` returns a batch of pixels. A damaged, missing or oversized image raises
an ImageError that names it.
"""

from cjkclip.image.picture import Picture, listed, open_picture
from cjkclip.image.pixels import OnError, load_pixels, tell

__all__ = ["OnError", "Picture", "listed", "load_pixels", "open_picture", "tell"]
