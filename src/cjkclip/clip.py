"""load() and class Clip: a checkpoint's parts and an engine. n, m inputs, L tokens, S pixels a side, E joint width."""

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Unpack

import numpy as np

from cjkclip import checkpoints, engines, zeroshot
from cjkclip.arrays import Float32
from cjkclip.checkpoints import Found, ReadOptions, check_options, saving
from cjkclip.checkpoints.weights import OpenFile
from cjkclip.config import Image
from cjkclip.errors import FactsError, InputError
from cjkclip.fingerprint import fingerprint
from cjkclip.image import OnError, Picture, listed, load_pixels, tell
from cjkclip.image.batches import EncodedBatch, ahead, encode_batches, fill
from cjkclip.machine.memory import halved
from cjkclip.precision import half
from cjkclip.text import Tokens, Truncate, check_context, check_texts
from cjkclip.text.batches import in_batches
from cjkclip.zeroshot import Prediction

Features = Float32[np.ndarray, "n E"]
MOST_SCORES = 1 << 22  # scores of images and labels that exist at the same time
TEXTS = 256  # default batch size of texts


def load(
    name: str | Path | OpenFile,
    *,
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    family: str | None = None,
    revision: str | None = None,
    **options: Unpack[ReadOptions],
) -> "Clip":
    """Load a model: "moji" (bundled), an alias ("ViT-B/32"), a hub id, a directory, or a weights file.

    A weights file may also be an open one, which has no side files.

    engine: "auto", "openvino", "torch" or "numpy". precision: "auto" (bf16 if fast and exact enough, else fp32),
    "fp32", "bf16", "int8" (see Clip.quantize), "fp16-weights" (as cn_clip). device: "auto", "cpu", "cuda" or "mps".
    image_tower: use that model's image tower and logit_scale. facts: missing config values, as {"vision.heads": 12}.
    image_size: pixels a side, with interpolated positions. context: ids per text, up to the text tower's positions.
    Raises ModelNotFoundError, HubError, WeightsError, LayoutError, FactsError, EngineError, MissingDependencyError.

    >>> load("moji").encode_text(["猫", "고양이"]).shape  # works offline
    (2, 256)
    """
    check_options(options)
    names = engines.choose(engine, precision, device)
    source = checkpoints.resolve(name, checkpoints.Where(revision=revision), family=family)
    return Clip(checkpoints.read(source, **options), names)


