"""pipeline("zero-shot-image-classification") on `cjkclip.load`: for every family, without torch unless it is requested.

Labels are encoded once for all images of a call. Images are rotated according to EXIF, alpha is dropped, and a single
transparent colour (GIF, some PNG) is shown on white, all as in transformers' own pipeline. Labels that are too long
are cut, with a TruncatedTextWarning.
"""

import base64
import re
import urllib.parse
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from http.client import HTTPException
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import PIL.Image

from cjkclip import zeroshot
from cjkclip.arrays import Float32
from cjkclip.clip import Clip
from cjkclip.compat.sources import IDLE, IGNORED, LOAD, load_clip, one_device, require_known, without_idle
from cjkclip.compat.transformers.inputs.auto import AutoImageProcessor, AutoTokenizer
from cjkclip.compat.transformers.inputs.images import image_list
from cjkclip.errors import ImageError, InputError, OptionError
from cjkclip.image import open_picture
from cjkclip.image.picture import to_rgb, upright
from cjkclip.need import need
from cjkclip.text import Tokens, check_texts

TASK = "zero-shot-image-classification"
TEMPLATE = "This is a photo of {}."
# dtype -> precision; no engine computes in float16, so float16 selects a precision that is fast and close enough
PRECISIONS = {"auto": "auto", "float32": "fp32", "bfloat16": "bf16", "float16": "auto"}
SECONDS = 30.0  # default timeout of a server
LARGEST = 1 << 26  # most bytes of a downloaded image
BASE64 = re.compile(r"(?=.{40})[A-Za-z0-9+/\s]+={0,2}\s*", re.ASCII | re.DOTALL)  # an image, if it is not a path
MADE = ("engine", "precision", "dtype", "torch_dtype")  # options for the model besides `sources.LOAD`
CALL = ("images", "hypothesis_template", "timeout", "batch_size", "top_k", "tokenizer_kwargs")  # options of a call
Features = Float32[np.ndarray, "n E"]


@runtime_checkable
class ZeroShotModel(Protocol):
    """A model with transformers' interface, which returns features as tensors."""

    def get_text_features(self, *args: Any, **inputs: Any) -> Any:
        """Return features of token ids, not normalised."""
        ...

    def get_image_features(self, *args: Any, **inputs: Any) -> Any:
        """Return features of pixels, not normalised."""
        ...


def pipeline(
    task: str | None = None,
    model: str | Path | Clip | ZeroShotModel | None = None,
    *,
    tokenizer: Any = None,
    image_processor: Any = None,
    feature_extractor: Any = None,
    device: Any = None,
    **options: Any,
) -> "ZeroShotImageClassificationPipeline":
    """Return a classifier of images by labels, which are passed with each call.

    model: a name for `cjkclip.load`, a loaded Clip, or a model of compat.transformers, which needs a tokenizer and an
    image_processor (objects, or names to load them by). feature_extractor is the older name of image_processor. device:
    "cpu", "cuda:0", a number (-1 is the CPU), or a torch device. Options: device_map (one device, instead of device);
    batch_size of the calls; engine, precision or dtype (torch_dtype), see `PRECISIONS`, and `sources.LOAD`, all of them
    also in model_kwargs.
    """
    if task not in (TASK, None):
        raise InputError(f"unsupported task {task!r}; only {TASK!r} is available: pipeline({TASK!r}, model)")
    options, device, batch_size = _options(options, device)
    if image_processor is not None and feature_extractor is not None:
        raise OptionError("got image_processor and feature_extractor, two names of one option: pass image_processor")
    if model is None:
        raise InputError("model is missing: pass a loaded model or a name: model='Bingsu/clip-vit-base-patch32-ko'")
    if isinstance(model, str | Path):
        engine, precision = options.get("engine", "auto"), _precision(options)
        model = load_clip(model, options, engine=engine, precision=precision, device=device)
    elif options:
        raise OptionError(f"the model is already loaded, so leave out {sorted(options)}, or pass the model's name")
    image_processor = image_processor or feature_extractor
    if isinstance(tokenizer, str | Path):
        tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    if isinstance(image_processor, str | Path):
        image_processor = AutoImageProcessor.from_pretrained(image_processor)
    return ZeroShotImageClassificationPipeline(model, tokenizer, image_processor, batch_size=batch_size)


