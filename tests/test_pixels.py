"""Pixels against the originals' own, to the bit; batches with bad pictures; fast mode.

The golden arrays (golden/pixels) were made by the originals on Pillow 13. Its resize takes its two passes in another
order than Pillow 12's where it reduces height more than width. pillow12.npz has the arrays that differ on older Pillow,
made by the same originals on Pillow 12.3.
"""

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from cjkclip import config
from cjkclip.errors import ImageError, InputError
from cjkclip.image import load_pixels
from cjkclip.image.pixels import Filter

GOLDEN = Path(__file__).parent / "golden" / "pixels"
RECORD = json.loads((GOLDEN / "pixels.json").read_text("utf-8"))
FILES = sorted(path.name for path in (GOLDEN / "images").iterdir())
OPENAI = config.Image(
    size=32,
    resize="short-side",
    filter="bicubic",
    crop="half-even",
    rgb="last",
    alpha="drop",
    mean=(0.48145466, 0.4578275, 0.40821073),
    std=(0.26862954, 0.26130258, 0.27577711),
)
OLDER_PILLOW = int(PIL.__version__.partition(".")[0]) < 13
FAST = replace(OPENAI, size=224)
HF5 = replace(OPENAI, crop="floor", rgb="first", alpha="white")
ROUTES = {
    "openai": OPENAI,
    "open_clip": OPENAI,
    "cn_clip": replace(OPENAI, resize="squash"),
    "rinna": replace(OPENAI, filter="bilinear"),
    "hf5_pil": HF5,
    "hf5_squash_pil": replace(HF5, resize="squash"),
    "hf4_slow": replace(HF5, alpha="drop"),
    "hf4_squash_slow": replace(HF5, alpha="drop", resize="squash"),
}
# RGB, upright, nothing see-through, 8 bits: nothing here for the two ways to see differently
ORDINARY = [name for name in FILES if name.startswith(("rgb_", "chroma", "progressive", "bmp", "enlarge", "exact"))]


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / "pixels.npz") as arrays, np.load(GOLDEN / "pillow12.npz") as older:
        assert older.keys() < arrays.keys()
        return {**arrays, **(older if OLDER_PILLOW else {})}


def noise(width: int, height: int, mode: str = "RGB") -> PIL.Image.Image:
    bands = len(PIL.Image.new(mode, (1, 1)).getbands())
    levels = np.random.default_rng(width * 7919 + height).integers(0, 256, (height, width, bands), dtype=np.uint8)
    return PIL.Image.frombytes(mode, (width, height), levels.tobytes())


def bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(np.uint32)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("route", ROUTES)
def test_published_pixels_are_the_originals_to_the_bit(route: str, name: str, golden: dict[str, np.ndarray]) -> None:
    key = f"{route}/{name}"
    ours = load_pixels([GOLDEN / "images" / name], ROUTES[route], published=True)
    if key in RECORD["errors"]:  # transformers 4 cannot tell the channels of one pixel; transformers 5 can
        key = key.replace("hf4_slow", "hf5_pil").replace("hf4_squash_slow", "hf5_squash_pil")
    assert np.array_equal(bits(ours[0]), bits(golden[RECORD["same_as"].get(key, key)]))


def test_every_route_of_the_golden_data_is_tested() -> None:
    assert set(ROUTES) == set(RECORD["routes"])
    assert len(FILES) == 30


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_pictures_look_the_same_both_ways(name: str) -> None:
    for rules in ROUTES.values():
        both = [load_pixels([GOLDEN / "images" / name], rules, published=way) for way in (False, True)]
        assert np.array_equal(bits(both[0]), bits(both[1]))


@pytest.mark.parametrize("size", [(225, 301), (301, 225), (224, 231), (448, 300), (90, 61)])
def test_crop_rounding_differs_where_the_surplus_is_3_mod_4(size: tuple[int, int]) -> None:
    rules = replace(OPENAI, size=224)
    even, floor = (load_pixels([noise(*size)], replace(rules, crop=crop)) for crop in ("half-even", "floor"))
    surplus = 224 * max(size) // min(size) - 224
    assert np.array_equal(even, floor) == (surplus % 4 != 3)


