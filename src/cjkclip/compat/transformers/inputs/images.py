"""transformers' image processor classes on the steps of cjkclip.image. N images, H x W pixels.

In every class, pixels are bit-identical to those of transformers 5's PIL back end; its default back end, torchvision,
differs by one level in some pixels. URLs are rejected.
"""

import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import PIL.Image

from cjkclip import config
from cjkclip.checkpoints.formats.pixels import OPENAI_MEAN, OPENAI_STD
from cjkclip.compat.sources import IGNORED, PLACES, SAVE_IDLE, require_idle, require_known, resolve_source, without_idle
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
    "default_to_square": False,  # whether an integer `size` means a square
    "data_format": "channels_first",
}
CALL = (*DEFAULTS, "return_tensors", "input_data_format", "device", "disable_grouping")  # options of a call
FILE = "preprocessor_config.json"
_AXES: dict[Any, Literal[0, -1] | None] = {None: None, "channels_first": 0, "channels_last": -1}

_C = TypeVar("_C", bound="CLIPImageProcessor")


class CLIPImageProcessor:
    """Resizes, crops, rescales and normalises images according to its options."""

    model_input_names = ("pixel_values",)

    def __init__(self, **options: Any) -> None:
        """Set options; `DEFAULTS` lists them. None means the default."""
        require_known(options, tuple(DEFAULTS), type(self).__name__)
        vars(self).update(copy.deepcopy(_merge(DEFAULTS, options)))  # each processor has lists of its own

    @classmethod
    def from_pretrained(cls: type[_C], pretrained_model_name_or_path: str | Path, **options: Any) -> _C:
        """Read preprocessor_config.json (or processor_config.json) of a directory or hub repository.

        Options override the file; revision, cache_dir and local_files_only are for the hub; use_fast and
        trust_remote_code are accepted without effect.
        """
        name, options = pretrained_model_name_or_path, without_idle(options, f"{cls.__name__}.from_pretrained")
        places = {key: options.pop(key, None) for key in (*PLACES, *IGNORED)}
        return cls.from_folder(resolve_source(name, places, small=True).path, str(name), **options)

    @classmethod
    def from_dict(cls: type[_C], image_processor_dict: Mapping[str, Any], **options: Any) -> _C:
        """Return a processor with the options of `to_dict`, overridden by `options`."""
        return cls(**{key: value for key, value in image_processor_dict.items() if key in DEFAULTS} | options)

    @classmethod
    def from_folder(cls: type[_C], folder: Path, name: str = "", **options: Any) -> _C:
        """Read the file of a local directory; `name` is for messages."""
        record = read_record(folder)
        if record is None:
            raise FactsError(f"{name or folder} has no preprocessing: put its {FILE} beside the weights and load again")
        return cls.from_dict(record, **options)

    def to_dict(self) -> dict[str, Any]:
        """Return the options as `save_pretrained` writes them."""
        options = {key: copy.deepcopy(getattr(self, key)) for key in DEFAULTS}
        return {"image_processor_type": type(self).__name__} | options

    def to_json_string(self) -> str:
        """Return the content of preprocessor_config.json."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    def to_json_file(self, json_file_path: str | Path) -> None:
        """Write the options into a file."""
        write_text(Path(json_file_path), self.to_json_string().removesuffix("\n"))

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> list[str]:
        """Write preprocessor_config.json, which `from_pretrained` reads; return its path."""
        require_idle(options, "save_pretrained", SAVE_IDLE)
        path = Path(save_directory) / FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        self.to_json_file(path)
        return [str(path)]

    def preprocess(self, images: Any, **options: Any) -> BatchFeature:
        """Return pixel_values of images: (N, 3, H, W) with return_tensors "pt" or "np", else a list of arrays.

        images: PIL images, paths, arrays and tensors with channels first or last, or batches of them. EXIF rotation is
        not applied; transparency is shown on white. Options: those of the class, for this call, and return_tensors,
        input_data_format, device (with "pt"); disable_grouping is accepted without effect.
        """
        require_known(options, CALL, f"{type(self).__name__}.preprocess")
        settings = _merge(vars(self), {key: value for key, value in options.items() if key in DEFAULTS})
        axis = _axis("input_data_format", options.get("input_data_format"))
        pixels = [prepare(image, _steps(settings), axis) for image in image_list(images)]
        if settings["do_pad"]:
            pixels = _pad(pixels, settings["pad_size"])
        if _axis("data_format", settings["data_format"]) == -1:
            pixels = [each.transpose(1, 2, 0) for each in pixels]
        return _batch(pixels, options)

    __call__ = preprocess


class ChineseCLIPImageProcessor(CLIPImageProcessor):
    """The same for Chinese-CLIP, whose published options resize images to a square and do not crop."""


class FamilyImageProcessor:
    """Prepares images by a model's `config.Image`, for preprocessing that transformers' options cannot express."""

    model_input_names = ("pixel_values",)

    def __init__(self, rules: config.Image) -> None:
        """`rules` is the preprocessing in `Clip.config.image`."""
        self.rules = rules
        self.size = {"height": rules.size, "width": rules.size}

    def preprocess(self, images: Any, **options: Any) -> BatchFeature:
        """Return pixel_values equal to those of the model's original code. Options: return_tensors, device."""
        require_known(options, ("return_tensors", "device"), type(self).__name__)
        return _batch(list(load_pixels(image_list(images), self.rules, published=True)), options)

    __call__ = preprocess


