"""Compare image processors with transformers 5.23's PIL back end: every test image, every option, to the bit."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from cjkclip.compat.transformers.inputs import images as ours
from cjkclip.compat.transformers.inputs.auto import AutoImageProcessor
from cjkclip.errors import FactsError, ImageError, InputError, OptionError
from cjkclip.image import steps
from families import FAMILIES, GOLDEN
from support.peers import transformers

ZOO = GOLDEN / "pixels"
RECORD = json.loads((ZOO / "pixels.json").read_text("utf-8"))
FILES = sorted(path.name for path in (ZOO / "images").iterdir())
SMALL: dict[str, Any] = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "whole number": {"size": 40},
    "a square of a whole number": {"size": 40, "default_to_square": True},
    "two numbers": {"size": [30, 44]},
    "squash": {"size": {"height": 32, "width": 32}, "do_center_crop": False},
    "no square": {"size": {"height": 31, "width": 50}, "do_center_crop": False},
    "crop larger than the picture": {"size": 20, "crop_size": {"height": 45, "width": 31}},
    "crop number": {"crop_size": 17},
    "odd crop": {"size": 33, "crop_size": (30, 11)},
    "bilinear": {"resample": 2},
    "nearest": {"resample": PIL.Image.Resampling.NEAREST},
    "lanczos": {"resample": 1},
    "levels": {"do_rescale": False, "do_normalize": False},
    "rescaled only": {"do_normalize": False},
    "rescaled by another factor": {"rescale_factor": 1 / 127.5, "do_normalize": False},
    "normalised levels": {"do_rescale": False},
    "another mean": {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.5, 0.6, 0.7]},
    "one mean": {"image_mean": 0.5, "image_std": 0.25},
    "no crop": {"do_center_crop": False},
    "padded": {"do_center_crop": False, "do_pad": True},
    "padded to a size": {"do_pad": True, "pad_size": {"height": 40, "width": 64}},
}


def peer(**options: Any) -> Any:
    transformers()
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return CLIPImageProcessorPil(**options)


def same(got: Any, want: Any) -> None:
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert np.array_equal(one, other)


def opened(name: str | Path) -> PIL.Image.Image:
    with PIL.Image.open(ZOO / "images" / name) as picture:
        picture.load()
        return picture


def photo(width: int = 53, height: int = 40, mode: str = "RGB") -> PIL.Image.Image:
    bands = len(PIL.Image.new(mode, (1, 1)).getbands())
    levels = np.random.default_rng(width).integers(0, 256, (height, width, bands), dtype=np.uint8)
    return PIL.Image.frombytes(mode, (width, height), levels.tobytes())


def test_the_defaults_are_transformers_own() -> None:
    for kind in (ours.CLIPImageProcessor, ours.ChineseCLIPImageProcessor):
        told = kind().to_dict()
        assert told.pop("image_processor_type") == kind.__name__
        theirs = peer()
        assert told.pop("data_format") == "channels_first"
        for name, value in told.items():
            want = getattr(theirs, name)
            want = {k: v for k, v in dict(want).items() if v is not None} if name in ("size", "crop_size") else want
            assert value == (list(want) if isinstance(want, tuple) else want), name


@pytest.mark.parametrize("name", FILES)
def test_the_zoo_equals_the_golden_pixels(name: str) -> None:
    with np.load(ZOO / "pixels.npz") as golden:
        for route, options in (("hf5_pil", {}), ("hf5_squash_pil", OPTIONS["squash"])):
            key = f"{route}/{name}"
            got = ours.CLIPImageProcessor(**SMALL)(opened(name), return_tensors="np", **options)["pixel_values"]
            assert np.array_equal(got[0], golden[RECORD["same_as"].get(key, key)])


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_every_option_over_the_zoo(options: dict[str, Any]) -> None:
    long = ("rgb_1x5000.png", "rgb_5000x1.png")
    pictures = [opened(name) for name in FILES if name not in long]
    for asked in (SMALL | options, {**SMALL, **options, "do_convert_rgb": True}):
        same(ours.CLIPImageProcessor()(pictures, **asked)["pixel_values"], peer()(pictures, **asked)["pixel_values"])
    same(
        ours.CLIPImageProcessor(**SMALL)(pictures, **options)["pixel_values"],
        ours.CLIPImageProcessor(**(SMALL | options))(pictures)["pixel_values"],
    )


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "RGB"])
def test_pictures_that_are_not_made_rgb(mode: str) -> None:
    bands = len(PIL.Image.new(mode, (1, 1)).getbands())
    asked = SMALL | {"do_convert_rgb": False, "image_mean": [0.5] * bands, "image_std": [0.3] * bands}
    same(
        ours.CLIPImageProcessor()(photo(mode=mode), **asked)["pixel_values"],
        peer()(photo(mode=mode), **asked)["pixel_values"],
    )


@pytest.mark.parametrize("form", ["levels", "unit", "doubled", "first", "grey", "rgba", "rgba unit", "tensor", "batch"])
@pytest.mark.parametrize("rescale", [True, False])
def test_arrays_and_tensors(form: str, rescale: bool) -> None:
    levels = np.asarray(photo())
    made: dict[str, Any] = {
        "levels": levels,
        "unit": (levels / 255).astype(np.float32),
        "doubled": levels.astype(np.float64),
        "first": levels.transpose(2, 0, 1),
        "grey": levels[:, :, :1],
        "rgba": np.asarray(photo(mode="RGBA")),
        "rgba unit": np.asarray(photo(mode="RGBA")) / 255.0,
        "tensor": torch.tensor(levels).permute(2, 0, 1),
        "batch": np.stack([levels, levels[::-1]]),
    }
    asked = SMALL | {"do_rescale": rescale}
    same(
        ours.CLIPImageProcessor()(made[form], **asked)["pixel_values"],
        peer()(made[form], **asked)["pixel_values"],
    )


def test_an_array_is_the_picture_it_shows() -> None:
    got = [
        ours.CLIPImageProcessor()(form, return_tensors="pt")["pixel_values"] for form in (photo(), np.asarray(photo()))
    ]
    assert torch.equal(*got)


def test_where_the_channels_are() -> None:
    odd = np.random.default_rng(0).integers(0, 256, (3, 50, 3), dtype=np.uint8)
    for where in ("channels_first", "channels_last"):
        asked = SMALL | {"input_data_format": where}
        same(ours.CLIPImageProcessor()(odd, **asked)["pixel_values"], peer()(odd, **asked)["pixel_values"])
    last = ours.CLIPImageProcessor(**SMALL)(photo(), data_format="channels_last", return_tensors="np")["pixel_values"]
    first = ours.CLIPImageProcessor(**SMALL)(photo(), return_tensors="np")["pixel_values"]
    assert np.array_equal(last.transpose(0, 3, 1, 2), first)


def test_tensors_and_lists() -> None:
    processor = ours.CLIPImageProcessor(**SMALL)
    two = [photo(), photo(60, 50)]
    assert processor(two, return_tensors="pt").pixel_values.shape == (2, 3, 32, 32)
    assert processor.preprocess(two, return_tensors="pt", device="cpu")["pixel_values"].dtype == torch.float32
    half = processor(two, return_tensors="pt").to(torch.float16)
    assert half["pixel_values"].dtype == torch.float16
    assert isinstance(processor(two)["pixel_values"], list)
    assert processor(ZOO / "images" / "grey.png", return_tensors="np")["pixel_values"].shape == (1, 3, 32, 32)


def test_the_long_way_gives_the_same_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Published settings use the memory-saving code of `load_pixels`; the general code must give the same."""
    for options in (SMALL, SMALL | OPTIONS["squash"]):
        for name in FILES:
            processor = ours.CLIPImageProcessor(**options)
            short = processor(ZOO / "images" / name, return_tensors="np")["pixel_values"]
            with monkeypatch.context() as patch:
                patch.setattr(steps, "_rules", lambda _: None)
                assert np.array_equal(processor(ZOO / "images" / name, return_tensors="np")["pixel_values"], short), (
                    name
                )