class Clip:
    """A loaded model. Features are float32 NumPy arrays (n, E), one row per input, by default of unit length."""

    def __init__(self, found: Found, engine: tuple[str, str, str]) -> None:
        """Combine the parts of a checkpoint and the names of engine, precision and device. Call `load` instead."""
        self.config, self.params, self.tokenizer = found.config, found.params, found.tokenizer
        self.family, self.release = found.family, found.release
        self.languages = found.release.languages if found.release else found.family.languages
        self.embed_dim = found.config.embed
        self.logit_scale = found.logit_scale
        self._found, self._chosen, self._building = found, engine, threading.Lock()
        self._calibration: tuple[Sequence[Picture], Sequence[str]] = (), ()
        self._labels = zeroshot.LabelCache()

    def __reduce__(self) -> tuple[object, ...]:
        """Support pickle and copy: the copy builds its own engine."""
        return type(self), (self._found, self._chosen), {"_calibration": self._calibration}

    @cached_property
    def engine(self) -> engines.Engine:
        """The engine, built at its first use."""
        with self._building:
            if "engine" not in self.__dict__:  # another thread may have built it meanwhile
                self.__dict__["engine"] = self._build()
        return self.__dict__["engine"]

    def _build(self) -> engines.Engine:
        name, precision, device = self._chosen
        if precision == "auto":
            inputs = partial(half.built_in, self.config, self.tokenizer)
            precision = half.precision(self.config, self.params, inputs, engine=name, device=device)
        if precision == "int8":
            from cjkclip.precision import int8

            source = int8.CalibrationSource(self.tokenizer, self.languages, *self._calibration)
            return int8.engine(self.config, self.params, source)
        return engines.build(self.config, self.params, engine=name, precision=precision, device=device)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any parameter or config field."""
        return fingerprint(self.config, self.params)

    def preprocess(
        self, images: Picture | Iterable[Picture], *, published: bool = False, on_error: OnError | None = None
    ) -> Float32[np.ndarray, "n 3 S S"]:
        """Return pixels of images. published=True: the original pixels (without EXIF). Errors as in `encode_image`."""
        return load_pixels(listed(images), self._rules(), published=published, on_error=on_error)

    def tokenize(self, texts: Sequence[str], *, truncate: Truncate = "cut", context: int | None = None) -> Tokens:
        """Tokenize texts into ids and mask (n, L); `truncated` lists the texts that were cut.

        context: L, up to the tower's positions; by default what `load` was called with, else the family's own.
        Raises TextError, InputError.
        """
        if self.tokenizer is None:
            raise FactsError("this checkpoint has no tokenizer files: put them beside the weights and load again")
        if context is not None and self.config.text is not None:
            check_context(context, self.config.text.context)
        return self.tokenizer(texts, truncate=truncate, context=context)

    def encode_pixels(self, pixels: Float32[np.ndarray, "n 3 S S"], *, normalize: bool = True) -> Features:
        """Return features of preprocessed pixels, for example from `preprocess`. Raises InputError."""
        if self.config.vision is None:
            advice = "add another model's, load(..., image_tower='NAME_OR_DIRECTORY')"
            raise InputError(f"this model has no image tower: {advice}")
        size = self.config.vision.image_size
        if pixels.shape[2:] != (size, size):
            raise InputError(
                f"got pixels of shape {pixels.shape}, expected (n, 3, {size}, {size}): use preprocess(images)"
            )
        if len(pixels) == 0:
            return np.zeros((0, self.embed_dim), np.float32)
        features = halved(self.engine.image, pixels)
        return _unit(features) if normalize else features

    def encode_tokens(self, tokens: Tokens, *, normalize: bool = True) -> Features:
        """Return features of tokens, for example from `tokenize`. Raises InputError."""
        if self.config.text is None:
            raise InputError("this model has no text tower: load a checkpoint that contains one to encode texts")
        ids, vocab, context = tokens.ids, self.config.text.vocab, self.config.text.context
        if ids.shape[1] > context or (ids.size and not 0 <= ids.min() <= ids.max() < vocab):
            accepted = f"up to {context} ids per text, each at least 0 and below {vocab}"
            raise InputError(f"got ids of shape {ids.shape}, expected {accepted}: use tokenize(texts)")
        if len(ids) == 0:
            return np.zeros((0, self.embed_dim), np.float32)
        columns = np.flatnonzero(tokens.mask.sum(axis=0))
        length = int(columns[-1]) + 1 if len(columns) else 1  # the columns after it contain only padding
        features = halved(self.engine.text, ids[:, :length], tokens.mask[:, :length])
        return _unit(features) if normalize else features

    def encode_image(
        self,
        images: Picture | Iterable[Picture],
        *,
        normalize: bool = True,
        batch_size: int | None = None,
        exact: bool = True,
        on_error: OnError | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Features:
        """Return features (n, E) of images: paths, bytes, PIL images or arrays; one image counts as a list of one.

        While one batch is encoded, the next one is opened and resized on every core. progress(n) is called after each
        batch with the number of finished images. exact=False decodes large JPEG files at a reduced size, which is
        faster. batch_size: 32 by default, 256 on a GPU.

        If an image cannot be read, on_error(index, error) is called and its row is NaN. Without on_error, ImageError
        is raised after all images were tried; it lists every image that failed.
        """
        pictures = listed(images)
        features = np.zeros((len(pictures), self.embed_dim), np.float32)
        batches = self.encode_image_batches(pictures, normalize=normalize, batch_size=batch_size, exact=exact)
        problems = fill(features, batches, progress)
        tell(problems, len(pictures), on_error)
        return features

    def encode_image_batches(
        self,
        images: Picture | Iterable[Picture],
        *,
        normalize: bool = True,
        batch_size: int | None = None,
        exact: bool = True,
    ) -> Generator[EncodedBatch]:
        """Yield features batch by batch, for images whose features do not all fit into memory.

        A batch has `start`, `features` (n, E) with NaN for a failed image, `problems` as (index, message), and the
        seconds `waited` for its pixels and `encoded` in the tower. Close the generator to stop early.
        """
        size = checked_size(batch_size, 32 if self._chosen[2] == "cpu" else 256)
        batches = ahead(listed(images), self._rules(), size, exact)
        return encode_batches(batches, lambda pixels: self.encode_pixels(pixels, normalize=normalize), self.embed_dim)

    def encode_text(
        self,
        texts: Iterable[str],
        *,
        normalize: bool = True,
        batch_size: int | None = None,
        truncate: Truncate = "cut",
        context: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Features:
        """Return features (n, E) of texts. TruncatedTextWarning reports texts that were cut. Raises TextError.

        Texts of similar length share a batch (256 by default), so that short texts are not padded to long ones;
        repeated texts are encoded once. progress(n) is called after each batch with the number of finished texts.
        truncate, context: as in `tokenize`.
        """
        size, texts = checked_size(batch_size, TEXTS), check_texts(texts)
        tokens = self.tokenize(texts, truncate=truncate, context=context)
        tokens.tell_cut(stacklevel=2)
        encode = partial(self.encode_tokens, normalize=normalize)
        return in_batches(texts, tokens, size, encode, progress)

    def logits(self, images: Picture | Iterable[Picture], texts: Iterable[str]) -> Float32[np.ndarray, "n m"]:
        """Return cosine similarities times logit_scale, (n, m). Raises ImageError, TextError."""
        self.engine.prepare()
        return np.float32(self.logit_scale) * (self.encode_image(images) @ self.encode_text(texts).T)

    def classify(
        self,
        images: Picture | Iterable[Picture],
        labels: Iterable[str],
        *,
        language: str | None = None,
        templates: Iterable[str] | None = None,
        k: int | None = None,
    ) -> list[list[Prediction]]:
        """Return for each image its k best labels (None: all) with their probabilities among all labels, best first.

        A probability is among these labels: of one label it is 1. `Prediction.cosine` does not depend on the others.
        language: fill the labels into the family's prompt templates of that language. templates: your own prompt
        templates with {} for the label. By default labels are used unchanged. Raises ImageError, TextError, InputError.

        >>> from cjkclip import moji
        >>> load("moji").classify(moji.pictures("noto")["1f431"], ["개", "고양이"], language="ko")[0][0].label
        '고양이'
        """
        if language is not None and language not in self.languages:
            raise InputError(f"language {language!r} is not supported by this model: use one of {list(self.languages)}")
        if templates is None:
            templates = self.family.templates.get(language or "", zeroshot.BARE)
        labels, templates = check_texts(labels), check_texts(templates)
        if k is not None and k < 1:
            raise InputError(f"k is {k}, expected at least 1 label per image, or None for all: use for example k=5")
        self.engine.prepare()
        classes, cut = self._labels.features(labels, templates, self.tokenize, self.encode_tokens)
        cut.tell_cut(stacklevel=2)
        features, rows = self.encode_image(listed(images)), max(1, MOST_SCORES // len(labels))
        parts = (features[start : start + rows] @ classes.T for start in range(0, len(features), rows))
        return [row for part in parts for row in zeroshot.predictions(part, self.logit_scale, labels, k)]

    def quantize(self, images: Picture | Iterable[Picture] = (), texts: Iterable[str] = ()) -> "Clip":
        """Return this model in int8, calibrated on your images and texts (16 or more of each), or on built-in ones.

        load(..., precision="int8") always calibrates on the built-in ones. The first use takes minutes. It raises
        EngineError if int8 changes the features too much, InputError for too few images or texts.
        """
        clip = Clip(self._found, ("openvino", "int8", "cpu"))
        clip._calibration = tuple(listed(images)), tuple(check_texts(texts))
        return clip

    def save(self, folder: str | Path, layout: str = "cjkclip") -> Path:
        """Write weights, tokenizer and preprocessing into a directory; load(folder) then returns the same towers.

        layout: "cjkclip", "transformers" (that package's layout of this kind of model), "flax", "openai", "open_clip",
        "cn_clip" or another; LayoutError lists those that fit. Layout "cjkclip" keeps the features of every image and
        text. Others crop images and clean texts as their own package does; LayoutWarning reports changed token ids.
        Raises LayoutError if the layout cannot store this model, InputError if load(folder) would read other weights.
        """
        return saving.write(self._found, Path(folder), layout)

    def _rules(self) -> Image:
        if self.config.image is None:
            tower = "add an image tower, load(..., image_tower='NAME_OR_DIRECTORY')"
            advice = "put preprocessor_config.json beside the weights and load again" if self.config.vision else tower
            raise FactsError(f"this checkpoint has no preprocessing: {advice}")
        return self.config.image


def checked_size(batch_size: int | None, default: int) -> int:
    """Return `batch_size`, or the default for None. Raises InputError if it is less than 1."""
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size is {batch_size}, expected at least 1: use for example batch_size={default}")
    return batch_size or default


def _unit(features: Features) -> Features:
    return features / np.linalg.norm(features, axis=1, keepdims=True)
