"""What `cjkclip bench` measures of a model: settings, jobs, and the lines that come out. n items in one call.

The inputs are those of `cjkclip.probes`. A model without tokenizer or preprocessing gets random ids and noise, and one
with a single tower half of the jobs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Literal

import numpy as np

from cjkclip import engines, probes
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
    """How long to measure one job: so many calls, fewer when so many seconds are spent."""

    rounds: int
    budget: float
    products: int  # rounds of each matrix product


FULL, QUICK = Pace(rounds=20, budget=1.0, products=7), Pace(rounds=5, budget=0.2, products=2)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a model runs on."""

    engine: str
    precision: str
    device: str

    def __str__(self) -> str:
        """As people say it; the CPU goes without saying."""
        return f"{self.engine} {self.precision}" + ("" if self.device == "cpu" else f" on {self.device}")


EXACT = Setting(engine="openvino", precision="fp32", device="cpu")  # the others are compared with it


@dataclass(frozen=True, kw_only=True)
class Job:
    """One thing to measure."""

    kind: Kind
    name: str
    items: int
    call: Callable[[], object]
    flops: int | None = None  # of one call; None where nothing is multiplied


@dataclass(frozen=True, kw_only=True)
class BenchRow:
    """One thing that was measured. `seconds` is the median of one call."""

    kind: Kind
    name: str
    items: int
    seconds: float
    flops: int | None

    @property
    def rate(self) -> float:
        """Items a second."""
        return self.items / self.seconds

    @property
    def gflops(self) -> float | None:
        """GFLOP/s, of the work that is needed."""
        return None if self.flops is None else self.flops / self.seconds / 1e9


@dataclass(frozen=True, kw_only=True)
class Distance:
    """How far unit vectors are from those of `EXACT`."""

    difference: float  # the largest of any number
    cosine: float  # the least of any vector


@dataclass(kw_only=True)
class Timing:
    """Everything about one setting."""

    setting: Setting
    limit: float | None  # GFLOP/s of matrix products
    rows: list[BenchRow] = field(default_factory=list[BenchRow])
    distances: dict[str, Distance] = field(default_factory=dict[str, Distance])  # by tower: "image", "text"

    def share(self, row: BenchRow) -> float | None:
        """Of the limit."""
        return None if row.gflops is None or self.limit is None else row.gflops / self.limit


def settings(engine: str, *, int8: bool = False) -> list[Setting]:
    """`EXACT`, then what else this machine has: of one engine, or of all with "auto". NumPy is no setting.

    int8 only if it is asked for, since making it takes minutes; bf16 only where the processor multiplies it. Raises
    EngineError, MissingDependencyError.
    """
    if engine == "auto":
        names = [name for name in ("openvino", "torch") if find_spec(name) is not None]
    else:
        need(engine, extra=engine)
        names = [engine]
    found = [EXACT]
    for name in names:
        device = engines.choose(name, "fp32")[2]
        half = device != "cpu" or engines.fast("openvino") == "bf16"
        wanted = {"fp32", *(["bf16"] if half else []), *(["int8"] if int8 else [])}
        for precision in engines.ENGINES[name][1]:
            if precision in wanted:
                found.append(Setting(engine=name, precision=precision, device=device))
    return list(dict.fromkeys(found))


def timed(job: Job, pace: Pace) -> BenchRow:
    """Do it."""
    [seconds] = medians([job.call], pace.rounds, pace.budget)
    return BenchRow(kind=job.kind, name=job.name, items=job.items, seconds=seconds, flops=job.flops)


def tower_jobs(clip: Clip) -> list[Job]:
    """Prepared pixels to vectors, and texts to vectors."""
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
        asked = captions(clip.tokenizer)
        masks = clip.tokenizer(asked).mask
        calls = [partial(clip.encode_text, asked[:n]) for n in (1, TEXTS)]
    else:
        ids = np.resize(inputs.tokens.ids, (TEXTS, inputs.tokens.ids.shape[1]))
        masks = np.ones_like(ids)
        calls = [partial(clip.encode_tokens, Tokens(ids=ids[:n], mask=masks[:n], truncated=())) for n in (1, TEXTS)]
    flops = [work.text(clip.config, int(length)) for length in masks.sum(axis=1)]
    for n, name, call in zip((1, TEXTS), ("1 query", f"{TEXTS} captions"), calls, strict=True):
        jobs.append(Job(kind="text", name=name, items=n, call=call, flops=sum(flops[:n])))
    return jobs


def captions(tokenizer: Tokenizer) -> list[str]:
    """`TEXTS` captions, all different; those that a tokenizer would cut only where there are no others."""
    offered = probes.captions(4 * TEXTS)
    cut = set(tokenizer(offered).truncated)
    return [offered[i] for i in sorted(range(len(offered)), key=cut.__contains__)][:TEXTS]


def plain_jobs(clip: Clip) -> list[Job]:
    """What no engine takes part in: texts to ids, and a JPEG file to pixels on one core."""
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
    """Unit vectors of the built-in inputs, by tower. Raises CheckpointError if they are no numbers."""
    inputs, found = probes.inputs(clip.config, clip.tokenizer), dict[str, np.ndarray]()
    if inputs.pixels is not None:
        found["image"] = clip.encode_pixels(inputs.pixels)
    if inputs.tokens is not None:
        found["text"] = clip.encode_tokens(inputs.tokens)
    if bad := [tower for tower, rows in found.items() if not np.isfinite(rows).all()]:
        raise CheckpointError(
            f"the {bad[0]} tower gives no numbers: 'cjkclip doctor' tells what is wrong with the model"
        )
    return found


def distances(found: dict[str, np.ndarray], exact: dict[str, np.ndarray]) -> dict[str, Distance]:
    """Per tower, how far the one is from the other."""
    return {tower: _distance(one.astype(np.float64), exact[tower].astype(np.float64)) for tower, one in found.items()}


def _distance(one: np.ndarray, exact: np.ndarray) -> Distance:
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(exact, axis=1)
    return Distance(
        difference=float(np.abs(one - exact).max()), cosine=float(((one * exact).sum(axis=1) / norms).min())
    )
