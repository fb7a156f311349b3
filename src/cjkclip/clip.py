"""Class Clip: a checkpoint's parts and an engine. n, m inputs, L tokens, S pixels a side, E joint width."""

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from cjkclip import engines, zeroshot
from cjkclip.arrays import Float32
from cjkclip.checkpoints import Found, saving
from cjkclip.config import Image
from cjkclip.errors import FactsError, InputError
from cjkclip.fingerprint import fingerprint
from cjkclip.image import OnError, Picture, listed, load_pixels, tell
from cjkclip.image.batches import EncodedBatch, ahead, encode_batches, fill
from cjkclip.machine.forks import GATE, Lock
from cjkclip.machine.limits import using
from cjkclip.machine.mapped import require_intact, steady
from cjkclip.machine.memory import checked_size, halved
from cjkclip.machine.threads import lazy, require_running
from cjkclip.precision import half
from cjkclip.text import Tokens, Truncate, check_context, check_texts
from cjkclip.text.batches import in_batches, in_parts
from cjkclip.zeroshot import Prediction

Features = Float32[np.ndarray, "n E"]
MOST_SCORES = 1 << 22  # scores of images and labels that exist at the same time
TEXTS = 256  # default batch size of texts
SOON = 8  # default batch size of images if the call may be cancelled, which takes effect between batches


