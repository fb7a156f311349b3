"""load() and class Clip: the only file that knows checkpoints and engines. n items, L tokens, S pixels, E joint width.

Refuses: pixels or ids that the towers were not made for; everything that checkpoints.py refuses.
"""

import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np

from cjkclip import checkpoints, engines, gate, parameters, zeroshot
from cjkclip.arrays import Float32
from cjkclip.checkpoints import Found, saving
from cjkclip.checkpoints.formats import Facts
from cjkclip.config import Image
from cjkclip.errors import FactsError, InputError, WeightsError
from cjkclip.image import OnError, Picture, listed, load_pixels, tell
from cjkclip.image.batches import EncodedBatch, ahead, encode_batches, fill
from cjkclip.machine.memory import halved
from cjkclip.text import Tokens, Truncate, check_texts
from cjkclip.text.batches import in_batches
from cjkclip.zeroshot import Prediction

Features = Float32[np.ndarray, "n E"]
KEPT = 8  # sets of labels
TEXTS = 256  # in the tower at once, unless it is said
MOST_SCALE = 80.0  # of the logarithm: beyond it float32 overflows


def load(
    name: str | Path,
    *,
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    family: str | None = None,
    revision: str | None = None,
    image_tower: str | Path | None = None,
    facts: Facts | None = None,
) -> "Clip":
    """Load a model: "moji" (bundled), an alias ("ViT-B/32"), a hub id, a local folder, or a weight file.

    facts states what a file cannot tell, by dotted config fields: {"vision.act": "quick_gelu", "vision.heads": 12}.
    engine: "auto", "openvino", "torch" or "numpy". precision: "auto" (bf16 where it is fast and close
    enough, else fp32; see cjkclip.gate), "fp32", "bf16", "int8" (see Clip.quantize). device: "auto", "cpu",
    "cuda", "mps". Raises ModelNotFoundError, HubError, WeightsError, LayoutError, FactsError, EngineError.
    """
    chosen = engines.choose(engine, precision, device)
    source = checkpoints.resolve(name, checkpoints.Where(revision=revision), family=family)
    tower = None if image_tower is None else str(image_tower)
    return Clip(checkpoints.read(source, image_tower=tower, facts=facts), chosen)


