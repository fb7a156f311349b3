"""Choose a random part of an image for training, as torchvision's RandomResizedCrop and therefore open_clip do.

Facts: torchvision 0.28.0. The caller passes functions for random numbers, which are called in the original's order.
"""

import math
from collections.abc import Callable

Box = tuple[int, int, int, int]  # left, top, right, bottom
RATIO = (3 / 4, 4 / 3)  # width over height, at most
TRIES = 10


def random_box(
    width: int,
    height: int,
    scale: tuple[float, float],
    uniform: Callable[[float, float], float],
    below: Callable[[int], int],
) -> Box:
    """Return a box that covers a share of the image within `scale`; the middle if none of ten random boxes fits.

    width, height: of the image, in pixels. uniform(a, b) returns a number from a to b, below(n) one of 0 to n - 1.
    """
    low, high = (math.log(ratio) for ratio in RATIO)
    for _ in range(TRIES):
        area = width * height * uniform(*scale)
        ratio = math.exp(uniform(low, high))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            top = below(height - down + 1)
            left = below(width - across + 1)
            return left, top, left + across, top + down
    across = round(height * RATIO[1]) if width / height > RATIO[1] else width
    down = round(width / RATIO[0]) if width / height < RATIO[0] else height
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down
