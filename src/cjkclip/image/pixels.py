"""Convert images to the pixels that an image tower reads. n images, S pixels a side.

Each family resizes, crops and rounds in its own way, which `config.Image` records. The order of the steps is that of
the original code, so the bits are equal too.
"""

from collections.abc import Callable, Sequence
from threading import Event
from typing import Literal, NamedTuple, cast

import numpy as np
import PIL.Image
from PIL.Image import Resampling

from cjkclip import config
from cjkclip.arrays import Float32
from cjkclip.errors import ImageError, InputError
from cjkclip.image.picture import Picture, Take, decode, named, to_rgb
from cjkclip.machine.limits import memory
from cjkclip.machine.memory import Room
from cjkclip.machine.threads import on_every_core, require_running

OnError = Callable[[int, ImageError], None]
Filter = Literal["bicubic", "bilinear"]
SPARE = 2  # fast mode decodes a JPEG file at no less than this multiple of the tower's side
GAP = 1.5  # fast mode averages whole blocks of pixels down to no less than this multiple, and then resizes
MOST_BYTES = 768 << 20  # of images that are decoded at the same time
WHOLE = 1 << 24  # resized pixels (64 MiB) that an image may have before it is cropped

FILTERS: dict[Filter, Resampling] = {
    "bicubic": Resampling.BICUBIC,
    "bilinear": Resampling.BILINEAR,
}


class Frame(NamedTuple):
    """The square that is cropped from an image resized to width x height: its corner is at (left, top)."""

    width: int
    height: int
    left: int
    top: int


def load_pixels(
    pictures: Sequence[Picture],
    rules: config.Image,
    *,
    published: bool = False,
    exact: bool = True,
    on_error: OnError | None = None,
    ends: Sequence[Event | None] = (),
) -> Float32[np.ndarray, "n 3 S S"]:
    """Return the normalised pixels of every image, ready for an image tower: C-contiguous, RGB, channels first.

    `published=True` gives the original code's bits; where that code fails (an image of one pixel), these rules' bits.

    `exact=False` decodes large JPEG files at a fraction of their size, never below `SPARE` times the side that the
    tower reads, and averages blocks of pixels before it resizes: up to about 3 grey levels off, 0.5 on average.

    If an image cannot be read, on_error(index, error) is called and its row is NaN; without it, ImageError lists
    all of them (`problems`) at the end. If one of the events `ends` is set, CancelledError is raised at once.
    """
    _require_sense(pictures, published, exact)
    pixels = np.empty((len(pictures), 3, rules.size, rules.size), np.float32)
    room = Room(lambda: min(MOST_BYTES, memory() // 4))

    def square(index: int, take: Take) -> PIL.Image.Image:
        image = decode(pictures[index], published, 0 if exact else SPARE * rules.size, take)  # freed on return
        return (_square if exact or min(image.size) < rules.size else _shrunk)(image, rules)

    def load(index: int) -> str | None:
        require_running(*ends)
        try:
            with named(pictures[index]), room.part() as take:
                _normalise(square(index, take), rules, pixels[index])
        except ImageError as error:
            pixels[index] = np.nan
            return str(error)
        return None

    reasons = on_every_core(load, range(len(pictures)), "cjkclip-pictures")
    tell([(index, why) for index, why in enumerate(reasons) if why is not None], len(pictures), on_error)
    return pixels


def _require_sense(pictures: Sequence[Picture], published: bool, exact: bool) -> None:
    if isinstance(pictures, str | bytes):
        raise ImageError("got one image; expected a sequence of images: put it in a list")
    if published and not exact:
        raise InputError(
            "got published=True and exact=False; the original's bits need exact=True: leave out one of the two"
        )


def tell(problems: Sequence[tuple[int, str]], total: int, on_error: OnError | None) -> None:
    """Report each image that failed to `on_error`; without it, raise one ImageError that lists all of them."""
    if problems and on_error is None:
        listed = [f"image {index}: {problem}" for index, problem in problems]
        raise ImageError(f"{len(problems)} of {total} images cannot be used:", problems, listed=listed)
    for index, why in problems:
        cast(OnError, on_error)(index, ImageError(f"image {index}: {why}", [(index, why)]))


def _square(image: PIL.Image.Image, rules: config.Image) -> PIL.Image.Image:
    """Resize and crop: RGB, S x S."""
    if rules.rgb == "first":
        image = _rgb(image, rules)
    side, how = rules.size, FILTERS[rules.filter]
    if rules.resize == "squash":
        return _rgb(image.resize((side, side), how), rules)
    width, height, left, top = _frame(image.size, rules)
    resized = image.resize((width, height), how)
    return _rgb(resized.crop((left, top, left + side, top + side)), rules)


def _shrunk(image: PIL.Image.Image, rules: config.Image) -> PIL.Image.Image:
    """Do the same in fast mode: reduce by a whole factor if possible, and resize only the part inside the crop."""
    side, how, box = rules.size, FILTERS[rules.filter], (0.0, 0.0, *image.size)
    if rules.resize != "squash":
        width, height, left, top = _frame(image.size, rules)
        across, down = image.width / width, image.height / height
        right, bottom = min((left + side) * across, image.width), min((top + side) * down, image.height)
        box = (left * across, top * down, right, bottom)
    return image.resize((side, side), how, box, reducing_gap=GAP)


def _frame(size: tuple[int, int], rules: config.Image) -> Frame:
    """Return the square to crop from an image of `size` whose shorter side is resized to the tower's side."""
    width, height = (rules.size * length // min(size) for length in size)
    check_resized(size, (width, height))
    return Frame(width, height, _halve(width - rules.size, rules), _halve(height - rules.size, rules))


def check_resized(before: tuple[int, int], after: tuple[int, int]) -> None:
    """Raise ImageError if an image of width x height `before` would take too much memory when resized to `after`."""
    if after[0] * after[1] > WHOLE:
        raise ImageError(
            f"{before[0]} x {before[1]} would be resized to {after[0]} x {after[1]} pixels; "
            f"expected at most {WHOLE} in all: crop it first"
        )


def _halve(surplus: int, rules: config.Image) -> int:
    """Return half of the surplus: torchvision rounds halves to the even number, transformers rounds down."""
    return round(surplus / 2) if rules.crop == "half-even" else surplus // 2


def _rgb(image: PIL.Image.Image, rules: config.Image) -> PIL.Image.Image:
    return to_rgb(image, white=rules.alpha == "white" and is_clear(image))


def is_clear(image: PIL.Image.Image) -> bool:
    """Whether an image is transparent by the rule of transformers 5: a palette with its own alpha does not count."""
    return "A" in image.getbands() or image.info.get("transparency") is not None


def _normalise(square: PIL.Image.Image, rules: config.Image, out: Float32[np.ndarray, "3 S S"]) -> None:
    # On all 256 levels, level / 255 in single precision equals level * (1 / 255) in double precision, rounded. So this
    # gives the bits of both ways in which the originals rescale.
    np.divide(np.asarray(square).transpose(2, 0, 1), np.float32(255), out=out)
    out -= np.array(rules.mean, np.float32)[:, None, None]
    out /= np.array(rules.std, np.float32)[:, None, None]
