"""The measurements of `cjkclip bench`: settings, jobs, and rows of results. n items in one call.

The inputs are those of `cjkclip.probes`. A model without tokenizer or preprocessing gets random ids and noise; a model
with one tower runs only the jobs of that tower.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Literal

import numpy as np

from cjkclip import engines, metrics, probes
from cjkclip.clip import Clip
from cjkclip.errors import CheckpointError
from cjkclip.image import load_pixels
from cjkclip.need import need
from cjkclip.speed import work
from cjkclip.speed.clock import medians
from cjkclip.text import Tokenizer, Tokens

Kind = Literal["image", "text", "tokenise", "decode"]
PICTURES, TEXTS, MANY_TEXTS = (1, 8, 32), 128, 1024
PHOTOGRAPH, MEGAPIXELS = (1600, 1200), "2 MP"


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How long to measure one job: `rounds` calls, and none starts after `budget` seconds."""

    rounds: int
    budget: float
    products: int  # rounds of each matrix product


FULL, QUICK = Pace(rounds=20, budget=1.0, products=7), Pace(rounds=5, budget=0.2, products=2)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Engine, precision and device of a model."""

    engine: str
    precision: str
    device: str

    def __str__(self) -> str:
        """Return engine and precision, and the device if it is not the CPU."""
        return f"{self.engine} {self.precision}" + ("" if self.device == "cpu" else f" on {self.device}")


EXACT = Setting(engine="openvino", precision="fp32", device="cpu")  # the reference for the vectors of other settings


@dataclass(frozen=True, kw_only=True)
class Job:
    """One measurement."""

    kind: Kind
    name: str
    items: int
    call: Callable[[], object]
    flops: int | None = None  # of one call; None if nothing is multiplied


@dataclass(frozen=True, kw_only=True)
class BenchRow:
    """The result of one job. `seconds` is the median of one call."""

    kind: Kind
    name: str
    items: int
    seconds: float
    flops: int | None

    @property
    def rate(self) -> float:
        """Items per second."""
        return self.items / self.seconds

    @property
    def gflops(self) -> float | None:
        """GFLOP/s, counted without extra work of the engine."""
        return None if self.flops is None else self.flops / self.seconds / 1e9


@dataclass(frozen=True, kw_only=True)
class Distance:
    """The distance of unit vectors from those of `EXACT`."""

    difference: float  # the largest absolute difference
    cosine: float  # the lowest cosine similarity


@dataclass(kw_only=True)
class Timing:
    """All results of one setting."""

    setting: Setting
    limit: float | None  # GFLOP/s of matrix products
    rows: list[BenchRow] = field(default_factory=list[BenchRow])
    distances: dict[str, Distance] = field(default_factory=dict[str, Distance])  # by tower: "image", "text"

    def share(self, row: BenchRow) -> float | None:
        """Return the share of the limit that a row reaches."""
        return None if row.gflops is None or self.limit is None else row.gflops / self.limit


def settings(engine: str, *, int8: bool = False) -> list[Setting]:
    """Return `EXACT`, then the other settings of this machine, of one engine or with "auto" of all except NumPy.

    int8 is included only on request, since quantising takes minutes; bf16 only if the processor multiplies it in
    hardware. Raises EngineError, MissingDependencyError.
    """
    if engine == "auto":
        names = [name for name in ("openvino", "torch") if find_spec(name) is not None]
    else:
        need(engine, extra=engine)
        names = [engine]
    available = [EXACT]
    for name in names:
        device = engines.choose(name, "fp32")[2]
        half = device != "cpu" or engines.fast("openvino") == "bf16"
        precisions = {"fp32", *(["bf16"] if half else []), *(["int8"] if int8 else [])}
        for precision in engines.ENGINES[name][1]:
            if precision in precisions:
                available.append(Setting(engine=name, precision=precision, device=device))
    return list(dict.fromkeys(available))


def timed(job: Job, pace: Pace) -> BenchRow:
    """Measure one job."""
    [seconds] = medians([job.call], pace.rounds, pace.budget)
    return BenchRow(kind=job.kind, name=job.name, items=job.items, seconds=seconds, flops=job.flops)


def tower_jobs(clip: Clip) -> list[Job]:
    """Return the jobs of the towers: preprocessed pixels to vectors, and texts to vectors."""
    inputs, jobs = probes.inputs(clip.config, clip.tokenizer), list[Job]()
    if inputs.pixels is not None:
        for n in PICTURES:
            pixels = np.resize(inputs.pixels, (n, *inputs.pixels.shape[1:]))
            name = f"{n} picture{'s' if n > 1 else ''}"
            call, flops = partial(clip.encode_pixels, pixels), n * work.image(clip.config)
            jobs.append(Job(kind="image", name=name, items=n, call=call, flops=flops))
    if inputs.tokens is None:
        return jobs
    if clip.tokenizer is not None:
        texts = captions(clip.tokenizer)
        masks = clip.tokenizer(texts).mask
        calls = [partial(clip.encode_text, texts[:n]) for n in (1, TEXTS)]
    else:
        ids = np.resize(inputs.tokens.ids, (TEXTS, inputs.tokens.ids.shape[1]))
        masks = np.ones_like(ids)
        calls = [partial(clip.encode_tokens, Tokens(ids=ids[:n], mask=masks[:n], truncated=())) for n in (1, TEXTS)]
    flops = [work.text(clip.config, int(length)) for length in masks.sum(axis=1)]
    for n, name, call in zip((1, TEXTS), ("1 query", f"{TEXTS} captions"), calls, strict=True):
        jobs.append(Job(kind="text", name=name, items=n, call=call, flops=sum(flops[:n])))
    return jobs


def captions(tokenizer: Tokenizer) -> list[str]:
    """Return `TEXTS` different captions; those that the tokenizer would cut are used last."""
    candidates = probes.captions(4 * TEXTS)
    cut = set(tokenizer(candidates).truncated)
    return [candidates[i] for i in sorted(range(len(candidates)), key=cut.__contains__)][:TEXTS]


def plain_jobs(clip: Clip) -> list[Job]:
    """Return the jobs that need no engine: texts to ids, and a JPEG file to pixels on one core."""
    jobs: list[Job] = []
    if clip.tokenizer is not None:
        call = partial(clip.tokenizer, probes.captions(MANY_TEXTS))
        jobs.append(Job(kind="tokenise", name=f"tokenise {MANY_TEXTS:,}", items=MANY_TEXTS, call=call))
    if clip.config.vision is not None and clip.config.image is not None:
        file = probes.photograph(*PHOTOGRAPH)
        for exact in (True, False):
            call = partial(load_pixels, [file], clip.config.image, exact=exact)
            name = f"JPEG, {MEGAPIXELS}, {'exact' if exact else 'fast'}"
            jobs.append(Job(kind="decode", name=name, items=1, call=call))
    return jobs


def vectors(clip: Clip) -> dict[str, np.ndarray]:
    """Return unit vectors of the built-in inputs, by tower. Raises CheckpointError if they are not finite."""
    inputs, features = probes.inputs(clip.config, clip.tokenizer), dict[str, np.ndarray]()
    if inputs.pixels is not None:
        features["image"] = clip.encode_pixels(inputs.pixels)
    if inputs.tokens is not None:
        features["text"] = clip.encode_tokens(inputs.tokens)
    if bad := [tower for tower, rows in features.items() if not np.isfinite(rows).all()]:
        raise CheckpointError(
            f"the {bad[0]} tower returns values that are not finite: run 'cjkclip doctor MODEL' to find the cause"
        )
    return features


def distances(features: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> dict[str, Distance]:
    """Return the distance of both sets of vectors, by tower."""
    return {
        tower: _distance(one.astype(np.float64), exact[tower].astype(np.float64)) for tower, one in features.items()
    }


def _distance(one: np.ndarray, exact: np.ndarray) -> Distance:
    return Distance(
        difference=float(np.abs(one - exact).max()), cosine=float(metrics.cosine_similarities(one, exact).min())
    )
