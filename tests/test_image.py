"""Pictures of every kind opened as a person sees them, and every kind of bad picture refused by name."""

import contextlib
import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import PIL.ImageFile
import pytest

from cjkclip.errors import ImageError
from cjkclip.image import open_picture
from cjkclip.image.picture import LONGEST, decode, named

RED, BLUE, WHITE = (250, 20, 30), (10, 40, 240), (255, 255, 255)
SCENE = np.random.default_rng(7).integers(0, 256, (9, 14, 3), dtype=np.uint8)


def encode(image: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def halves(left: Any, right: Any, mode: str) -> PIL.Image.Image:
    image = PIL.Image.new(mode, (8, 6), left)
    image.paste(right, (4, 0, 8, 6))
    return image


def png_claiming(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 4) + b"IDAT"


# What is stored so that a viewer shows SCENE, by EXIF orientation: the standard's table, in NumPy.
STORED = {
    1: SCENE,
    2: SCENE[:, ::-1],
    3: SCENE[::-1, ::-1],
    4: SCENE[::-1],
    5: SCENE.swapaxes(0, 1),
    6: np.rot90(SCENE, 1),
    7: SCENE[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90(SCENE, -1),
}


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED)
def test_pictures_are_turned_once_as_their_exif_says(orientation: int, kind: str) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    stored = PIL.Image.fromarray(np.ascontiguousarray(STORED[orientation]))
    seen = open_picture(encode(stored, kind, exif=exif, **options))
    assert np.array_equal(np.asarray(seen), SCENE)
    assert np.array_equal(np.asarray(open_picture(seen)), SCENE)  # and not once more
    if kind == "PNG":  # Pillow itself turns a TIFF
        raw = open_picture(encode(stored, kind, exif=exif), published=True)
        assert np.array_equal(np.asarray(raw), STORED[orientation])


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0cat", b"Exif\0\0" + b"II*\0\x08\0\0\0", b"\xff" * 40])
def test_damaged_exif_states_no_orientation(exif: bytes) -> None:
    picture = encode(PIL.Image.fromarray(SCENE), "PNG", exif=exif)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own remark about the EXIF
        assert np.array_equal(np.asarray(open_picture(picture)), SCENE)


def clear_palette(transparency: int | bytes) -> bytes:
    image = PIL.Image.new("P", (8, 6), 0)
    image.putpalette([*RED, *BLUE, 9, 9, 9])
    image.paste(1, (4, 0, 8, 6))
    return encode(image, "PNG", transparency=transparency)


def with_alpha(image: PIL.Image.Image, alpha: PIL.Image.Image) -> PIL.Image.Image:
    image.putalpha(alpha)  # Pillow 11 loses alpha when it converts RGBA to PA
    return image


CLEAR = {  # left half see-through, right half blue (or grey 90)
    "RGBA": encode(halves((*RED, 0), (*BLUE, 255), "RGBA"), "PNG"),
    "RGBA webp": encode(halves((*RED, 0), (*BLUE, 255), "RGBA"), "WEBP", lossless=True, exact=True),
    "P, one colour": clear_palette(0),
    "P, table": clear_palette(b"\x00\xff\xff"),
    "RGB, one colour": encode(halves(RED, BLUE, "RGB"), "PNG", transparency=RED),
    "gif": encode(halves((*RED, 0), (*BLUE, 255), "RGBA"), "GIF"),
    "RGBa": halves((0, 0, 0, 0), (*BLUE, 255), "RGBA").convert("RGBa"),
    "PA": with_alpha(halves(RED, BLUE, "RGB").quantize(4), halves(0, 255, "L")),
    "LA": encode(halves((50, 0), (90, 255), "LA"), "PNG"),
    "La": halves((50, 0), (90, 255), "LA").convert("La"),
    "L, one level": encode(halves(50, 90, "L"), "PNG", transparency=50),
    "I;16, one level": encode(halves(50 * 257, 90 * 257, "I;16"), "PNG", transparency=50 * 257),
    "array": np.asarray(halves((*RED, 0), (*BLUE, 255), "RGBA")),
}


@pytest.mark.parametrize("kind", CLEAR)
def test_transparency_lies_on_white(kind: str) -> None:
    seen = open_picture(CLEAR[kind])
    colour = (90, 90, 90) if kind.startswith(("L", "I")) else BLUE
    assert seen.mode == "RGB"
    assert seen.getpixel((0, 0)) == WHITE
    assert np.allclose(seen.getpixel((7, 5)), colour, atol=2 if kind in ("PA", "gif") else 0)


def test_half_transparency_is_blended() -> None:
    assert open_picture(PIL.Image.new("RGBA", (2, 2), (0, 0, 0, 128))).getpixel((0, 0)) == (127, 127, 127)


LEVELS = np.array([[0, 128, 129, 385, 386], [257, 25_700, 32_767, 65_406, 65_535]], np.uint16)


@pytest.mark.parametrize(
    "picture",
    [
        LEVELS,
        LEVELS.astype(">u2"),
        PIL.Image.fromarray(LEVELS),
        PIL.Image.fromarray(LEVELS.astype(np.int32)),
        encode(PIL.Image.fromarray(LEVELS), "PNG"),
        encode(PIL.Image.fromarray(LEVELS.astype(">u2")), "TIFF"),
        np.stack([LEVELS] * 3, -1),
    ],
    ids=["array", "big-endian array", "I;16", "I", "png", "tiff", "RGB array"],
)
def test_16_bits_are_scaled_to_8(picture: Any) -> None:
    assert np.asarray(open_picture(picture))[..., 1].tolist() == [[0, 0, 1, 1, 2], [1, 100, 127, 254, 255]]


GREY = SCENE[..., 0]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (SCENE, SCENE),
        (GREY, np.stack([GREY] * 3, -1)),
        (GREY[..., None], np.stack([GREY] * 3, -1)),
        (SCENE[::-2, ::3], SCENE[::-2, ::3]),
        ((SCENE / 255).astype(np.float32), SCENE),
        (SCENE / 255, SCENE),
        ((SCENE / 255).astype(np.float16), SCENE),
        (PIL.Image.fromarray((GREY / 255).astype(np.float32)), np.stack([GREY] * 3, -1)),
    ],
    ids=["RGB", "grey", "one channel", "strided", "float32", "float64", "float16", "mode F"],
)
def test_arrays(array: Any, expected: np.ndarray) -> None:
    assert np.array_equal(np.asarray(open_picture(array)), expected)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB", "RGBX"])
