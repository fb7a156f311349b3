"""Eight simple training images, and two kinds of augmentation, for the tests of training."""

import numpy as np

from cjkclip.train import Augment

STRONG = Augment(
    shear=0.1,
    perspective=0.1,
    bend=0.05,
    mix_chance=0.5,
    grey_chance=0.3,
    invert_chance=0.3,
    posterise_chance=0.5,
    ground_chance=0.5,
    noise=0.2,
    erase_chance=0.5,
)
OFF = Augment(
    scale=0, stretch=0, rotate=0, shift=0, light=0, saturate=0, hue=0, grey_chance=0, blur=0, noise=0, erase_chance=0
)


def shapes(size: int = 32) -> np.ndarray:
    """Return eight RGBA images that differ in position and colour, (8, 4, S, S)."""
    pictures = np.zeros((8, 4, size, size), np.uint8)
    for number, picture in enumerate(pictures):
        top, left = 4 + 12 * (number // 4), 2 + 6 * (number % 4)
        picture[:3, top : top + 10, left : left + 8] = np.array([40 * number % 256, 250 - 30 * number, 90])[
            :, None, None
        ]
        picture[3, top : top + 10, left : left + 8] = 255
    return pictures
