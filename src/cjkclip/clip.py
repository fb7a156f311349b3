"""load() and class Clip: the only file that knows families and engines. n items, L tokens, S pixels, E joint width.

Refuses: names that are nothing, checkpoints with tensors left over or missing, facts that nobody tells.
"""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from jaxtyping import Float32

from cjkclip import engines, hub, layouts, weights, zeroshot
from cjkclip.config import Image, Model
from cjkclip.errors import (
    FactsError,
    ImageError,
    InputError,
    ModelNotFoundError,
    TruncatedTextWarning,
)
from cjkclip.families import Family, Release, families, family, find_format, find_layout, find_release
from cjkclip.formats import Checkpoint, Facts, Parts, settle
from cjkclip.image import Picture, blame, load_pixels
from cjkclip.parameters import shapes
from cjkclip.text import Tokenizer, Tokens, Truncate
from cjkclip.zeroshot import Prediction

OnError = Callable[[int, ImageError], None]
Features = Float32[np.ndarray, "n E"]


def load(
    name: str | Path,
    *,
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    family: str | None = None,
    revision: str | None = None,
    facts: Facts | None = None,
) -> "Clip":
    """Load a model: "moji" (bundled), an alias ("ViT-B/32"), a hub id, a local folder, or a weight file.

    facts states what a file cannot tell, by dotted config fields: {"vision.act": "quick_gelu", "vision.heads": 12}.
    engine: "auto", "openvino", "torch" or "numpy". precision: "auto" (fp32), "fp32", "bf16". device: "auto", "cpu",
    "cuda", "mps". Raises ModelNotFoundError, HubError, WeightsError, LayoutError, FactsError, EngineError.
    """
    chosen = engines.choose(engine, precision, device)
    found = find_release(str(name))
    release = found[1] if found else None
    checkpoint = _open(_locate(str(name), release, revision), str(name))
    among = families() if family is None else (_family(family),)
    owner, form = find_format(checkpoint, among)
    origin = form.origin(checkpoint)
    if origin.family is not None:
        owner = _family(origin.family)
        release = next((r for r in owner.releases if r.name == origin.release), None)
    stated = {**(release.facts if release else {}), **(facts or {})}
    config = _config(settle(form.read(checkpoint), stated), checkpoint.source)
    params = layouts.read(form.layout, checkpoint.tensors, checkpoint.source)
    layouts.check(params, shapes(config), checkpoint.source)
    stored = getattr(checkpoint.tensors, "dtypes", {})
    homes = {name: layouts.published(form.layout, name) for name in params}
    dtypes = {name: stored[home[0]] for name, home in homes.items() if home is not None and home[0] in stored}
    tokenizer = form.tokenizer(checkpoint, config)
    if tokenizer is not None and config.text is not None and tokenizer.vocab_size > config.text.vocab:
        raise FactsError(
            f"{checkpoint.source}: its tokenizer has {tokenizer.vocab_size} ids, the text tower {config.text.vocab}: "
            "they do not belong together"
        )
    tensors = weights.Tensors(params, dtypes=dtypes)
    return Clip(config, tensors, tokenizer, family=owner, release=release, engine=chosen)


def _family(name: str) -> Family:
    return family(name)


def _locate(name: str, release: Release | None, revision: str | None) -> Path:
    if release is not None and release.name == "moji":
        return Path(__file__).parent / "moji"
    known = [n for each in families() for r in each.releases for n in (r.name, *r.aliases)]
    try:
        return hub.locate(release.name if release else name, revision=revision)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(f"{error}{hub.suggest(name, known)}") from error


def _open(path: Path, source: str) -> Checkpoint:
    file = weights.find(path) if path.is_dir() else path
    return Checkpoint(source=source, folder=file.parent, tensors=weights.read(file))


def _config(record: Mapping[str, Any], source: str) -> Model:
    try:
        return Model.from_dict(record)
    except FactsError as error:
        raise FactsError(
            f"{source}: {error}. State what the file cannot tell, for example "
            "load(..., facts={'vision.act': 'quick_gelu', 'text.act': 'quick_gelu'})"
        ) from error


