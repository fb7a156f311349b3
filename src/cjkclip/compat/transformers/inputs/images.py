"""transformers' image processor classes over the steps of cjkclip.image. N pictures, H x W pixels.

Pixels are those of transformers 5's PIL back end, to the bit, whichever class is asked for: the back end on
torchvision, its default, differs by one level here and there. Refuses: options that nobody reads, sizes that say
neither a short side nor a height and a width, pictures that cjkclip.image refuses, addresses.
"""

import json
import os
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import PIL.Image

from cjkclip import config
from cjkclip.checkpoints.formats.pixels import OPENAI_MEAN, OPENAI_STD
from cjkclip.compat.sources import IGNORED, PLACES, known, resolved
from cjkclip.compat.transformers.inputs.batches import BatchFeature
from cjkclip.errors import FactsError, ImageError, InputError
from cjkclip.image import load_pixels
from cjkclip.image.steps import Steps, prepare
from cjkclip.text.files import read_json, write_text

DEFAULTS: dict[str, Any] = {
    "do_resize": True,
    "size": {"shortest_edge": 224},
    "resample": 3,  # bicubic
    "do_center_crop": True,
    "crop_size": {"height": 224, "width": 224},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(OPENAI_MEAN),
    "image_std": list(OPENAI_STD),
    "do_convert_rgb": True,
    "do_pad": None,
    "pad_size": None,
    "default_to_square": False,  # does a whole number for `size` mean a square
    "data_format": "channels_first",
}
CALL = (*DEFAULTS, "return_tensors", "input_data_format", "device", "disable_grouping")  # what a call may say
FILE = "preprocessor_config.json"
_AXES: dict[Any, Literal[0, -1] | None] = {None: None, "channels_first": 0, "channels_last": -1}

_C = TypeVar("_C", bound="CLIPImageProcessor")


class CLIPImageProcessor:
    """Resize, crop, rescale and normalise, each as an option says."""

    model_input_names = ("pixel_values",)

    def __init__(self, **options: Any) -> None:
        """Options and their defaults: `DEFAULTS`. A value of None stands for the default."""
        known(options, tuple(DEFAULTS), type(self).__name__)
        vars(self).update(_told(DEFAULTS, options))

    @classmethod
    def from_pretrained(cls: type[_C], name: str | Path, **options: Any) -> _C:
        """What preprocessor_config.json (or processor_config.json) of a folder or hub repository says.

        Options override the file; revision, cache_dir and local_files_only are the hub's; use_fast and
        trust_remote_code are taken and mean nothing.
        """
        places = {key: options.pop(key, None) for key in (*PLACES, *IGNORED)}
        return cls.from_folder(resolved(name, places, small=True).path, str(name), **options)

    @classmethod
    def from_folder(cls: type[_C], folder: Path, name: str = "", **options: Any) -> _C:
        """The same for a folder on this machine; `name` is for messages."""
        record = read_record(folder)
        if record is None:
            raise FactsError(f"{name or folder}: holds no {FILE}, so nothing tells how its pictures are prepared")
        return cls(**{key: value for key, value in record.items() if key in DEFAULTS} | options)

    def to_dict(self) -> dict[str, Any]:
        """The options, as `save_pretrained` writes them."""
        return {"image_processor_type": type(self).__name__} | {key: getattr(self, key) for key in DEFAULTS}

    def save_pretrained(self, save_directory: str | Path) -> list[str]:
        """Write preprocessor_config.json, which `from_pretrained` reads; its path."""
        path = Path(save_directory) / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(self.to_dict(), indent=2))
        return [str(path)]

    def preprocess(self, images: Any, **options: Any) -> BatchFeature:
        """pixel_values of one picture or a list: (N, 3, H, W) with return_tensors "pt" or "np", else a list of arrays.

        Pictures: PIL, paths, arrays and tensors with their channels first or last, batches of those. A picture is not
        turned as its EXIF says; transparency lies on white. Options: those of the class, for this call, and
        return_tensors, input_data_format, device (with "pt"); disable_grouping is taken and means nothing.
        """
        known(options, CALL, f"{type(self).__name__}.preprocess")
        told = _told(vars(self), {key: value for key, value in options.items() if key in DEFAULTS})
        axis = _axis("input_data_format", options.get("input_data_format"))
        pixels = [prepare(image, _steps(told), axis) for image in listed(images)]
        if told["do_pad"]:
            pixels = _padded(pixels, told["pad_size"])
        if _axis("data_format", told["data_format"]) == -1:
            pixels = [each.transpose(1, 2, 0) for each in pixels]
        return _batch(pixels, options)

    __call__ = preprocess


class ChineseCLIPImageProcessor(CLIPImageProcessor):
    """The same for Chinese-CLIP, whose published options squash pictures and crop nothing."""


