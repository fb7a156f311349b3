"""The store: names and unit vectors in memory, searched exactly. n images, q queries, E joint width."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from cjkclip.arrays import Float, Float32, Float64
from cjkclip.checkpoints import weights
from cjkclip.errors import CheckpointError, ImageError, InputError, WeightsError
from cjkclip.image import Picture, listed

if TYPE_CHECKING:
    from cjkclip.clip import Clip

_KIND = {"format": "cjkclip-gallery", "version": "1"}
_PART = 4096  # names per call of json.dumps
_QUERIES = 32  # queries per matrix product, which holds the scores of all images for each

Name = str | os.PathLike[str]


@dataclass(frozen=True, kw_only=True)
class Hit:
    """An image in the answer: its name, its cosine similarity to the query, its position in the gallery."""

    name: str
    score: float
    index: int


class Gallery:
    """Images as names and unit vectors. `fingerprint`: that of the model that computed the vectors, or \"\"."""

    def __init__(self, names: Sequence[Name], vectors: Float[np.ndarray, "n E"], *, fingerprint: str = "") -> None:
        """Keep `names` and a float32 copy of `vectors`. Raises InputError if they are empty or do not match."""
        _require_fit(names, vectors)
        self.names = tuple(as_text(names))
        self.vectors: Float32[np.ndarray, "n E"] = np.array(vectors, dtype=np.float32)
        self.fingerprint = fingerprint

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def __repr__(self) -> str:
        """Return the sizes."""
        return f"<Gallery: {len(self)} pictures, {self.vectors.shape[1]} features>"

    @classmethod
    def from_pictures(
        cls,
        clip: "Clip",
        pictures: Picture | Sequence[Picture],
        names: Sequence[Name] | None = None,
        *,
        on_error: Callable[[int, ImageError], None] | None = None,
        progress: Callable[[int], None] | None = None,
        batch_size: int | None = None,
    ) -> "Gallery":
        """Encode `pictures`; one counts as a list of one. Names default to the paths, or to the position in the list.

        An image that cannot be read is passed to `on_error(index, error)` and left out; without `on_error`, ImageError
        names all of them. `progress(n)` is called after each batch with the number of images done. Raises InputError
        if no image is left.
        """
        pictures = listed(pictures)
        if names is None:
            names = [_name(i, picture) for i, picture in enumerate(pictures)]
        if len(names) != len(pictures):
            raise InputError(f"got {len(names)} names for {len(pictures)} images: pass one name per image")
        vectors = clip.encode_image(pictures, on_error=on_error, progress=progress, batch_size=batch_size)
        good = [int(i) for i in np.flatnonzero(np.isfinite(vectors).all(axis=1))]
        if not good:
            raise InputError(f"none of {len(pictures)} images could be read: pass at least one readable image")
        return cls([names[i] for i in good], vectors[good], fingerprint=clip.fingerprint)

    def search(self, queries: Float[np.ndarray, "q E"], k: int = 5, *, fingerprint: str = "") -> list[list[Hit]]:
        """Return the `k` best images for each query vector, best first; if scores are equal, the earlier image first.

        Scores are cosine similarities, summed in float64 and rounded to float32, so equal images have equal scores.
        A gallery with fewer than `k` images returns all. `fingerprint`: that of the queries' model. Raises InputError
        for queries that do not fit or k < 1, CheckpointError if the fingerprints differ.
        """
        self._check(queries, k, fingerprint)
        wide = queries.astype(np.float64)
        wide /= np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
        hits: list[list[Hit]] = []
        for start in range(0, len(wide), _QUERIES):
            part = wide[start : start + _QUERIES]
            rough = (self.vectors @ part.astype(np.float32).T).T
            hits += [self._best(row, query, min(k, len(self))) for row, query in zip(rough, part, strict=True)]
        return hits

    def search_texts(self, clip: "Clip", texts: Sequence[str], k: int = 5) -> list[list[Hit]]:
        """Return the `k` best images for each text. Raises CheckpointError if the gallery is of another model."""
        self._same_model(clip.fingerprint)
        return self.search(clip.encode_text(texts), k)

    def search_pictures(self, clip: "Clip", pictures: Picture | Sequence[Picture], k: int = 5) -> list[list[Hit]]:
        """Return the `k` best images for each image. Raises CheckpointError if the gallery is of another model."""
        self._same_model(clip.fingerprint)
        return self.search(clip.encode_image(pictures), k)

    def save(self, path: Path) -> None:
        """Write one safetensors file for `load`: `vectors`, and `names` as UTF-8 JSON. Raises WeightsError."""
        write_gallery(Path(path), self.names, self.vectors, self.fingerprint)

    @classmethod
    def load(cls, path: Path) -> "Gallery":
        """Read a file that `save` wrote. Raises CheckpointError if it does not exist or is not a gallery."""
        try:
            tensors = weights.read(Path(path))
        except WeightsError as error:
            raise CheckpointError(f"{path} is not a gallery file: {error}") from error
        metadata = tensors.metadata or {}
        if metadata.get("format") != _KIND["format"] or set(tensors) != {"vectors", "names"}:
            raise CheckpointError(
                f"{path} is not a gallery file; write one: cjkclip embed PICTURES --out NEW.safetensors"
            )
        if metadata.get("version") != _KIND["version"]:
            raise CheckpointError(
                f"{path} is a gallery of version {metadata.get('version')!r}, this cjkclip reads version 1: "
                "write it again with 'cjkclip embed', or run pip install -U cjkclip"
            )
        names = _names(path, tensors["names"])
        try:
            return cls(names, tensors["vectors"], fingerprint=metadata.get("fingerprint", ""))
        except InputError as error:
            raise CheckpointError(
                f"{path}: this gallery is damaged ({error}); write it again with 'cjkclip embed'"
            ) from error

    def _check(self, queries: np.ndarray, k: int, fingerprint: str) -> None:
        if fingerprint:
            self._same_model(fingerprint)
        width = self.vectors.shape[1]
        if queries.ndim != 2 or queries.shape[1] != width:
            raise InputError(
                f"got queries of shape {queries.shape}, expected (q, {width}): encode them with the gallery's model"
            )
        if not np.isfinite(queries).all():
            raise InputError("a query vector is not finite: remove the queries that could not be encoded")
        if k < 1:
            raise InputError(f"k is {k}, expected at least 1, for example k=5")

    def _same_model(self, fingerprint: str) -> None:
        if self.fingerprint and fingerprint != self.fingerprint:
            raise CheckpointError(
                f"this gallery has vectors of another model (fingerprint {self.fingerprint[:12]}, expected "
                f"{fingerprint[:12]}), which cannot be compared. Load that model, or run 'cjkclip embed' again"
            )

    def _best(self, rough: Float32[np.ndarray, "n"], query: Float64[np.ndarray, "E"], k: int) -> list[Hit]:
        """Return the `k` best by exact scores, among those that the float32 sums cannot exclude."""
        error = np.finfo(np.float32).eps * (len(query) + 2)  # bound for a sum of len(query) products of unit vectors
        left = np.flatnonzero(rough >= np.partition(rough, -k)[-k] - 2 * error)
        scores = (self.vectors[left].astype(np.float64) @ query).astype(np.float32)
        order = np.argsort(-scores, kind="stable")[:k]  # stable: equal scores stay in order
        return [Hit(name=self.names[left[i]], score=float(scores[i]), index=int(left[i])) for i in order]