def _options(options: dict[str, Any], device: Any) -> tuple[dict[str, Any], Any, int | None]:
    """Return the options for the model, the device, and the batch size. Raises OptionError."""
    inner: dict[str, Any] = options.pop("model_kwargs", None) or {}
    if twice := sorted(inner.keys() & options.keys()):
        raise OptionError(f"pipeline: {twice} are also in model_kwargs: pass them once")
    options = without_idle(options | inner, "pipeline", IDLE | {"framework": (None, "pt")})
    batch_size, mapped = options.pop("batch_size", None), options.pop("device_map", None)
    if device is not None and mapped is not None:
        raise OptionError("pipeline: got device and device_map, expected one of them: pass device='cpu' or another")
    require_known(options, (*LOAD, *IGNORED, *MADE), "pipeline")
    kept = {name: value for name, value in options.items() if name not in IGNORED and value is not None}
    return kept, one_device(mapped, "pipeline") if device is None else device, batch_size


class ZeroShotImageClassificationPipeline:
    """Classifier of images by labels, created by `pipeline`."""

    task = TASK

    def __init__(
        self,
        model: Clip | ZeroShotModel,
        tokenizer: Any = None,
        image_processor: Any = None,
        batch_size: int | None = None,
    ) -> None:
        """A Clip has its own tokenizer and preprocessing; `tokenizer` and `image_processor` override them."""
        if not isinstance(model, Clip) and (tokenizer is None or image_processor is None):
            raise InputError(
                f"a {type(model).__name__} needs tokenizer= and image_processor=, only a cjkclip.Clip has its own: "
                "pass both, as objects or as names such as 'openai/clip-vit-base-patch32'"
            )
        self.model, self.tokenizer, self.image_processor = model, tokenizer, image_processor
        self.batch_size = batch_size or 32

    @property
    def device(self) -> Any:
        """The torch.device that the model computes on."""
        if isinstance(self.model, Clip):
            return need("torch", extra="torch").device(self.model.engine.device)
        return cast(Any, self.model).device

    def __call__(self, image: Any = None, candidate_labels: Any = None, **options: Any) -> Any:
        """Return {"score", "label"} per label, best first; for a list of images, a list of such lists.

        image, or images=: an http(s) URL, a path, base64 (also as data: URI), a PIL image, an array, or a list of them;
        for an iterator, an iterator of results, which reads batch by batch. candidate_labels: a list, or a string with
        commas between labels. Options: hypothesis_template, with {} for the label; timeout, seconds for each URL;
        batch_size; top_k, labels per image; tokenizer_kwargs.
        """
        require_known(options, CALL, "the pipeline")
        if image is not None and "images" in options:
            raise OptionError("the images were passed twice, as image and as images=: pass only images=")
        image = options.get("images") if image is None else image
        if isinstance(candidate_labels, str):
            candidate_labels = [label.strip() for label in candidate_labels.split(",") if label.strip()]
        texts = _prompts(candidate_labels, options.get("hypothesis_template", TEMPLATE))
        sources: Iterable[Any] = cast(Iterator[Any], image) if isinstance(image, Iterator) else image_list(image)
        classes = zeroshot.ensemble(self._texts(texts, options.get("tokenizer_kwargs") or {}), 1)
        classify = partial(self._classify, classes, candidate_labels, options)
        batches = _batches(sources, options.get("batch_size") or self.batch_size)
        results = (result for batch in batches for result in classify(image_list(batch)))
        if isinstance(image, Iterator):
            return results
        many = isinstance(image, list | tuple) or getattr(image, "ndim", 0) == 4
        return list(results) if many else next(results)

    def _classify(self, classes: Features, labels: Any, options: Mapping[str, Any], sources: list[Any]) -> list[Any]:
        """Return the result for each image of a batch."""
        pictures = [_open(source, options.get("timeout") or SECONDS) for source in sources]
        cosines = zeroshot.ensemble(self._images(pictures), 1) @ classes.T
        found = zeroshot.predictions(cosines, self._scale(), labels, options.get("top_k"))
        return [[{"score": each.score, "label": each.label} for each in best] for best in found]

    def _texts(self, texts: list[str], options: Mapping[str, Any]) -> Features:
        if self.tokenizer is None:
            without_padding = {name: value for name, value in options.items() if name != "padding"}
            if rest := {
                name: value for name, value in without_padding.items() if (name, value) != ("truncation", True)
            }:
                raise OptionError(f"tokenizer_kwargs {rest} need a tokenizer: pipeline(model=model, tokenizer=name)")
            return cast(Clip, self.model).encode_text(texts)
        options = {"padding": True} | dict(options)
        if isinstance(self.model, Clip):
            batch = self.tokenizer(texts, **options, return_tensors="np")
            tokens = Tokens(ids=batch["input_ids"], mask=batch["attention_mask"], truncated=())
            return self.model.encode_tokens(tokens)
        return _features(self.model, "text", self.tokenizer(texts, **options, return_tensors="pt"))

    def _images(self, pictures: list[PIL.Image.Image]) -> Features:
        if self.image_processor is None:
            return cast(Clip, self.model).encode_image(pictures)
        if isinstance(self.model, Clip):
            return self.model.encode_pixels(self.image_processor(pictures, return_tensors="np")["pixel_values"])
        return _features(self.model, "image", self.image_processor(pictures, return_tensors="pt"))

    def _scale(self) -> float:
        if isinstance(self.model, Clip):
            return self.model.logit_scale
        model = cast(Any, self.model)
        if model.logit_scale is None:  # CLOOB: the scale is a config value, not a parameter
            return float(model.config.to_model().scale)
        return float(np.exp(model.logit_scale.item()))