class Clip:
    """A loaded model. Features are float32 NumPy arrays, one row per item, of unit length unless asked otherwise."""

    def __init__(self, found: Found, engine: tuple[str, str, str]) -> None:
        """Take the parts of a checkpoint and the chosen engine; `load` is the way to make one."""
        self.config, self.params, self.tokenizer = found.config, found.params, found.tokenizer
        self.family, self.release = found.family, found.release
        self.languages = found.release.languages if found.release else found.family.languages
        self.embed_dim = found.config.embed
        self.logit_scale = _scale(found)
        self._found, self._chosen, self._building = found, engine, threading.Lock()
        self._calibration: tuple[Sequence[Picture], Sequence[str]] = (), ()
        self._kept: dict[tuple[tuple[str, ...], int], tuple[Features, Tokens]] = {}

    def __reduce__(self) -> tuple[object, ...]:
        """For pickle and copy, which build an engine of their own."""
        return type(self), (self._found, self._chosen), {"_calibration": self._calibration}

    @cached_property
    def engine(self) -> engines.Engine:
        """The engine, built once, when it is first needed."""
        with self._building:
            if "engine" not in self.__dict__:  # another thread may have asked for it first
                self.__dict__["engine"] = self._build()
        return self.__dict__["engine"]

    def _build(self) -> engines.Engine:
        name, precision, device = self._chosen
        if precision == "auto":
            inputs = partial(gate.built_in, self.config, self.tokenizer)
            precision = gate.precision(self.config, self.params, inputs, engine=name, device=device)
        if precision == "int8":
            from cjkclip import int8

            source = int8.Source(self.tokenizer, self.languages, *self._calibration)
            return int8.engine(self.config, self.params, source)
        return engines.build(self.config, self.params, engine=name, precision=precision, device=device)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change when a parameter or a config field does."""
        return parameters.fingerprint(self.config, self.params)

    def preprocess(
        self, images: Picture | Iterable[Picture], *, published: bool = False, on_error: OnError | None = None
    ) -> Float32[np.ndarray, "n 3 S S"]:
        """Pictures to pixels. published=True: the original's own pipeline to the bit (no EXIF turn, its alpha rule)."""
        return load_pixels(listed(images), self._rules(), published=published, on_error=on_error)

    def tokenize(self, texts: Sequence[str], *, truncate: Truncate = "cut") -> Tokens:
        """Texts to ids and mask, (n, L); `truncated` lists the texts that were cut. Raises TextError."""
        if self.tokenizer is None:
            raise FactsError("this checkpoint came without tokenizer files: put them beside the weights and load again")
        return self.tokenizer(texts, truncate=truncate)

    def encode_pixels(self, pixels: Float32[np.ndarray, "n 3 S S"], *, normalize: bool = True) -> Features:
        """Features of prepared pixels."""
        if self.config.vision is None:
            raise InputError("this model has no image tower")
        size = self.config.vision.image_size
        if pixels.shape[2:] != (size, size):
            raise InputError(f"got pixels of shape {pixels.shape}, expected (n, 3, {size}, {size})")
        if len(pixels) == 0:
            return np.zeros((0, self.embed_dim), np.float32)
        features = halved(self.engine.image, pixels)
        return _unit(features) if normalize else features

    def encode_tokens(self, tokens: Tokens, *, normalize: bool = True) -> Features:
        """Features of prepared tokens."""
        if self.config.text is None:
            raise InputError("this model has no text tower")
        ids, vocab = tokens.ids, self.config.text.vocab
        if ids.shape[1] > self.config.text.context or (ids.size and not 0 <= ids.min() <= ids.max() < vocab):
            raise InputError(
                f"got ids of shape {ids.shape}; expected up to {self.config.text.context} ids a text, below {vocab}"
            )
        if len(ids) == 0:
            return np.zeros((0, self.embed_dim), np.float32)
        columns = np.flatnonzero(tokens.mask.sum(axis=0))
        used = int(columns[-1]) + 1 if len(columns) else 1  # what follows is pads alone, which say nothing
        features = halved(self.engine.text, ids[:, :used], tokens.mask[:, :used])
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
        """Features of pictures: paths, bytes, PIL pictures or arrays, (n, E); one picture counts as a list of one.

        While one batch is encoded, the next is opened and resized on every core; `progress(n)` hears after
        each how many pictures are done. exact=False decodes large JPEG files at a fraction of their size.
        batch_size: pictures in the tower at once; 32 unless it is said, and 256 on a GPU.

        A bad picture: with `on_error` it is told by index, its row is NaN and the others are answered; without,
        ImageError names every bad one when all have been tried.
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
        """The same a batch at a time, for more pictures than their features fit into memory.

        Each has `start`, `features` (n, E) with NaN for a bad picture, `problems` as (index, why), and the seconds
        that its pixels were `waited` for and that it was `encoded`. Close the generator to stop early.
        """
        at_once = _at_once(batch_size, 32 if self._chosen[2] == "cpu" else 256)
        made = ahead(listed(images), self._rules(), at_once, exact)
        return encode_batches(made, lambda pixels: self.encode_pixels(pixels, normalize=normalize), self.embed_dim)

    def encode_text(
        self,
        texts: Iterable[str],
        *,
        normalize: bool = True,
        batch_size: int | None = None,
        truncate: Truncate = "cut",
        progress: Callable[[int], None] | None = None,
    ) -> Features:
        """Features of texts, (n, E). A text that was cut is told by TruncatedTextWarning. Raises TextError.

        Texts of a like length share a batch, 256 unless `batch_size` says how many, without padding to longer ones;
        repeated texts are encoded once. `progress(n)` hears after each batch how many texts are done.
        """
        at_once, texts = _at_once(batch_size, TEXTS), check_texts(texts)
        tokens = self.tokenize(texts, truncate=truncate)
        tokens.tell_cut(stacklevel=2)
        encode = partial(self.encode_tokens, normalize=normalize)
        return in_batches(texts, tokens, at_once, encode, progress)

    def logits(self, images: Picture | Iterable[Picture], texts: Iterable[str]) -> Float32[np.ndarray, "n m"]:
        """Cosines of pictures and texts times the model's own scale, (n_images, n_texts)."""
        self.engine.prepare()
        return np.float32(self.logit_scale) * (self.encode_image(images) @ self.encode_text(texts).T)

    def classify(
        self,
        images: Picture | Iterable[Picture],
        labels: Iterable[str],
        *,
        language: str | None = None,
        templates: Iterable[str] | None = None,
    ) -> list[list[Prediction]]:
        """Per picture, every label with its probability among the labels, best first.

        language puts the labels into the family's sentences of that language; templates are sentences of your own
        with {} for the label; with neither, labels stand as they are. Raises ImageError, TextError, InputError.
        """
        if language is not None and language not in self.languages:
            raise InputError(f"language {language!r} is not one of this model's: {list(self.languages)}")
        if templates is None:
            templates = self.family.templates.get(language or "", zeroshot.BARE)
        labels, templates = check_texts(labels), check_texts(templates)
        self.engine.prepare()
        classes, cut = self._classes(zeroshot.sentences(labels, templates), len(templates))
        cut.tell_cut(stacklevel=2)
        scores = np.float32(self.logit_scale) * (self.encode_image(listed(images)) @ classes.T)
        return zeroshot.predictions(scores, labels)

    def quantize(self, images: Picture | Iterable[Picture] = (), texts: Iterable[str] = ()) -> "Clip":
        """This model in int8, calibrated on pictures and texts like those to come (16 or more), or on built-in ones.

        What `load(..., precision="int8")` gives, which knows the built-in ones alone; see `cjkclip.int8`.
        Raises EngineError at its first use if int8 changes the model too much.
        """
        made = Clip(self._found, ("openvino", "int8", "cpu"))
        made._calibration = tuple(listed(images)), tuple(check_texts(texts))
        return made

    def save(self, folder: str | Path, layout: str = "cjkclip") -> Path:
        """Write weights, tokenizer and preprocessing into `folder`; `load(folder)` gives the same towers, offline.

        layout: "cjkclip", "transformers", "flax", "openai", "open_clip", "cn_clip" and what else the families have;
        LayoutError lists them for an unknown one. Layout "cjkclip" gives the same vectors of every picture and text;
        each other one crops pictures and cleans texts as its own package does, and LayoutWarning tells if that makes
        other ids of some texts. Raises LayoutError if it cannot hold this model, InputError if `folder` holds weights
        that would be read in the place of these.
        """
        return saving.write(self._found, Path(folder), layout)

    def _classes(self, sentences: Sequence[str], templates: int) -> tuple[Features, Tokens]:
        """One unit vector a label, and which labels were cut. The last few sets are kept: they come again."""
        key = (tuple(sentences), templates)
        found = self._kept.get(key)
        if found is None:
            while len(self._kept) >= KEPT:
                self._kept.pop(next(iter(tuple(self._kept))), None)  # another thread may have done so
            tokens = self.tokenize(sentences)
            which = tuple(sorted({index // templates for index in tokens.truncated}))
            first = slice(None, None, templates)  # of each label's sentences; copied, not to keep those of all
            cut = Tokens(ids=tokens.ids[first].copy(), mask=tokens.mask[first].copy(), truncated=which)
            found = zeroshot.ensemble(in_batches(sentences, tokens, TEXTS, self.encode_tokens), templates), cut
            self._kept[key] = found
        return found

    def _rules(self) -> Image:
        if self.config.image is None:
            raise FactsError(
                "no preprocessing is known for this checkpoint: put its preprocessor_config.json beside it"
            )
        return self.config.image


def _at_once(batch_size: int | None, usual: int) -> int:
    if batch_size is not None and batch_size < 1:
        raise InputError(f"batch_size is {batch_size}, expected at least 1")
    return batch_size or usual


def _scale(found: Found) -> float:
    """What multiplies a cosine: the file's parameter, or the fact of a model without one, or 1 for a single tower."""
    if "logit_scale" not in found.params:
        return found.config.scale or 1.0
    logarithm = float(found.params["logit_scale"].astype(np.float64).reshape(()))
    if not abs(logarithm) < MOST_SCALE:
        raise WeightsError(
            f"logit_scale is {logarithm:.4g}, expected the logarithm of a scale: training caps it at 4.61"
        )
    return float(np.exp(logarithm))


def _unit(features: Features) -> Features:
    return features / np.linalg.norm(features, axis=1, keepdims=True)