class FamilyImageProcessor:
    """Pixels by the record of a model whose options transformers cannot say: see `config.Image`."""

    model_input_names = ("pixel_values",)

    def __init__(self, rules: config.Image) -> None:
        """`rules` as `Clip.config.image` has them."""
        self.rules = rules
        self.size = {"height": rules.size, "width": rules.size}

    def preprocess(self, images: Any, **options: Any) -> BatchFeature:
        """pixel_values, as the model's own code makes them. Options: return_tensors, device."""
        known(options, ("return_tensors", "device"), type(self).__name__)
        return _batch(list(load_pixels(listed(images), self.rules, published=True)), options)

    __call__ = preprocess


CLIPImageProcessorFast = CLIPFeatureExtractor = CLIPImageProcessor
ChineseCLIPImageProcessorFast = ChineseCLIPFeatureExtractor = ChineseCLIPImageProcessor


def read_record(folder: Path) -> dict[str, Any] | None:
    """What a folder says of its image processor, or None."""
    if (folder / FILE).is_file():
        return read_json(folder / FILE)
    whole = folder / "processor_config.json"
    return read_json(whole).get("image_processor") if whole.is_file() else None


def listed(images: Any) -> list[Any]:
    """One picture, a list of them, or a batch in one array or tensor, as a list of PIL pictures, paths and arrays."""
    many = isinstance(images, list | tuple) or getattr(images, "ndim", 0) == 4
    pictures: list[Any] = list(cast(list[Any], images)) if many else [images]
    if not pictures or any(picture is None for picture in pictures):
        raise InputError(f"images is {images!r}: pass a picture, or a list of at least one")
    plain = [picture.detach().cpu().numpy() if hasattr(picture, "detach") else picture for picture in pictures]
    for index, picture in enumerate(plain):
        if not isinstance(picture, str | os.PathLike | bytes | PIL.Image.Image | np.ndarray):
            raise ImageError(
                f"picture {index} is {type(picture).__name__}, expected a PIL picture, path, array or tensor"
            )
    return plain


def _told(before: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Options over others, None standing for what was there, and sizes spelled out."""
    told = before | {key: value for key, value in options.items() if value is not None}
    for key in ("size", "crop_size", "pad_size"):
        told[key] = _size(key, told[key], square=key != "size" or told["default_to_square"])
    return told


def _size(name: str, size: Any, *, square: bool) -> dict[str, int] | None:
    """A size as transformers takes it: a whole number, [height, width], or a dictionary."""
    if size is None:
        return None
    if isinstance(size, int):
        size = {"height": size, "width": size} if square else {"shortest_edge": size}
    elif isinstance(size, list | tuple) and len(cast(list[Any], size)) == 2:
        size = dict(zip(("height", "width"), cast(list[Any], size), strict=True))
    shapes = ({"height", "width"},) if name != "size" else ({"shortest_edge"}, {"height", "width"})
    if not isinstance(size, dict) or set(cast(dict[str, Any], size)) not in shapes:
        raise InputError(
            f"{name} is {size!r}, expected {' or '.join(str(sorted(shape)) for shape in shapes)} in pixels"
        )
    found = cast(dict[str, Any], size)
    if any(type(length) is not int or length < 1 for length in found.values()):
        raise InputError(f"{name} is {size!r}, expected whole numbers of pixels, at least 1")
    return dict(found)


def _steps(told: dict[str, Any]) -> Steps:
    size, crop, resample = told["size"], told["crop_size"], told["resample"]
    if resample not in list(PIL.Image.Resampling):
        raise InputError(f"resample is {resample!r}, expected one of {[int(each) for each in PIL.Image.Resampling]}")
    mean, std = (_numbers(told[key]) for key in ("image_mean", "image_std"))
    return Steps(
        rgb=bool(told["do_convert_rgb"]),
        size=(size.get("shortest_edge") or (size["height"], size["width"])) if told["do_resize"] else None,
        resample=int(resample),
        crop=(crop["height"], crop["width"]) if told["do_center_crop"] else None,
        scale=float(told["rescale_factor"]) if told["do_rescale"] else None,
        mean=mean if told["do_normalize"] else None,
        std=std,
    )


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(map(float, np.atleast_1d(value).tolist()))


def _axis(name: str, value: Any) -> Literal[0, -1] | None:
    value = getattr(value, "value", value)  # transformers' own enumeration
    if value not in _AXES:
        raise InputError(f"{name} is {value!r}, expected 'channels_first' or 'channels_last'")
    return _AXES[value]


def _padded(pixels: list[np.ndarray], size: dict[str, int] | None) -> list[np.ndarray]:
    """Zeros below and to the right, up to one size: that of the largest if none is given."""
    shapes = [each.shape[1:] for each in pixels]
    to = (size["height"], size["width"]) if size else tuple(np.max(shapes, axis=0).tolist())
    if any(height > to[0] or width > to[1] for height, width in shapes):
        raise InputError(f"pad_size is {to}, smaller than a picture of {max(shapes)}")
    return [np.pad(each, ((0, 0), (0, to[0] - each.shape[1]), (0, to[1] - each.shape[2]))) for each in pixels]


def _batch(pixels: list[np.ndarray], options: dict[str, Any]) -> BatchFeature:
    batch = BatchFeature({"pixel_values": pixels}, options.get("return_tensors"))
    device = options.get("device")
    return batch if device is None else batch.to(device)