def as_text(names: Sequence[Name]) -> list[str]:
    """Return names as strings, paths unchanged. Raises InputError for other types."""
    strings = [os.fspath(name) if isinstance(name, os.PathLike) else name for name in names]
    if odd := [name for name in strings if not isinstance(cast(object, name), str)]:
        raise InputError(f"got the name {odd[0]!r} of type {type(odd[0]).__name__}, expected a string or a path")
    return strings


def write_gallery(path: Path, names: Sequence[str], vectors: Float[np.ndarray, "n E"], fingerprint: str) -> None:
    """Write a file for `Gallery.load` without copying `vectors`. Raises InputError, WeightsError."""
    _require_fit(names, vectors)
    # In parts, because the lists that json builds for a text are large.
    parts = [json.dumps(names[i : i + _PART])[1:-1] for i in range(0, len(names), _PART)]
    text = np.frombuffer(f"[{', '.join(parts)}]".encode(), dtype=np.uint8)
    weights.write(path, {"vectors": vectors, "names": text}, {**_KIND, "fingerprint": fingerprint})


def _require_fit(names: Sequence[Name], vectors: Float[np.ndarray, "n E"]) -> None:
    if vectors.ndim != 2 or not len(vectors) or not vectors.shape[1]:
        raise InputError(f"got vectors of shape {vectors.shape}, expected (n, E) with n > 0: pass one row per image")
    if len(names) != len(vectors):
        raise InputError(f"got {len(names)} names for {len(vectors)} vectors: pass one name per vector")
    lengths = np.sqrt(np.einsum("ne,ne->n", vectors, vectors))  # no copy of a large gallery
    if not np.allclose(lengths, 1, atol=1e-3):
        worst = int(np.argmax(np.abs(np.nan_to_num(lengths, nan=np.inf) - 1)))
        raise InputError(
            f"vector {worst} has length {lengths[worst]:.4g}, expected unit vectors: divide each by its length"
        )


def _name(index: int, picture: Picture) -> str:
    return str(picture) if isinstance(picture, str | Path) else str(index)


def _names(path: Path, raw: np.ndarray) -> list[str]:
    try:
        names: object = json.loads(raw.tobytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: the names in this gallery are damaged; write it again with 'cjkclip embed'"
        ) from error
    if not isinstance(names, list):
        raise CheckpointError(f"{path}: the names in this gallery are damaged; write it again with 'cjkclip embed'")
    return [str(name) for name in names]  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