def fetch(address: str, timeout: float = SECONDS) -> bytes:
    """Return the content of an http or https URL, at most `LARGEST` bytes. Raises ImageError."""
    opener = urllib.request.OpenerDirector()  # no handlers for file: and ftp:, since a redirect could lead there
    for kind in ("Proxy", "Unknown", "HTTP", "HTTPS"):
        opener.add_handler(getattr(urllib.request, f"{kind}Handler")())
    opener.add_handler(urllib.request.HTTPDefaultErrorHandler())
    opener.add_handler(urllib.request.HTTPRedirectHandler())
    opener.add_handler(urllib.request.HTTPErrorProcessor())
    plain = urllib.parse.quote(address, safe="%/:=&?~#+!$,;'@()*[]")  # the path may contain characters of any script
    try:
        with opener.open(urllib.request.Request(plain, headers={"User-Agent": "cjkclip"}), timeout=timeout) as response:
            data: bytes = response.read(LARGEST + 1)
    except (OSError, HTTPException, ValueError) as error:
        raise ImageError(f"{address}: download failed ({error}); save the image and pass its path") from error
    if len(data) > LARGEST:
        raise ImageError(
            f"{address}: has more than {LARGEST:,} bytes, the limit; save the image, make it smaller and pass its path"
        )
    return data


def _precision(options: dict[str, Any]) -> str:
    """Return the requested precision, which has three option names."""
    names = [name for name in ("precision", "dtype", "torch_dtype") if name in options]
    if len(names) > 1:
        raise OptionError(f"got {' and '.join(names)}, names of one option: pass only {names[0]}")
    if names in ([], ["precision"]):
        return options.get("precision", "auto")
    dtype = options[names[0]]
    name = str(dtype).removeprefix("torch.")
    if name not in PRECISIONS:
        raise InputError(f"dtype is {dtype!r}, expected one of {list(PRECISIONS)} or the torch.dtype of that name")
    return PRECISIONS[name]


def _prompts(labels: Any, template: Any) -> list[str]:
    if labels is None:
        raise InputError("candidate_labels is missing: pass a list of strings, as in candidate_labels=['猫', '犬']")
    if not isinstance(template, str):
        raise InputError(
            f"hypothesis_template is {template!r}, expected a string with {{}} for the label: {TEMPLATE!r}"
        )
    return zeroshot.sentences(check_texts(labels), [template])


def _open(source: Any, timeout: float) -> PIL.Image.Image:
    """Return an image upright, in RGB and without alpha; a single transparent colour becomes white."""
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        source = fetch(source, timeout)
    elif isinstance(source, str) and source.startswith("data:"):
        source = _decoded(source.partition(",")[2])
    elif isinstance(source, str) and BASE64.fullmatch(source) and not _is_file(source):
        source = _decoded(source)
    return to_rgb(upright(open_picture(source, published=True)), white=False)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(urllib.parse.unquote(text), validate=False)
    except ValueError as error:
        raise ImageError(f"{text[:40]!r}... is not the base64 of an image ({error}): pass the image's path") from error


def _is_file(name: str) -> bool:
    try:
        return Path(name).is_file()
    except OSError:  # a name that is too long for the system
        return False


def _batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    items = iter(items)
    while batch := list(islice(items, size)):
        yield batch


def _features(model: ZeroShotModel, part: str, batch: Any) -> Features:
    """Return features of a torch model, computed on its device; transformers 5 returns them inside an object."""
    torch = need("torch", extra="torch")
    with torch.inference_mode():
        output = getattr(model, f"get_{part}_features")(**batch.to(cast(Any, model).device))
    return getattr(output, "pooler_output", output).float().cpu().numpy()
