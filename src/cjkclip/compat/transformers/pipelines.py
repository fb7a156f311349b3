"""pipeline("zero-shot-image-classification") over `cjkclip.load`: every family, and no torch where none is wanted.

Labels are encoded once for all pictures of a call. A picture is turned as its EXIF says, its alpha is dropped, and
one transparent colour (GIF, some PNG) lies on white, all as in transformers' own pipeline. Labels that are too long
are cut, with a TruncatedTextWarning.
Refuses: other tasks, labels that are no list or an empty one, pictures given twice, options that nobody reads.
"""

import urllib.parse
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import PIL.Image

from cjkclip import zeroshot
from cjkclip.arrays import Float32
from cjkclip.clip import Clip
from cjkclip.compat.sources import IGNORED, LOAD, known, loaded
from cjkclip.compat.transformers.inputs.auto import AutoImageProcessor, AutoTokenizer
from cjkclip.compat.transformers.inputs.images import listed
from cjkclip.errors import ImageError, InputError, OptionError
from cjkclip.image import open_picture
from cjkclip.image.picture import to_rgb, upright
from cjkclip.need import need
from cjkclip.text import Tokens, check_texts

TASK = "zero-shot-image-classification"
TEMPLATE = "This is a photo of {}."
# dtype -> precision; no engine computes in float16, so who asks for it gets what is fast and close enough
PRECISIONS = {"auto": "auto", "float32": "fp32", "bfloat16": "bf16", "float16": "auto"}
SECONDS = 30.0  # until a server has to answer, if the caller does not say
LARGEST = 1 << 26  # bytes of a picture that is fetched
Features = Float32[np.ndarray, "n E"]


@runtime_checkable
class Model(Protocol):
    """A model of transformers' shape, whose features are tensors."""

    def get_text_features(self, *args: Any, **inputs: Any) -> Any:
        """Un-normalised features of token ids."""
        ...

    def get_image_features(self, *args: Any, **inputs: Any) -> Any:
        """Un-normalised features of pixels."""
        ...


def pipeline(
    task: str,
    model: str | Path | Clip | Model | None = None,
    *,
    tokenizer: Any = None,
    image_processor: Any = None,
    feature_extractor: Any = None,
    device: Any = None,
    **options: Any,
) -> "ZeroShotImageClassificationPipeline":
    """A classifier of pictures by labels that come with each call.

    model: what `cjkclip.load` takes, a loaded Clip, or a model of compat.transformers, which needs a tokenizer and an
    image_processor (objects, or names to find them by). feature_extractor is the older name of image_processor. device:
    "cpu", "cuda:0", a number (-1 is the CPU), or a torch device. Options: engine, precision or dtype (torch_dtype), see
    `PRECISIONS`, and `sources.LOAD`.
    """
    if task != TASK:
        raise InputError(f"task {task!r} is not built; the one there is: {TASK!r}")
    known(options, (*LOAD, *IGNORED, "engine", "precision", "dtype", "torch_dtype"), "pipeline")
    options = {name: value for name, value in options.items() if name not in IGNORED and value is not None}
    if image_processor is not None and feature_extractor is not None:
        raise OptionError("image_processor and feature_extractor are one thing under two names: pass one of them")
    if model is None:
        raise InputError("model is missing: pass a name such as 'Bingsu/clip-vit-base-patch32-ko', or a loaded model")
    if isinstance(model, str | Path):
        engine, precision = options.get("engine", "auto"), _precision(options)
        model = loaded(model, options, engine=engine, precision=precision, device=device)
    elif options:
        raise OptionError(f"{sorted(options)} belong to loading a model, but this one is loaded")
    image_processor = image_processor or feature_extractor
    if isinstance(tokenizer, str | Path):
        tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    if isinstance(image_processor, str | Path):
        image_processor = AutoImageProcessor.from_pretrained(image_processor)
    return ZeroShotImageClassificationPipeline(model, tokenizer, image_processor)