def test_saved_options_load_again(tmp_path: Path) -> None:
    told = ours.ChineseCLIPImageProcessor(size={"height": 20, "width": 20}, do_center_crop=False, image_mean=[0.5] * 3)
    assert told.save_pretrained(tmp_path) == [str(tmp_path / "preprocessor_config.json")]
    assert ours.ChineseCLIPImageProcessor.from_pretrained(tmp_path).to_dict() == told.to_dict()
    assert ours.CLIPImageProcessor.from_pretrained(tmp_path, do_normalize=False).do_normalize is False
    assert peer().from_pretrained(str(tmp_path)).size["height"] == 20
    (tmp_path / "preprocessor_config.json").rename(tmp_path / "old.json")
    record = {"image_processor": json.loads((tmp_path / "old.json").read_text("utf-8"))}
    (tmp_path / "processor_config.json").write_text(json.dumps(record))
    assert ours.ChineseCLIPImageProcessor.from_pretrained(tmp_path).to_dict() == told.to_dict()


@pytest.mark.parametrize("case", ["hf-clip-eos2", "hf-chinese-clip", "hf-chinese-clip-crop", "koclip"])
def test_published_folders_give_the_originals_pixels(case: str) -> None:
    row = next(each for each in FAMILIES if each.case == case)
    processor = AutoImageProcessor.from_pretrained(row.folder)
    assert type(processor) is (ours.ChineseCLIPImageProcessor if "chinese" in case else ours.CLIPImageProcessor)
    pixels = processor([opened(path) for path in row.pictures], return_tensors="np")["pixel_values"]
    assert np.array_equal(pixels, row.expected()["pixel_values"])


