"""Checks of a model for `cjkclip doctor`. Each returns a status and a finding, or raises a CjkclipError.

A note reports an unusual value that may be right; a failure means that the numbers are not reliable. Both give advice.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import cjkclip
from cjkclip.arrays import is_float
from cjkclip.cli.checks import SAMPLES, Result
from cjkclip.config import Bert, Text, Vit
from cjkclip.engines import ROUNDED
from cjkclip.errors import CheckpointError, EngineError
from cjkclip.precision.half import LEAST_COSINE
from cjkclip.precision.int8 import LEAST_CENTRED

Probe = Callable[[], Result]

_CLOSE = 1e-4  # engines agree on unit vectors to about 1e-6; an engine that differs by more than this is broken
_CAP = 4.61  # training caps the logarithm of logit_scale at ln 100 = 4.6052, slightly more in half precision
_ABSURD = 10.0  # exp(10) = 22,026: a larger value is the scale itself, not its logarithm
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
# The activation that weights of these names were trained with, from open_clip 3.3.0 (pretrained.py) and the authors'
# own code. A name never sets the activation; a note reports it if the config differs. The first matching row counts.
_TRAINED = (
    (r"quick-?_?gelu", "quick_gelu"),
    (r"laion2b|datacomp|commonpool", "gelu"),
    (r"(b[-_ ]?|patch)32.*laion400m|metaclip|dfn[25]b|(rn50|rn101).*yfcc|rn50.*cc12m", "quick_gelu"),
    (r"laion400m", "gelu"),
    (r"openai|chinese-clip|clip_cn_|clip-vit-base-patch32-ko", "quick_gelu"),
)


def model_checks(
    model: str, load: Callable[[str, str], "cjkclip.Clip"], engine: str, precision: str
) -> Iterator[tuple[str, Probe]]:
    """Load the model, check its parts, encode, and compare with the NumPy engine, the reference.

    `load` takes the names of an engine and of a precision.
    """
    exact = ROUNDED if precision == ROUNDED else "fp32"  # precision of the NumPy engine
    clips: list[cjkclip.Clip] = []

    def loads() -> Result:
        start = time.perf_counter()
        clips.append(load(engine, precision))
        clip, seconds = clips[0], time.perf_counter() - start
        return "ok", f"{clip.family.name}, languages {' '.join(clip.languages)}, {seconds:.1f} s"

    yield "model loads", loads
    if not clips:
        return
    clip = clips[0]
    yield "parameters", lambda: parameters(clip)
    yield "stored as", lambda: stored(clip)
    yield "weights finite", lambda: finite(clip)
    yield "activation", lambda: activation(model, clip)
    yield "logit scale", lambda: scale(clip)
    yield "files", lambda: files(clip)
    if clip.config.text is not None and clip.tokenizer is not None:
        yield "texts encode", lambda: _encodes(lambda: clip.encode_text(list(SAMPLES.values())))
    if clip.config.vision is not None and clip.config.image is not None:
        yield "pictures encode", lambda: _encodes(lambda: clip.encode_image([_picture()]))
        yield "engine agrees", lambda: _agrees(clip, load("numpy", exact))


def parameters(clip: "cjkclip.Clip") -> Result:
    """Count the parameters of each tower and in total, without running statistics."""
    counts = Counter[str]()
    for name, array in clip.params.items():
        if not name.endswith(_STATISTICS):
            counts[name.partition(".")[0]] += array.size
    towers = {"vision": "image", "text": "text"}
    parts = ", ".join(f"{what} {counts[part]:,}" for part, what in towers.items() if counts[part])
    return "ok", f"{counts.total():,} ({parts})"


def stored(clip: "cjkclip.Clip") -> Result:
    """Return the element types in the file. Half precision is computed in single precision."""
    counts = Counter(array.dtype.name for name, array in clip.params.items() if not name.endswith(_STATISTICS))
    finding = ", ".join(f"{kind} in {count} tensors" for kind, count in counts.most_common())
    if any(kind not in ("float32", "float16", "bfloat16") for kind in counts):
        return "note", f"{finding}: expected float32, float16 or bfloat16; convert the other tensors first"
    return "ok", finding


def finite(clip: "cjkclip.Clip") -> Result:
    """Check that every parameter is finite. Raises CheckpointError."""
    bad = [name for name, array in clip.params.items() if is_float(array) and not np.isfinite(array).all()]
    if bad:
        raise CheckpointError(
            f"{len(bad)} of {len(clip.params)} tensors contain infinity or NaN (first: {bad[0]}): download the file "
            "again; if it equals the published one, its training or conversion to half precision failed"
        )
    return "ok", f"all {len(clip.params)} tensors"


def activation(model: str, clip: "cjkclip.Clip") -> Result:
    """Compare the activation of the towers with the one that the checkpoint's name suggests."""
    vision, text = clip.config.vision, clip.config.text
    acts = {"vision.act": vision.act} if isinstance(vision, Vit) else {}
    acts |= {"text.act": text.act} if isinstance(text, Text) else {}
    every = acts | ({"text.act": text.act} if isinstance(text, Bert) else {})
    finding = ", ".join(f"{name} {act}" for name, act in every.items()) or "a ResNet has no choice of activation"
    place = Path(model)
    name = " ".join(place.resolve().parts[-2:]) if place.exists() else model
    hint = next((act for pattern, act in _TRAINED if re.search(pattern, name, re.IGNORECASE)), None)
    wrong = {name: hint for name, act in acts.items() if hint not in (None, act)}
    if wrong:
        return "note", (
            f"{finding}, but weights of the name {name!r} were trained with {hint}. The wrong activation costs "
            f"accuracy and raises no error. If the name is right: load(..., facts={wrong!r})"
        )
    return "ok", finding


