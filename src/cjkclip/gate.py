"""Is half precision good enough for a model? Asked once of built-in inputs, and remembered.

"auto" computes in bfloat16 where the processor multiplies it in hardware and the features of every built-in picture
and sentence keep a cosine of LEAST_COSINE to those in float32. Small models stay in float32: there the
exact numbers are worth more than the time (the bundled one takes a millisecond a picture). What was measured lies in
the cache under a key made from the config and both ends of every parameter (all of them would take a fifth of a
second); without a cache that can be written it is measured at each start.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cjkclip import engines
from cjkclip.config import Model
from cjkclip.fingerprint import ends
from cjkclip.machine import cache
from cjkclip.text import Tokenizer, Tokens
from cjkclip.text.batches import by_length

if TYPE_CHECKING:
    from cjkclip.probes import Inputs

LEAST_COSINE = 0.9995
SMALL = 20_000_000  # parameters
MOST_RECORDS = 256  # files kept
Where = tuple[str, str]  # engine and device
_LOG = logging.getLogger(__name__)


def precision(
    config: Model, params: Mapping[str, np.ndarray], inputs: Callable[[], "Inputs"], *, engine: str, device: str
) -> str:
    """The precision that "auto" stands for: the fast one of this machine, or "fp32"."""
    if sum(array.size for array in params.values()) < SMALL:
        return "fp32"
    fast = engines.fast(engine, device)
    if fast is None:
        return "fp32"
    record = cache.folder("precision") / f"{_key(config, params, (engine, device), fast)}.json"
    cosines = _remembered(record)
    if cosines is None:
        _LOG.info("looking once at how exact %s is on this model, which takes some seconds", fast)
        cosines = measure(config, params, inputs(), where=(engine, device), fast=fast)
        cache.remember(record, json.dumps(cosines).encode(), MOST_RECORDS)
    return fast if min(cosines.values()) >= LEAST_COSINE else "fp32"


def built_in(config: Model, tokenizer: Tokenizer | None) -> "Inputs":
    """The inputs that a model is asked with, imported when it is: most starts do not need them."""
    from cjkclip import probes

    return probes.inputs(config, tokenizer)


def measure(
    config: Model, params: Mapping[str, np.ndarray], inputs: "Inputs", *, where: Where, fast: str
) -> dict[str, float]:
    """The least cosine of a tower's features in two precisions, by tower."""
    features: dict[str, list[np.ndarray]] = {}
    for each in ("fp32", fast):  # one after the other: both at once would hold two copies of the weights
        built = engines.build(config, params, engine=where[0], precision=each, device=where[1])
        if inputs.pixels is not None:
            features.setdefault("image", []).append(built.image(inputs.pixels))
        if inputs.tokens is not None:
            features.setdefault("text", []).append(texts(built, inputs.tokens))
        del built
    return {tower: _least_cosine(*pair) for tower, pair in features.items()}


def texts(built: engines.Engine, tokens: Tokens) -> np.ndarray:
    """Features of texts, those of a like length together, as `Clip.encode_text` asks for them; in their own order."""
    found: dict[int, np.ndarray] = {}
    for rows in by_length(tokens.mask, 64):
        used = int(tokens.mask[rows].sum(axis=1).max())
        found |= zip(rows.tolist(), built.text(tokens.ids[rows, :used], tokens.mask[rows, :used]), strict=True)
    return np.stack([found[row] for row in range(len(found))])


@np.errstate(invalid="ignore", over="ignore")
def _least_cosine(exact: np.ndarray, rough: np.ndarray) -> float:
    """Of the rows of two matrices; 0 where a feature is no number."""
    norms = np.linalg.norm(exact, axis=1) * np.linalg.norm(rough, axis=1)
    cosines = (exact.astype(np.float64) * rough).sum(axis=1) / np.maximum(norms, 1e-30)
    return float(np.nan_to_num(cosines, nan=0.0).min(initial=1.0))


def _key(config: Model, params: Mapping[str, np.ndarray], where: Where, fast: str) -> str:
    digest = hashlib.sha256(repr((config, engines.machine(*where), fast)).encode())
    for name in sorted(params):
        digest.update(name.encode() + ends(params[name]))
    return digest.hexdigest()[:32]


def _remembered(record: Path) -> dict[str, float] | None:
    try:
        found: Any = json.loads(cache.remembered(record) or b"")
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not found or not set(cast(dict[str, Any], found)) <= {"image", "text"}:
        return None
    values = list(cast(dict[str, Any], found).values())
    return cast(dict[str, float], found) if all(isinstance(value, float) for value in values) else None