@pytest.mark.parametrize("case", ["rinna-clip", "openai-vit", "cn-clip-vit", "open-clip", "taiyi-pooler"])
def test_other_models_prepare_pictures_by_their_own_rules(case: str) -> None:
    row = next(each for each in FAMILIES if each.case == case)
    more: dict[str, Any] = {"image_tower": row.folder / row.image} if row.image else {}
    path = row.folder / row.weights if row.facts else row.folder
    processor = AutoImageProcessor.from_pretrained(path, facts=row.facts, **more)
    assert isinstance(processor, ours.FamilyImageProcessor)
    pixels = processor([opened(path) for path in row.pictures], return_tensors="np")["pixel_values"]
    assert np.array_equal(pixels, row.expected()["pixel_values"])
    with pytest.raises(OptionError, match="do_resize"):
        processor(photo(), do_resize=False)


def test_the_older_names_are_the_same_classes() -> None:
    assert ours.CLIPFeatureExtractor is ours.CLIPImageProcessorFast is ours.CLIPImageProcessor
    assert ours.ChineseCLIPFeatureExtractor is ours.ChineseCLIPImageProcessorFast is ours.ChineseCLIPImageProcessor


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unknown option": ({"do_resise": True}, OptionError, "do_resise"),
    "a size of nothing": ({"size": {"longest": 3}}, InputError, "shortest_edge"),
    "no size": ({"size": 0}, InputError, "at least 1"),
    "a size with a fraction": ({"size": {"shortest_edge": 22.4}}, InputError, "whole numbers"),
    "a crop by its short side": ({"crop_size": {"shortest_edge": 3}}, InputError, "height"),
    "no filter": ({"resample": 9}, InputError, "resample is 9"),
    "channels nowhere": ({"input_data_format": "middle"}, InputError, "channels_first"),
    "tensors of another kind": ({"return_tensors": "tf"}, InputError, "'pt'"),
    "too few means": ({"image_mean": [0.5, 0.5]}, ImageError, "2 means"),
    "a pad that is too small": ({"do_pad": True, "pad_size": 8}, InputError, "smaller"),
}


@pytest.mark.parametrize(("options", "error", "words"), BAD.values(), ids=list(BAD))
def test_bad_options(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        ours.CLIPImageProcessor(**SMALL)(photo(), **options)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, TypeError) == (error is OptionError)


@pytest.mark.parametrize("images", [None, [], [None], (), np.zeros((0, 3, 8, 8), np.uint8)])
def test_no_pictures(images: Any) -> None:
    with pytest.raises(InputError, match="expected an image or a list"):
        ours.CLIPImageProcessor()(images)


@pytest.mark.parametrize(
    "images",
    [
        "no-such.png",
        b"no picture",
        3,
        np.zeros((5, 5, 7), np.uint8),
        np.full((9, 9, 3), 300.5),
        np.full((9, 9, 3), np.nan),
    ],
)
def test_no_picture(images: Any) -> None:
    with pytest.raises(ImageError):
        ours.CLIPImageProcessor()(images)


def test_pictures_of_different_sizes_make_no_tensor() -> None:
    with pytest.raises(InputError, match="pixel_values: its 2 rows differ"):
        ours.CLIPImageProcessor(do_center_crop=False)([photo(), photo(60, 50)], return_tensors="pt")


@pytest.mark.parametrize("crop", [False, True])
def test_a_strip_is_refused_before_memory_is(crop: bool) -> None:
    with pytest.raises(ImageError, match=r"1 x 60000 would be resized to 224 x 13440000 pixels; .*: crop it first"):
        ours.CLIPImageProcessor(do_center_crop=crop)(PIL.Image.new("RGB", (1, 60_000)))


def test_a_folder_that_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(FactsError, match=r"preprocessor_config\.json"):
        ours.CLIPImageProcessor.from_pretrained(tmp_path)
