"""Open and decode an image: from a path, a file's bytes, a PIL image or an array to a PIL image.

There are two ways. The default is for users' files: EXIF orientation applied, transparency on white, 16 bits scaled to
8. `published=True` gives the image as Pillow opens it, as the original packages read it.

Every error is an ImageError that names the image. Rejected are missing, empty, damaged or cut-off files, files that are
not images, and PostScript (Pillow would start Ghostscript). Sides over 65 535 pixels, and more pixels than
`PIL.Image.MAX_IMAGE_PIXELS`, are rejected before decoding; Pillow alone rejects only twice that number.
"""

import io
import os
import stat
import struct
import zlib
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import PIL
import PIL.Image
from PIL.Image import Transpose

from cjkclip.arrays import UInt8
from cjkclip.errors import ImageError, without_secrets
from cjkclip.image.heif import open_file
from cjkclip.image.sources import KINDS, Source, content
from cjkclip.machine.forks import Lock

Picture = str | os.PathLike[str] | bytes | PIL.Image.Image | np.ndarray | Source

LONGEST = 65_535  # pixels on a side, JPEG's own limit: to resize a strip of a million pixels would take gigabytes

_ORIENTATION = 0x0112
_TURNS = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
# entries of `info` in which Pillow looks for the orientation
_ORIENTATION_KEYS = ("exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp")
_ONE = (str, bytes, os.PathLike, PIL.Image.Image, np.ndarray, io.IOBase, *KINDS)
LONGEST_NAME = 400  # characters of an image's name in messages
_ONE_BY_ONE = tuple(Lock() for _ in range(64))  # Pillow reads a file at the first access to its pixels

_REFUSALS = (PIL.Image.DecompressionBombError, PIL.Image.DecompressionBombWarning, MemoryError)
# Exceptions that Pillow's decoders raise on damaged files. Caught around Pillow's own code only.
Take = Callable[[int], None]  # takes bytes of a shared bound
_DAMAGE = (
    *(OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError),
    *(EOFError, RuntimeError, struct.error, zlib.error),
)


def open_picture(picture: Picture, *, published: bool = False) -> PIL.Image.Image:
    """Open an image and decode it fully: a path, a file's bytes, an open file, a PIL image, an array or torch tensor.

    The default result has mode RGB: EXIF orientation applied (unreadable EXIF is ignored), transparency of any kind on
    white, 16 bits scaled to 8 (x / 257, rounded), the first frame of an animation. `published=True` gives the image as
    Pillow opens it, in its own mode. An image that needs no change is returned itself, so do not draw on the result.

    Arrays are (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): uint8; uint16, scaled to 8 bits; or floating point
    in [0, 1], rounded to 255 levels. No original reads arrays, so both ways treat them alike. PIL images of
    mode I contain 16-bit values, those of mode F values in [0, 1].

    Raises ImageError that names the image. Pillow's own settings are neither changed nor overridden.
    """
    with named(picture):
        return decode(picture, published)


def listed(pictures: Picture | Iterable[Picture]) -> list[Picture]:
    """Return a list of images. A single object becomes a list of one; whether it is an image is checked when opened."""
    if isinstance(pictures, Iterable) and not isinstance(pictures, _ONE):
        return list(pictures)
    return [cast(Picture, pictures)]


def _nothing(size: int) -> None:
    """Take no part of a bound."""


@contextmanager
def named(picture: Any) -> Generator[None]:
    """Put the name of the image into every error that is raised inside."""
    match picture:
        case bytes():
            name = f"image of {len(picture)} bytes"
        case np.ndarray():
            name = f"array {picture.dtype} {picture.shape}"
        case PIL.Image.Image():
            name = getattr(picture, "filename", "") or f"PIL image {picture.mode} {picture.size}"
        case str() | os.PathLike():
            name = os.fsdecode(cast(str, picture)) or "''"
        case _:
            name = type(picture).__name__
    name = without_secrets(name)
    name = name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME // 2]}...{name[-LONGEST_NAME // 2 :]}"
    try:
        yield
    except ImageError as error:
        raise ImageError(f"{name}: {error}") from error.__cause__
    except (*_REFUSALS, OSError, ValueError) as error:  # a conversion failed: the image is at fault, not the caller
        raise ImageError(f"{name}: {_why(error)}") from error