def scale(clip: "cjkclip.Clip") -> Result:
    """Check the value of logit_scale. Raises CheckpointError if it is not plausible."""
    if clip.config.vision is None or clip.config.text is None:
        return "ok", "not used by a single tower"
    log = float(np.log(clip.logit_scale)) if clip.logit_scale > 0 else -np.inf
    if not -_ABSURD < log < _ABSURD:
        raise CheckpointError(
            f"logit_scale is {log:.4g}, so cosines are multiplied by {clip.logit_scale:.4g}: the file seems to contain "
            "the scale itself, not its logarithm. Features are not affected; probabilities are useless"
        )
    finding = f"{clip.logit_scale:.4g} (logarithm {log:.4f})"
    if log > _CAP:
        return (
            "note",
            f"{finding}: training caps it at 100, so the file may have been changed; probabilities will be extreme",
        )
    return "ok", finding


def files(clip: "cjkclip.Clip") -> Result:
    """List the side files that are missing beside the weights."""
    missing: list[str] = []
    if clip.config.text is not None and clip.tokenizer is None:
        missing.append("no tokenizer: put tokenizer.json, vocab.json and merges.txt, or vocab.txt beside the weights")
    if clip.config.vision is not None and clip.config.image is None:
        missing.append("no preprocessing: put preprocessor_config.json beside the weights")
    if clip.config.vision is None:
        missing.append("no image tower: pass the one it was trained with, --image-tower MODEL")
    if clip.config.text is None:
        missing.append("no text tower: load the complete model to search by text")
    return ("note", "; ".join(missing)) if missing else ("ok", "weights, tokenizer and preprocessing")


@np.errstate(all="ignore")  # values that are not finite are reported below
def _encodes(run: Callable[[], np.ndarray]) -> Result:
    run()  # the first call builds the engine
    start = time.perf_counter()
    vectors = run()
    latency = (time.perf_counter() - start) * 1000 / len(vectors)
    if not np.isfinite(vectors).all():
        raise CheckpointError(
            "the features are not finite: see the check 'weights finite'; if it is ok, report a bug and name the model"
        )
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
        raise CheckpointError(
            "the vectors do not have unit length: the weights are damaged or belong to another layout"
        )
    return "ok", f"{vectors.shape[1]} numbers each, {latency:.1f} ms"


@np.errstate(all="ignore")
def _agrees(clip: "cjkclip.Clip", oracle: "cjkclip.Clip") -> Result:
    ours, theirs = (each.encode_image([_picture()])[0] for each in (clip, oracle))
    apart, cosine = float(np.abs(ours - theirs).max()), float(ours @ theirs)
    name = f"{clip.engine.name} {clip.engine.precision}"
    least = LEAST_CENTRED if clip.engine.precision == "int8" else LEAST_COSINE
    close = apart < _CLOSE if clip.engine.precision == "fp32" else cosine >= least
    if not close:
        instead = "--engine numpy" if clip.engine.precision == "fp32" else "--precision fp32"
        raise EngineError(f"{name} is {apart:.1e} away from the NumPy engine, cosine {cosine:.5f}: pass {instead}")
    return "ok", f"{name} and numpy differ by {apart:.0e}, cosine {cosine:.5f}"


def _picture() -> np.ndarray:
    """Return the same coloured noise at every call."""
    return np.random.default_rng(0).integers(0, 256, size=(96, 96, 3), dtype=np.uint8)