def test_a_batch_is_one_contiguous_array() -> None:
    batch = [noise(40, 50), np.zeros((9, 7), np.uint8), (GOLDEN / "images" / "grey.png").read_bytes()]
    out = load_pixels(batch, OPENAI)
    assert out.shape == (3, 3, 32, 32)
    assert out.dtype == np.float32
    assert out.flags.c_contiguous
    assert all(np.array_equal(out[i], load_pixels([picture], OPENAI)[0]) for i, picture in enumerate(batch))
    assert load_pixels([], OPENAI).shape == (0, 3, 32, 32)


def test_bad_pictures_become_nan_and_are_reported(tmp_path: Path) -> None:
    good, seen = noise(40, 50), []
    batch = [good, tmp_path / "neko.png", good, np.zeros((3, 4, 5, 6))]
    out = load_pixels(batch, OPENAI, on_error=lambda index, error: seen.append((index, error)))
    assert [index for index, _ in seen] == [1, 3]
    assert all(isinstance(error, ImageError) and str(error).startswith(f"image {i}: ") for i, error in seen)
    assert seen[0][1].problems == ((1, f"{tmp_path / 'neko.png'}: no such file (URLs are not downloaded)"),)
    assert np.isnan(out[[1, 3]]).all()
    assert np.array_equal(out[[0, 2]], load_pixels([good, good], OPENAI))


def test_without_on_error_one_error_names_every_bad_picture(tmp_path: Path) -> None:
    (tmp_path / "空.jpg").touch()
    with pytest.raises(ImageError) as caught:
        load_pixels([tmp_path / "空.jpg", noise(8, 8), b"", tmp_path], OPENAI)
    assert [index for index, _ in caught.value.problems] == [0, 2, 3]
    assert "3 of 4 images" in str(caught.value)
    assert all(f"image {index}: {problem}" in str(caught.value) for index, problem in caught.value.problems)
    assert "空.jpg: the file has zero bytes" in str(caught.value)


def test_one_picture_is_no_batch() -> None:
    with pytest.raises(ImageError, match="put it in a list"):
        load_pixels("kitten.jpg", OPENAI)


@pytest.mark.parametrize("transparency", [3, bytes(range(200))])
@pytest.mark.parametrize("route", ROUTES)
def test_the_callers_picture_is_left_alone(route: str, transparency: int | bytes) -> None:
    picture = noise(20, 30).quantize(256)
    picture.info["transparency"] = transparency
    for way in (False, True):
        load_pixels([picture], ROUTES[route], published=way)
    assert (picture.mode, picture.size) == ("P", (20, 30))
    assert picture.info["transparency"] == transparency


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize(("size", "fits"), [((1, 335), (1, 334)), ((335, 1), (334, 1)), ((65_535, 195), (65_535, 196))])
def test_a_picture_that_is_much_too_long_is_refused(size: tuple[int, int], fits: tuple[int, int], exact: bool) -> None:
    """More than 334 times as long as high: at 224 pixels a side, more than 2^24 in all."""
    rules = replace(OPENAI, size=224)
    picture = PIL.Image.new("RGB", size)
    words = f"{size[0]} x {size[1]} would be resized to .* pixels; expected at most {1 << 24} in all: crop it first"
    with pytest.raises(ImageError, match=words):
        load_pixels([picture], rules, exact=exact)
    assert np.isfinite(load_pixels([PIL.Image.new("RGB", fits)], rules, exact=exact)).all()
    assert np.isfinite(load_pixels([picture], replace(rules, resize="squash"), exact=exact)).all()


def test_both_ways_to_rescale_are_one_on_all_levels() -> None:
    """The originals say x / 255 in single precision or x * (1 / 255) in double; one rule serves both."""
    levels = np.arange(256, dtype=np.uint8)
    assert np.array_equal(levels / np.float32(255), (levels.astype(np.float64) * (1 / 255)).astype(np.float32))