class Clip:
    """A loaded model. Features are float32 NumPy arrays, one row per item, of unit length unless asked otherwise."""

    def __init__(
        self,
        config: Model,
        params: weights.Tensors,
        tokenizer: Tokenizer | None,
        *,
        family: Family,
        release: Release | None,
        engine: tuple[str, str, str],
    ) -> None:
        """Take parts that fit; `load` is the way to make one."""
        self.config, self.params, self.tokenizer = config, params, tokenizer
        self.family, self.release = family, release
        self.languages = release.languages if release else family.languages
        self.embed_dim = config.embed
        self.logit_scale = float(np.exp(params["logit_scale"].astype(np.float64)).reshape(()))
        self._chosen = engine

    @cached_property
    def engine(self) -> engines.Engine:
        """The engine, built when it is first needed."""
        name, precision, device = self._chosen
        return engines.build(self.config, self.params, engine=name, precision=precision, device=device)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change when a parameter or a config field does."""
        digest = hashlib.sha256(repr(self.config).encode())
        for name in sorted(self.params):
            digest.update(name.encode() + np.ascontiguousarray(self.params[name]).tobytes())
        return digest.hexdigest()[:16]

    def preprocess(
        self, images: Sequence[Picture], *, published: bool = False, on_error: OnError | None = None
    ) -> Float32[np.ndarray, "n 3 S S"]:
        """Pictures to pixels. published=True: the original's own pipeline to the bit (no EXIF turn, its alpha rule)."""
        return load_pixels(_listed(images), self._rules(), published=published, on_error=on_error)

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
        return _unit(self.engine.image(pixels)) if normalize else self.engine.image(pixels)

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
        return _unit(self.engine.text(ids)) if normalize else self.engine.text(ids)

    def encode_image(
        self,
        images: Sequence[Picture],
        *,
        normalize: bool = True,
        batch_size: int = 32,
        on_error: OnError | None = None,
    ) -> Features:
        """Features of pictures: paths, bytes, PIL pictures or arrays, (n, E).

        A bad picture: with `on_error` it is told by index, its row is NaN and the others are answered; without,
        ImageError names every bad one when all have been tried.
        """
        listed = _listed(images)
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}, expected at least 1")
        problems: list[tuple[int, str]] = []
        features = np.full((len(listed), self.embed_dim), np.nan, np.float32)
        for start in range(0, len(listed), batch_size):
            bad: list[tuple[int, str]] = []
            pixels = load_pixels(
                listed[start : start + batch_size],
                self._rules(),
                on_error=lambda _, error, bad=bad: bad.extend(error.problems),
            )
            good = np.setdiff1d(np.arange(len(pixels)), [index for index, _ in bad])
            features[start + good] = self.encode_pixels(pixels[good], normalize=normalize)
            problems += [(start + index, why) for index, why in bad]
        if problems and on_error is None:
            raise blame(problems, len(listed))
        for index, why in problems:
            cast(OnError, on_error)(index, ImageError(f"picture {index}: {why}", [(index, why)]))
        return features

    def encode_text(
        self,
        texts: Sequence[str],
        *,
        normalize: bool = True,
        batch_size: int = 256,
        truncate: Truncate = "cut",
    ) -> Features:
        """Features of texts, (n, E). A text that was cut is told by TruncatedTextWarning. Raises TextError."""
        tokens = self.tokenize(texts, truncate=truncate)
        if tokens.truncated:
            which = ", ".join(map(str, tokens.truncated[:10]))
            warnings.warn(
                f"{len(tokens.truncated)} of {len(texts)} texts are longer than {tokens.ids.shape[1]} tokens and were "
                f"cut (index {which}{', ...' if len(tokens.truncated) > 10 else ''})",
                TruncatedTextWarning,
                stacklevel=2,
            )
        features = np.zeros((len(tokens.ids), self.embed_dim), np.float32)
        for start in range(0, len(features), batch_size):
            part = slice(start, start + batch_size)
            batch = Tokens(ids=tokens.ids[part], mask=tokens.mask[part], truncated=())
            features[part] = self.encode_tokens(batch, normalize=normalize)
        return features

    def logits(self, images: Sequence[Picture], texts: Sequence[str]) -> Float32[np.ndarray, "n m"]:
        """Cosines of pictures and texts times the model's own scale, (n_images, n_texts)."""
        return np.float32(self.logit_scale) * (self.encode_image(images) @ self.encode_text(texts).T)

    def classify(
        self,
        images: Picture | Sequence[Picture],
        labels: Sequence[str],
        *,
        language: str | None = None,
        templates: Sequence[str] | None = None,
    ) -> list[list[Prediction]]:
        """Per picture, every label with its probability among the labels, best first.

        language puts the labels into the family's sentences of that language; templates are sentences of your own
        with {} for the label; with neither, labels stand as they are. Raises ImageError, TextError, InputError.
        """
        if language is not None and language not in self.languages:
            raise InputError(f"language {language!r} is not one of this model's: {list(self.languages)}")
        if templates is None:
            templates = self.family.templates.get(language or "", zeroshot.BARE)
        texts = self.encode_text(zeroshot.sentences(labels, templates))
        classes = zeroshot.ensemble(texts, len(templates))
        scores = np.float32(self.logit_scale) * (self.encode_image(_listed(images)) @ classes.T)
        return zeroshot.predictions(scores, labels)

    def save(self, folder: str | Path, layout: str = "cjkclip") -> Path:
        """Write weights, tokenizer and preprocessing into `folder`; `load(folder)` gives the same vectors, offline.

        layout: "cjkclip", "transformers", "openai", "open_clip", "open_clip_custom". Raises LayoutError if it cannot
        hold this model.
        """
        form, folder = find_layout(layout, self.params), Path(folder)
        tensors = layouts.write(form.layout, self.params)
        homes = {name: layouts.published(form.layout, name) for name in self.params.dtypes}
        dtypes = {home[0]: self.params.dtypes[name] for name, home in homes.items() if home is not None}
        folder.mkdir(parents=True, exist_ok=True)
        release = self.release.name if self.release else None
        parts = Parts(config=self.config, tokenizer=self.tokenizer, family=self.family.name, release=release)
        form.write(parts, folder)
        weights.write(folder / form.weights_file, weights.Tensors(tensors, dtypes=dtypes))
        return folder

    def _rules(self) -> Image:
        if self.config.image is None:
            raise FactsError(
                "no preprocessing is known for this checkpoint: put its preprocessor_config.json beside it"
            )
        return self.config.image


def _listed(images: Picture | Sequence[Picture]) -> list[Picture]:
    """One picture is a list of one."""
    if isinstance(images, Sequence) and not isinstance(images, str | bytes):
        return list(images)
    return [images]


def _unit(features: Features) -> Features:
    return features / np.linalg.norm(features, axis=1, keepdims=True)