class Clip:
    """A loaded model. Features are float32 NumPy arrays (n, E), one row per input, by default of unit length."""

    def __init__(self, found: Found, engine: tuple[str, str, str], threads: int | None = None) -> None:
        """Combine the parts of a checkpoint and the names of engine, precision and device. Call `load` instead."""
        self.config, self.params, self.tokenizer = found.config, found.params, found.tokenizer
        self.family, self.release = found.family, found.release
        self.languages = found.release.languages if found.release else found.family.languages
        self.embed_dim = found.config.embed
        self.logit_scale = found.logit_scale
        self._found, self._chosen, self._threads, self._building = found, engine, threads, Lock()
        self._files = found.files
        self._calibration: tuple[Sequence[Picture], Sequence[str], str] = (), (), ""
        self._labels = zeroshot.LabelCache()

    def __reduce__(self) -> tuple[object, ...]:
        """Support pickle and copy: the copy builds its own engine."""
        require_intact(self._files)
        return type(self), (self._found, self._chosen, self._threads), {"_calibration": self._calibration}

    @lazy
    def engine(self) -> engines.Engine:
        """The engine, built at its first use."""
        with GATE.call(), self._building, using(self._threads), steady(self._files):
            built = self.__dict__.get("engine")  # another thread may have built it meanwhile
            return built or self.__dict__.setdefault("engine", self._build())

    @contextmanager
    def _working(self) -> Generator[engines.Engine]:
        """Give the engine for one call: with this model's threads, and with weights that nobody changes meanwhile."""
        with GATE.call(), using(self._threads):
            name = self._chosen[0]
            if name != "numpy":
                GATE.require_whole()
            engine = self.engine  # the others than torch may read the mapped files at any call
            with steady(() if name == "torch" else self._files):
                yield engine

    def _build(self) -> engines.Engine:
        name, precision, device = self._chosen
        if precision == "auto":
            inputs = partial(half.built_in, self.config, self.tokenizer)
            precision = half.precision(self.config, self.params, inputs, engine=name, device=device)
        if precision == "int8":
            from cjkclip.precision import int8

            source = int8.CalibrationSource(self.tokenizer, self.languages, *self._calibration)
            built = int8.engine(self.config, self.params, source)
            self._calibration = source.spent()
            return built
        return engines.build(self.config, self.params, engine=name, precision=precision, device=device)

    @lazy
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with any parameter or config field."""
        with using(self._threads), steady(self._files):
            return fingerprint(self.config, self.params)

    def preprocess(
        self, images: Picture | Iterable[Picture], *, published: bool = False, on_error: OnError | None = None
    ) -> Float32[np.ndarray, "n 3 S S"]:
        """Return pixels of images. published=True: the original pixels (without EXIF). Errors as in `encode_image`."""
        with using(self._threads):
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
        with self._working() as engine:
            features = halved(engine.image, pixels)
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
        with self._working() as engine:
            features = halved(engine.text, ids[:, :length], tokens.mask[:, :length])
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
        cancel: threading.Event | None = None,
    ) -> Features:
        """Return features (n, E) of images: paths, bytes, PIL images or arrays; one image counts as a list of one.

        While one batch is encoded, the next one is opened and resized on every core. progress(n) is called after each
        batch with the number of finished images. exact=False decodes large JPEG files at a reduced size, which is
        faster. batch_size: 32 by default, 256 on a GPU. cancel: once another thread sets this event, the call ends
        before the next batch, with CancelledError, and leaves no thread behind; batch_size is then 8 by default.

        If an image cannot be read, on_error(index, error) is called and its row is NaN. Without on_error, ImageError
        is raised after all images were tried; it lists every image that failed.
        """
        pictures = listed(images)
        features = np.zeros((len(pictures), self.embed_dim), np.float32)
        encode = partial(self.encode_image_batches, normalize=normalize, batch_size=batch_size, exact=exact)
        problems = fill(features, encode(pictures, cancel=cancel), progress)
        tell(problems, len(pictures), on_error)
        return features

    def encode_image_batches(
        self,
        images: Picture | Iterable[Picture],
        *,
        normalize: bool = True,
        batch_size: int | None = None,
        exact: bool = True,
        cancel: threading.Event | None = None,
    ) -> Generator[EncodedBatch]:
        """Yield features batch by batch, for images whose features do not all fit into memory.

        A batch has `start`, `features` (n, E) with NaN for a failed image, `problems` as (index, message), and the
        seconds `waited` for its pixels and `encoded` in the tower. Close the generator to stop early: it has a thread.
        Arguments as in `encode_image`.
        """
        default = SOON if cancel else 32 if self._chosen[2] == "cpu" else 256
        size = checked_size(batch_size, default)
        batches = ahead(listed(images), self._rules(), size, exact, threads=self._threads, cancel=cancel)
        encode = partial(_unless, cancel, self.encode_pixels, normalize=normalize)
        return encode_batches(batches, encode, self.embed_dim)

    def encode_text(
        self,
        texts: Iterable[str],
        *,
        normalize: bool = True,
        batch_size: int | None = None,
        truncate: Truncate = "cut",
        context: int | None = None,
        progress: Callable[[int], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Features:
        """Return features (n, E) of texts. TruncatedTextWarning reports texts that were cut. Raises TextError.

        Texts of similar length share a batch (256 by default), so that short texts are not padded to long ones;
        repeated texts are encoded once. progress(n) is called after each batch with the number of finished texts.
        truncate, context: as in `tokenize`. cancel: as in `encode_image`.
        """
        size, texts = checked_size(batch_size, TEXTS), check_texts(texts)
        tokenize = partial(self.tokenize, truncate=truncate, context=context)
        tokens = in_parts(tokenize, cancel if truncate == "cut" else None, texts)
        tokens.tell_cut(stacklevel=2)
        encode = partial(_unless, cancel, self.encode_tokens, normalize=normalize)
        return in_batches(texts, tokens, size, encode, progress)

    def logits(self, images: Picture | Iterable[Picture], texts: Iterable[str]) -> Float32[np.ndarray, "n m"]:
        """Return cosine similarities times logit_scale, (n, m). Raises ImageError, TextError."""
        with self._working() as engine:
            engine.prepare()
        return np.float32(self.logit_scale) * (self.encode_image(images) @ self.encode_text(texts).T)

    def classify(
        self,
        images: Picture | Iterable[Picture],
        labels: Iterable[str],
        *,
        language: str | None = None,
        templates: Iterable[str] | None = None,
        k: int | None = None,
        cancel: threading.Event | None = None,
    ) -> list[list[Prediction]]:
        """Return for each image its k best labels (None: all) with their probabilities among all labels, best first.

        A probability is among these labels: of one label it is 1. `Prediction.cosine` does not depend on the others.
        language: fill the labels into the family's prompt templates of that language. templates: your own prompt
        templates with {} for the label. By default labels are used unchanged. cancel: as in `encode_image`. Raises
        ImageError, TextError, InputError.

        >>> import cjkclip
        >>> from cjkclip import moji
        >>> cjkclip.load("moji").classify(moji.pictures("noto")["1f431"], ["개", "고양이"], language="ko")[0][0].label
        '고양이'
        """
        if language is not None and language not in self.languages:
            raise InputError(f"language {language!r} is not supported by this model: use one of {list(self.languages)}")
        if templates is None:
            templates = self.family.templates.get(language or "", zeroshot.BARE)
        labels, templates = check_texts(labels), check_texts(templates)
        if k is not None and k < 1:
            raise InputError(f"k is {k}, expected at least 1 label per image, or None for all: use for example k=5")
        with self._working() as engine:
            engine.prepare()
        tokenize, encode = partial(in_parts, self.tokenize, cancel), partial(_unless, cancel, self.encode_tokens)
        classes, cut = self._labels.features(labels, templates, tokenize, encode)
        cut.tell_cut(stacklevel=2)
        features, rows = self.encode_image(listed(images), cancel=cancel), max(1, MOST_SCORES // len(labels))
        parts = (features[start : start + rows] @ classes.T for start in range(0, len(features), rows))
        return [row for part in parts for row in zeroshot.predictions(part, self.logit_scale, labels, k)]

    def quantize(self, images: Picture | Iterable[Picture] = (), texts: Iterable[str] = ()) -> "Clip":
        """Return this model in int8, calibrated on your images and texts (16 or more of each), or on built-in ones.

        load(..., precision="int8") always calibrates on the built-in ones. The first use takes minutes. It raises
        EngineError if int8 changes the features too much, InputError for too few images or texts.
        """
        clip = Clip(self._found, ("openvino", "int8", "cpu"), self._threads)
        clip._calibration = tuple(listed(images)), tuple(check_texts(texts)), ""
        return clip

    def save(self, folder: str | Path, layout: str = "cjkclip") -> Path:
        """Write weights, tokenizer and preprocessing into a directory; load(folder) then returns the same towers.

        layout: "cjkclip", "transformers" (that package's layout of this kind of model), "flax", "openai", "open_clip",
        "cn_clip" or another; LayoutError lists those that fit. Layout "cjkclip" keeps the features of every image and
        text. Others crop images and clean texts as their own package does; LayoutWarning reports changed token ids.
        Raises LayoutError if the layout cannot store this model, InputError if load(folder) would read other weights.
        """
        with steady(self._files):
            return saving.write(self._found, Path(folder), layout)

    def _rules(self) -> Image:
        if self.config.image is None:
            tower = "add an image tower, load(..., image_tower='NAME_OR_DIRECTORY')"
            advice = "put preprocessor_config.json beside the weights and load again" if self.config.vision else tower
            raise FactsError(f"this checkpoint has no preprocessing: {advice}")
        return self.config.image


def _unless(
    cancel: threading.Event | None, encode: Callable[..., Features], part: np.ndarray | Tokens, **options: bool
) -> Features:
    """Encode one batch. Raises CancelledError if the call was cancelled."""
    require_running(cancel)
    return encode(part, **options)


def _unit(features: Features) -> Features:
    return features / np.linalg.norm(features, axis=1, keepdims=True)