def photograph(width: int, height: int, kind: str = "JPEG") -> bytes:
    """A smooth picture with some detail, as a file."""
    rng = np.random.default_rng(0)
    coarse = PIL.Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((width, height), 3)
    file = io.BytesIO()
    coarse.save(file, kind)
    return file.getvalue()


def levels(exact: np.ndarray, fast: np.ndarray, rules: config.Image) -> np.ndarray:
    """How many grey levels pixels differ by."""
    return np.abs(exact - fast) * 255 * np.array(rules.std)[:, None, None]


@pytest.mark.parametrize("resize", ["short-side", "squash"])
def test_fast_decoding_is_a_few_levels_off(resize: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = replace(FAST, resize=resize)
    file = photograph(2400, 1800)
    exact = load_pixels([file], rules)
    sizes: list[tuple[int, int]] = []
    real: Callable[..., PIL.Image.Image] = PIL.Image.Image.resize
    monkeypatch.setattr(
        PIL.Image.Image,
        "resize",
        lambda self, *more, **options: (sizes.append(self.size), real(self, *more, **options))[1],
    )
    fast = load_pixels([file], rules, exact=False)
    assert sizes[0] == (600, 450)  # a quarter, which keeps twice 224; an eighth would not
    assert 0 < levels(exact, fast, rules).max() < 6


@pytest.mark.parametrize("resize", ["short-side", "squash"])
@pytest.mark.parametrize("size", [(225, 301), (640, 440), (600, 600), (231, 2000), (1999, 233)])
def test_fast_mode_is_a_rounding_off_where_there_is_little_to_shrink(resize: str, size: tuple[int, int]) -> None:
    """Half of 440 is below twice 224, and half of 600 below 1.5 times 224. Each of the two passes rounds to levels."""
    rules = replace(FAST, resize=resize)
    for kind in ("JPEG", "PNG"):
        file = photograph(*size, kind)
        off = levels(load_pixels([file], rules), load_pixels([file], rules, exact=False), rules)
        assert off.max() < (2.1 if resize == "short-side" or max(size) < 3 * 224 else 6)


@pytest.mark.parametrize("how", ["bicubic", "bilinear"])
def test_fast_mode_averages_blocks_before_it_resizes(how: Filter) -> None:
    rules = replace(FAST, filter=how)
    for size in ((1000, 900), (4000, 700), (701, 3000)):
        file = photograph(*size, "PNG")
        off = levels(load_pixels([file], rules), load_pixels([file], rules, exact=False), rules)
        assert 0 < off.max() < 6
        assert off.mean() < 1


def test_in_fast_mode_a_picture_that_has_to_grow_stays_exact() -> None:
    exact, hasty = (load_pixels([photograph(223, 400)], FAST, exact=exact) for exact in (True, False))
    np.testing.assert_array_equal(exact, hasty)


def test_fast_mode_and_the_originals_bits_exclude_each_other() -> None:
    with pytest.raises(InputError, match="the original's bits need exact=True"):
        load_pixels([photograph(8, 8)], FAST, published=True, exact=False)


def test_fast_decoding_does_not_get_around_the_limit_of_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1_000_000)
    with pytest.raises(ImageError, match="too large"):
        load_pixels([photograph(1200, 1000)], FAST, exact=False)


def test_a_pil_image_may_be_there_several_times(tmp_path: Path) -> None:
    """Pillow reads a file when its picture is first looked at, and not for two threads at once."""
    noise = np.random.default_rng(0).integers(0, 256, (900, 1200, 3), dtype=np.uint8)
    for kind in ("png", "bmp", "tiff"):
        PIL.Image.fromarray(noise).save(tmp_path / f"noise.{kind}")
        for _ in range(3):
            with PIL.Image.open(tmp_path / f"noise.{kind}") as image:
                many = load_pixels([image] * 4, OPENAI)
            np.testing.assert_array_equal(many, np.repeat(load_pixels([noise], OPENAI), 4, axis=0))
