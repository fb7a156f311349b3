"""Decide whether half precision is exact enough for a model: measured once on built-in inputs, then cached.

"auto" is bf16 if the processor multiplies it in hardware and the features of every built-in image and sentence have a
cosine similarity of at least LEAST_COSINE to those in float32. Small models always use float32: they are fast anyway
(the bundled model takes a millisecond per image), so exact numbers matter more. The cache key consists of the config
and both ends of every parameter (all bytes would take a fifth of a second). Without a writable cache each start
measures again.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from cjkclip import engines, metrics
from cjkclip.config import Model
from cjkclip.fingerprint import ends
from cjkclip.machine import cache
from cjkclip.precision.judge import texts
from cjkclip.text import Tokenizer

if TYPE_CHECKING:
    from cjkclip.probes import Inputs

LEAST_COSINE = 0.9995
SMALL = 20_000_000  # parameters
MOST_RECORDS = 256  # files in the cache
Where = tuple[str, str]  # engine and device
_LOG = logging.getLogger(__name__)


def precision(
    config: Model, params: Mapping[str, np.ndarray], inputs: Callable[[], "Inputs"], *, engine: str, device: str
) -> str:
    """Return the precision that "auto" means for a model: the fast one of this machine, or "fp32"."""
    if sum(array.size for array in params.values()) < SMALL:
        return "fp32"
    fast = engines.fast(engine, device)
    if fast is None:
        return "fp32"
    record = cache.folder("precision") / f"{_key(config, params, (engine, device), fast)}.json"
    cosines = _cached(record)
    if cosines is None:
        _LOG.info("measuring how exact %s is for this model, once, which takes some seconds", fast)
        cosines = measure(config, params, inputs(), where=(engine, device), fast=fast)
        cache.remember(record, json.dumps(cosines).encode(), MOST_RECORDS)
    return fast if min(cosines.values()) >= LEAST_COSINE else "fp32"


def built_in(config: Model, tokenizer: Tokenizer | None) -> "Inputs":
    """Return the built-in inputs. They are imported here, since most starts do not need them."""
    from cjkclip import probes

    return probes.inputs(config, tokenizer)


def measure(
    config: Model, params: Mapping[str, np.ndarray], inputs: "Inputs", *, where: Where, fast: str
) -> dict[str, float]:
    """Return for each tower the lowest cosine similarity between features in fp32 and in `fast`."""
    features: dict[str, list[np.ndarray]] = {}
    for each in ("fp32", fast):  # one after the other, since both together would hold two copies of the weights
        engine = engines.build(config, params, engine=where[0], precision=each, device=where[1])
        if inputs.pixels is not None:
            features.setdefault("image", []).append(engine.image(inputs.pixels))
        if inputs.tokens is not None:
            features.setdefault("text", []).append(texts(engine, inputs.tokens))
        del engine
    return {tower: _least_cosine(*pair) for tower, pair in features.items()}


@np.errstate(invalid="ignore", over="ignore")
def _least_cosine(exact: np.ndarray, rough: np.ndarray) -> float:
    """Return the lowest cosine similarity of the rows of two matrices; NaN counts as 0."""
    return float(np.nan_to_num(metrics.cosine_similarities(exact, rough), nan=0.0).min(initial=1.0))


def _key(config: Model, params: Mapping[str, np.ndarray], where: Where, fast: str) -> str:
    digest = hashlib.sha256(repr((config, engines.machine(*where), fast)).encode())
    for name in sorted(params):
        digest.update(name.encode() + ends(params[name]))
    return digest.hexdigest()[:32]


def _cached(record: Path) -> dict[str, float] | None:
    try:
        data: Any = json.loads(cache.remembered(record) or b"")
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict) or not data or not set(cast(dict[str, Any], data)) <= {"image", "text"}:
        return None
    values = list(cast(dict[str, Any], data).values())
    return cast(dict[str, float], data) if all(isinstance(value, float) for value in values) else None