def test_other_modes_become_rgb(mode: str) -> None:
    picture = PIL.Image.fromarray(SCENE).convert(mode)
    assert np.array_equal(np.asarray(open_picture(picture)), np.asarray(picture.convert("RGB")))
    assert open_picture(picture, published=True) is picture


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_an_animation_shows_its_first_frame(kind: str, tmp_path: Path) -> None:
    first, second = (PIL.Image.new("RGB", (20, 10), colour) for colour in (RED, BLUE))
    path = tmp_path / "動く.img"
    path.write_bytes(encode(first, kind, save_all=True, append_images=[second]))
    for way in (False, True):
        seen = open_picture(path, published=way)
        assert np.allclose(seen.convert("RGB").resize((3, 3)).getpixel((1, 1)), RED, atol=3)


def test_paths_of_every_kind_open(tmp_path: Path) -> None:
    path = tmp_path / "고양이 猫.png"
    path.write_bytes(encode(PIL.Image.fromarray(SCENE), "PNG"))
    for way in (path, str(path), path.read_bytes()):
        assert np.array_equal(np.asarray(open_picture(way)), SCENE)


CUT = {
    kind: encode(PIL.Image.fromarray(np.repeat(SCENE, 9, 0)), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP", "GIF")
}
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
CLOSED = PIL.Image.new("RGB", (3, 3))
CLOSED.close()
BAD = {
    "no bytes": (b"", "zero bytes"),
    "text": (b"not a picture " * 9, "not in an image format"),
    "html": ("<html>猫</html>".encode(), "not in an image format"),
    "postscript": (POSTSCRIPT, "PostScript"),
    **{f"cut {kind}": (data[: len(data) // 2], "cut off") for kind, data in CUT.items()},
    "missing": ("/nowhere/ねこ.png", "ねこ.png: no such file"),
    "address": ("https://example.org/cat.jpg", "URLs are not downloaded"),
    "under a file": (f"{__file__}/cat.jpg", "no such file"),
    "null in the name": ("a\0b.png", "cannot be opened"),
    "long name": ("猫" * 4000, "cannot be opened"),
    "folder": (Path(__file__).parent, "is a directory"),
    "empty name": ("", "is a directory|no such file"),
    "no picture file": (__file__, r"test_image.py: not in an image format"),
    "closed": (CLOSED, "closed image"),
    "empty PIL image": (PIL.Image.new("RGB", (0, 5)), "0 x 5 contains no pixels"),
    "I beyond 16 bits": (PIL.Image.new("I", (2, 2), 70_000), r"\[70000, 70000\]"),
    "I below 0": (PIL.Image.new("I", (2, 2), -1), "expected 16 bits"),
    "F of 255": (PIL.Image.new("F", (2, 2), 255.0), r"\[255, 255\]; expected \[0, 1\]"),
    "one axis": (np.zeros(5, np.uint8), r"array uint8 \(5,\): expected a shape"),
    "four axes": (np.zeros((1, 4, 4, 3), np.uint8), "expected a shape"),
    "two channels": (np.zeros((4, 4, 2), np.uint8), "expected a shape"),
    "channels first": (np.zeros((3, 8, 9), np.uint8), r"transpose\(1, 2, 0\)"),
    "no rows": (np.zeros((0, 4, 3), np.uint8), "contains no pixels"),
    "huge": (np.broadcast_to(np.zeros(3, np.uint8), (10_000, 10_000, 3)), "too large"),
    "long": (np.zeros((LONGEST + 1, 1), np.uint8), "too long"),
    "nan": (np.full((3, 3), np.nan), "NaN"),
    "infinite": (np.full((3, 3), np.inf), "infinite"),
    "float 0..255": (np.full((3, 3), 200.0), r"\[200, 200\]; expected \[0, 1\]: divide by 255"),
    "negative": (np.full((3, 3, 3), -0.5), "expected \\[0, 1\\]"),
    "int64": (np.zeros((3, 3), np.int64), "int64; expected uint8"),
    "bool": (np.zeros((3, 3), bool), "bool; expected uint8"),
    "object": (np.full((3, 3), None), "object; expected uint8"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_pictures_are_refused(case: str) -> None:
    picture, message = BAD[case]
    with pytest.raises(ImageError, match=message):
        open_picture(picture)


@pytest.mark.parametrize("picture", [5, None, 2.5, ["a.png"]])
def test_what_is_no_picture_at_all(picture: Any) -> None:
    with pytest.raises(ImageError, match=f"{type(picture).__name__}: not an image; expected a path"), named(picture):
        decode(picture, published=False)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="not a regular file"):
        open_picture(tmp_path / "pipe")


@pytest.mark.parametrize("action", ["ignore", "error"])
@pytest.mark.parametrize(
    ("size", "message"), [((10_000, 10_000), "too large"), ((50_000, 50_000), "too large"), ((70_000, 9), "too long")]
)
def test_a_bomb_is_refused_by_its_header(size: tuple[int, int], message: str, action: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(action)
        with pytest.raises(ImageError, match=message):  # decoding would find the file cut off
            open_picture(png_claiming(*size))


def test_the_limit_is_pillows_own(monkeypatch: pytest.MonkeyPatch) -> None:
    before = (PIL.ImageFile.LOAD_TRUNCATED_IMAGES, PIL.Image.MAX_IMAGE_PIXELS)
    open_picture(SCENE)
    assert before == (PIL.ImageFile.LOAD_TRUNCATED_IMAGES, PIL.Image.MAX_IMAGE_PIXELS) == (False, 89_478_485)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match="at most 100 pixels"):
        open_picture(SCENE)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", None)
    assert open_picture(SCENE).size == (14, 9)


ODD = (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError, EOFError)
ODDER = (AssertionError, RuntimeError, NotImplementedError, MemoryError, struct.error, zlib.error)


@pytest.mark.parametrize("error", [*ODD, *ODDER])
def test_whatever_pillows_readers_raise_names_the_picture(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise error("odd block")

    monkeypatch.setattr(PIL.Image.Image, "load", broken)
    with pytest.raises(ImageError, match=r"^PIL image RGB \(5, 5\): (damaged|out of memory)"):
        open_picture(PIL.Image.new("RGB", (5, 5)))


KINDS = ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "TGA", "JPEG2000"]
KINDS += ["AVIF"] * (".avif" in PIL.Image.registered_extensions())  # Pillow reads it from 11.3 on


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_shown_or_refused_but_never_more(kind: str) -> None:
    rng = np.random.default_rng(3)
    whole = encode(PIL.Image.fromarray(np.repeat(SCENE, 4, 0)), kind)
    for _ in range(60):
        data = bytearray(whole)
        for at in rng.integers(0, min(len(data), 150), rng.integers(1, 6)):
            data[at] = rng.integers(0, 256)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own remarks about the damage
            with contextlib.suppress(ImageError):
                assert open_picture(bytes(data)).mode == "RGB"