def _why(error: BaseException) -> str:
    match error:
        case PIL.UnidentifiedImageError():
            return "not in an image format that Pillow reads: convert it to PNG (HEIC needs the package pillow-heif)"
        case PIL.Image.DecompressionBombError() | PIL.Image.DecompressionBombWarning():
            return f"too large to decode safely ({error}): make it smaller"
        case MemoryError():
            return "out of memory: make it smaller"
        case _:
            return f"damaged, cut off or of an unknown kind ({type(error).__name__}: {error}): save it again"


def decode(picture: Any, published: bool, least: int = 0, take: Take = _nothing) -> PIL.Image.Image:
    """Do the same as `open_picture`, with errors that do not yet name the image.

    take: called with the bytes that decoding needs, before it begins.

    least: a JPEG file may be decoded at a half, a quarter or an eighth of its size if both sides keep at least this
    number of pixels; 0: never.
    """
    picture = content(picture)
    if isinstance(picture, np.ndarray):
        image = _from_array(cast(np.ndarray, picture))
    elif isinstance(picture, PIL.Image.Image):
        with _ONE_BY_ONE[id(picture) // 64 % len(_ONE_BY_ONE)]:  # the same image may be in the list twice
            image = _decoded(picture)
            _turn(image)
    elif isinstance(picture, bytes):
        if not picture:
            raise ImageError("zero bytes; expected the content of an image file")
        return _read(io.BytesIO(picture), published, least, take)
    elif isinstance(picture, str | os.PathLike):
        return _read(_file(Path(os.fsdecode(cast(str, picture)))), published, least, take)
    else:
        kinds = "a path, the bytes of a file, an open file, a PIL image, a NumPy array or a torch tensor"
        raise ImageError(f"not an image; expected {kinds}")
    return image if published else _plain(image)


def _file(path: Path) -> Path:
    """Return the path if it is a regular file with content. Pipes and devices may never end."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as missing:
        raise ImageError("no such file (URLs are not downloaded)") from missing
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot be opened ({error})") from error
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(
            "is a directory; expected an image: pass the files in it, as cjkclip.gallery.find_pictures lists them"
        )
    if not stat.S_ISREG(status.st_mode):
        raise ImageError("is not a regular file; expected one: read it and pass the bytes")
    if status.st_size == 0:
        raise ImageError("the file has zero bytes; expected the content of an image")
    return path


def _read(source: Path | io.BytesIO, published: bool, least: int, take: Take) -> PIL.Image.Image:
    try:
        opened = open_file(source)
    except PermissionError as error:
        raise ImageError(f"cannot be opened ({error.strerror})") from error
    except _DAMAGE as error:
        raise ImageError(_why(error)) from error
    with opened:
        if opened.format == "EPS":
            raise ImageError("is PostScript, a program that is not executed: convert it to PNG")
        if least and opened.format == "JPEG":
            _check_size(*opened.size)
            opened.draft(opened.mode, (least, least))
        _check_size(*opened.size)
        take(_bytes(opened))
        return _decoded(opened) if published else _plain(_decoded(opened))


def _bytes(image: PIL.Image.Image) -> int:
    """Return the bytes that decoding an image needs at most: four for each pixel of RGB, and a copy that is turned."""
    return image.width * image.height * (8 if image.mode in ("L", "RGB") else 16)


def _decoded(image: PIL.Image.Image) -> PIL.Image.Image:
    _check_size(*image.size)
    try:
        image.load()
    except _DAMAGE as error:
        raise ImageError(_why(error)) from error
    return image


def _check_size(width: int, height: int) -> None:
    most = PIL.Image.MAX_IMAGE_PIXELS
    if min(width, height) < 1:
        raise ImageError(f"{width} x {height} contains no pixels; expected at least 1 x 1")
    if max(width, height) > LONGEST:
        raise ImageError(f"{width} x {height} is too long; expected sides of at most {LONGEST} pixels: crop it first")
    if most is not None and width * height > most:
        raise ImageError(
            f"{width} x {height} is too large; expected at most {most} pixels: "
            "make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        )


def _from_array(array: np.ndarray) -> PIL.Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim != 2 and not (array.ndim == 3 and array.shape[2] in (3, 4)):
        first = array.ndim == 3 and array.shape[0] in (1, 3, 4)
        hint = ": put the channels last, array.transpose(1, 2, 0)" if first else ""
        raise ImageError(f"expected a shape (H, W), (H, W, 1), (H, W, 3) or (H, W, 4){hint}")
    _check_size(array.shape[1], array.shape[0])
    return PIL.Image.fromarray(_levels(array))


def _levels(array: np.ndarray) -> UInt8[np.ndarray, "..."]:
    """Return the 8-bit levels of an array, by its type."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind == "u" and array.dtype.itemsize == 2:
        return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if array.dtype.kind != "f":
        raise ImageError(f"got values of type {array.dtype}; expected uint8, uint16 or floating point in [0, 1]")
    if not np.isfinite(array).all():
        raise ImageError("contains NaN or infinite values; expected values in [0, 1]")
    if array.min() < 0 or array.max() > 1:
        got = f"[{array.min():g}, {array.max():g}]"
        raise ImageError(f"got floating point values in {got}; expected [0, 1]: divide by 255, or pass uint8")
    return np.rint(np.multiply(array, 255, dtype=np.float32)).astype(np.uint8)


def upright(image: PIL.Image.Image) -> PIL.Image.Image:
    """Return the image with its EXIF orientation applied and the entry removed, so that it can be opened again."""
    if (turn := _turn(image)) is None:
        return image
    image = image.transpose(turn)
    for key in _ORIENTATION_KEYS:
        image.info.pop(key, None)
    return image


def _turn(image: PIL.Image.Image) -> Transpose | None:
    """Return the turn that EXIF states; None if there is none or, as in image viewers, EXIF cannot be read."""
    try:
        return _TURNS.get(cast(int, image.getexif().get(_ORIENTATION)))
    except _DAMAGE:
        return None


def _plain(image: PIL.Image.Image) -> PIL.Image.Image:
    """Return the image as a viewer shows it: upright, 8 bits, on white, RGB."""
    image = upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = _eight_bits(image)
    return to_rgb(image, white=image.has_transparency_data)


def _eight_bits(image: PIL.Image.Image) -> PIL.Image.Image:
    values = np.asarray(image)
    if image.mode == "I":
        if values.min() < 0 or values.max() > 65_535:
            got = f"[{values.min()}, {values.max()}]"
            raise ImageError(f"got integers in {got}; expected 16 bits: scale them to 0..255 and pass uint8")
        values = values.astype(np.uint16)
    grey = PIL.Image.fromarray(_levels(values))
    if isinstance(clear := image.info.get("transparency"), int):  # the one grey level of a PNG that is transparent
        grey.putalpha(PIL.Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def to_rgb(image: PIL.Image.Image, *, white: bool) -> PIL.Image.Image:
    """Return the image in RGB, on white or with alpha dropped. A transparent colour remains an entry of `info`."""
    if white:
        layers = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        paper = PIL.Image.new("RGBA", image.size, (255, 255, 255, 255))
        return PIL.Image.alpha_composite(paper, layers).convert("RGB")
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.copy()
        del image.info["transparency"]  # the same colours, without Pillow's warning that it is lost
    return image if image.mode == "RGB" else image.convert("RGB")