CLIPImageProcessorFast = CLIPFeatureExtractor = CLIPImageProcessor
ChineseCLIPImageProcessorFast = ChineseCLIPFeatureExtractor = ChineseCLIPImageProcessor


def read_record(folder: Path) -> dict[str, Any] | None:
    """Return the image processor's options in a directory, or None."""
    if (folder / FILE).is_file():
        return read_json(folder / FILE)
    whole = folder / "processor_config.json"
    return read_json(whole).get("image_processor") if whole.is_file() else None


def image_list(images: Any) -> list[Any]:
    """Return an image, a list of images, or a batch in an array or tensor as a list of images, paths and arrays."""
    many = isinstance(images, list | tuple) or getattr(images, "ndim", 0) == 4
    pictures: list[Any] = list(cast(list[Any], images)) if many else [images]
    if not pictures or any(picture is None for picture in pictures):
        raise InputError(
            f"images is {images!r}, expected an image or a list of at least one: pass a path, as in images='cat.png'"
        )
    plain = [picture.detach().cpu().numpy() if hasattr(picture, "detach") else picture for picture in pictures]
    for index, picture in enumerate(plain):
        if not isinstance(picture, str | os.PathLike | bytes | PIL.Image.Image | np.ndarray):
            raise ImageError(
                f"image {index} is {type(picture).__name__}, expected a PIL image, path, array or tensor: pass its path"
            )
    return plain


def _merge(before: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Return settings overridden by options, where None keeps the setting, with sizes as dictionaries."""
    settings = before | {key: value for key, value in options.items() if value is not None}
    for key in ("size", "crop_size", "pad_size"):
        settings[key] = _size(key, settings[key], square=key != "size" or settings["default_to_square"])
    return settings


def _size(name: str, size: Any, *, square: bool) -> dict[str, int] | None:
    """Return a size (an integer, [height, width] or a dictionary) as a dictionary. Raises InputError."""
    if size is None:
        return None
    if isinstance(size, int):
        size = {"height": size, "width": size} if square else {"shortest_edge": size}
    elif isinstance(size, list | tuple) and len(cast(list[Any], size)) == 2:
        size = dict(zip(("height", "width"), cast(list[Any], size), strict=True))
    shapes = ({"height", "width"},) if name != "size" else ({"shortest_edge"}, {"height", "width"})
    if not isinstance(size, dict) or set(cast(dict[str, Any], size)) not in shapes:
        raise InputError(
            f"{name} is {size!r}, expected {' or '.join(str(sorted(shape)) for shape in shapes)} in pixels: "
            f"{name}={{'height': 224, 'width': 224}}"
        )
    sides = cast(dict[str, Any], size)
    if any(type(length) is not int or length < 1 for length in sides.values()):
        raise InputError(f"{name} is {size!r}, expected whole numbers of pixels, at least 1, such as {name}=224")
    return dict(sides)


def _steps(settings: dict[str, Any]) -> Steps:
    size, crop, resample = settings["size"], settings["crop_size"], settings["resample"]
    if resample not in list(PIL.Image.Resampling):
        raise InputError(
            f"resample is {resample!r}, expected one of {[int(each) for each in PIL.Image.Resampling]}: resample=3"
        )
    mean, std = (_numbers(settings[key]) for key in ("image_mean", "image_std"))
    return Steps(
        rgb=bool(settings["do_convert_rgb"]),
        size=(size.get("shortest_edge") or (size["height"], size["width"])) if settings["do_resize"] else None,
        resample=int(resample),
        crop=(crop["height"], crop["width"]) if settings["do_center_crop"] else None,
        scale=float(settings["rescale_factor"]) if settings["do_rescale"] else None,
        mean=mean if settings["do_normalize"] else None,
        std=std,
    )


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(map(float, np.atleast_1d(value).tolist()))


def _axis(name: str, value: Any) -> Literal[0, -1] | None:
    value = getattr(value, "value", value)  # a member of transformers' ChannelDimension
    if value not in _AXES:
        raise InputError(f"{name} is {value!r}, expected 'channels_first' or 'channels_last': {name}='channels_first'")
    return _AXES[value]


def _pad(pixels: list[np.ndarray], size: dict[str, int] | None) -> list[np.ndarray]:
    """Pad with zeros below and to the right, up to one size, by default that of the largest image."""
    shapes = [each.shape[1:] for each in pixels]
    to = (size["height"], size["width"]) if size else tuple(np.max(shapes, axis=0).tolist())
    if any(height > to[0] or width > to[1] for height, width in shapes):
        raise InputError(
            f"pad_size is {to}, smaller than an image of {max(shapes)}: leave it out to pad to the largest image"
        )
    return [np.pad(each, ((0, 0), (0, to[0] - each.shape[1]), (0, to[1] - each.shape[2]))) for each in pixels]


def _batch(pixels: list[np.ndarray], options: dict[str, Any]) -> BatchFeature:
    batch = BatchFeature({"pixel_values": pixels}, options.get("return_tensors"))
    device = options.get("device")
    return batch if device is None else batch.to(device)