class ZeroShotImageClassificationPipeline:
    """Made by `pipeline`."""

    task = TASK

    def __init__(self, model: Clip | Model, tokenizer: Any = None, image_processor: Any = None) -> None:
        """A Clip brings its own tokenizer and pictures' rules; what is passed here takes their place."""
        if not isinstance(model, Clip) and (tokenizer is None or image_processor is None):
            raise InputError("a model that is no cjkclip.Clip needs tokenizer= and image_processor=")
        self.model, self.tokenizer, self.image_processor = model, tokenizer, image_processor

    def __call__(self, image: Any = None, candidate_labels: Any = None, **options: Any) -> list[Any]:
        """Per label {"score", "label"}, best first; for a list of pictures, a list of such lists.

        image, or images=: an http(s) address, a path, a PIL picture, an array, or a list of them. Options:
        hypothesis_template, with {} for the label; timeout, seconds for each address; batch_size.
        """
        known(options, ("images", "hypothesis_template", "timeout", "batch_size"), "the pipeline")
        if image is not None and "images" in options:
            raise OptionError("the pictures came twice: as image and as images=; pass them once")
        image = options.get("images") if image is None else image
        texts = _sentences(candidate_labels, options.get("hypothesis_template", TEMPLATE))
        batch_size, timeout = options.get("batch_size") or 32, options.get("timeout") or SECONDS
        sources = listed(image)
        classes = zeroshot.ensemble(self._texts(texts), 1)
        found: list[list[dict[str, Any]]] = []
        for start in range(0, len(sources), batch_size):
            pictures = [_opened(source, timeout) for source in sources[start : start + batch_size]]
            scores = np.float32(self._scale()) * (zeroshot.ensemble(self._images(pictures), 1) @ classes.T)
            for best in zeroshot.predictions(scores, candidate_labels):
                found.append([{"score": each.score, "label": each.label} for each in best])
        many = isinstance(image, list | tuple) or getattr(image, "ndim", 0) == 4
        return found if many else found[0]

    def _texts(self, texts: list[str]) -> Features:
        if self.tokenizer is None:
            return cast(Clip, self.model).encode_text(texts)
        if isinstance(self.model, Clip):
            batch = self.tokenizer(texts, padding=True, return_tensors="np")
            tokens = Tokens(ids=batch["input_ids"], mask=batch["attention_mask"], truncated=())
            return self.model.encode_tokens(tokens)
        return _features(self.model, "text", self.tokenizer(texts, padding=True, return_tensors="pt"))

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
        if model.logit_scale is None:  # CLOOB: the scale is no parameter but a fact of the configuration
            return float(model.config.to_model().scale)
        return float(np.exp(model.logit_scale.item()))


def fetch(address: str, timeout: float = SECONDS) -> bytes:
    """What an http or https address answers, at most `LARGEST` bytes. Raises ImageError."""
    opener = urllib.request.OpenerDirector()  # no handlers for files or ftp, to which a redirect could lead
    for kind in ("Proxy", "Unknown", "HTTP", "HTTPS"):
        opener.add_handler(getattr(urllib.request, f"{kind}Handler")())
    opener.add_handler(urllib.request.HTTPDefaultErrorHandler())
    opener.add_handler(urllib.request.HTTPRedirectHandler())
    opener.add_handler(urllib.request.HTTPErrorProcessor())
    plain = urllib.parse.quote(address, safe="%/:=&?~#+!$,;'@()*[]")  # paths may be written in any script
    try:
        with opener.open(urllib.request.Request(plain, headers={"User-Agent": "cjkclip"}), timeout=timeout) as answer:
            data: bytes = answer.read(LARGEST + 1)
    except (OSError, HTTPException, ValueError) as error:
        raise ImageError(f"{address}: not fetched ({error}); save the picture and pass its path") from error
    if len(data) > LARGEST:
        raise ImageError(
            f"{address}: has more than {LARGEST:,} bytes; save the picture, make it smaller, pass its path"
        )
    return data


def _precision(options: dict[str, Any]) -> str:
    """The precision that a caller asks for, under whichever name."""
    asked = [name for name in ("precision", "dtype", "torch_dtype") if name in options]
    if len(asked) > 1:
        raise OptionError(f"{' and '.join(asked)} are one thing under several names: pass one of them")
    if asked in ([], ["precision"]):
        return options.get("precision", "auto")
    dtype = options[asked[0]]
    name = str(dtype).removeprefix("torch.")
    if name not in PRECISIONS:
        raise InputError(f"dtype is {dtype!r}, expected one of {list(PRECISIONS)} or such a torch.dtype")
    return PRECISIONS[name]


def _sentences(labels: Any, template: Any) -> list[str]:
    if labels is None:
        raise InputError("candidate_labels is missing: pass a list of strings")
    if not isinstance(template, str):
        raise InputError(f"hypothesis_template is {template!r}, expected a sentence with {{}} for the label")
    return zeroshot.sentences(check_texts(labels), [template])


def _opened(source: Any, timeout: float) -> PIL.Image.Image:
    """A picture upright and in RGB, without its alpha; a transparent colour stays told, so it will lie on white."""
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        source = fetch(source, timeout)
    return to_rgb(upright(open_picture(source, published=True)), white=False)


def _features(model: Model, part: str, batch: Any) -> Features:
    """Features of a torch model, computed where it lies; transformers 5's own come inside an object."""
    torch = need("torch", extra="torch")
    with torch.inference_mode():
        found = getattr(model, f"get_{part}_features")(**batch.to(cast(Any, model).device))
    return getattr(found, "pooler_output", found).float().cpu().numpy()
