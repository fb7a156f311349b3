"""What `cjkclip doctor` asks of a model. Each check returns how it ended and what it found, or raises a CjkclipError.

A note is something unusual that may be right; a failure is a model whose numbers cannot be trusted. Both say what
to do.
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

Check = Callable[[], Result]

_CLOSE = 1e-4  # engines agree on unit vectors to about 1e-6; far more than this is a broken engine
_CAP = 4.61  # training caps the scale's logarithm at ln 100 = 4.6052, a little more in half precision
_ABSURD = 10.0  # e to this is 22,026: the file holds the scale itself, not its logarithm
_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
# What weights of these names were trained with, as open_clip 3.3.0 (pretrained.py) and the authors' own code say.
# A name decides nothing: it makes a hint where a config says otherwise. The first row that fits counts.
_TRAINED = (
    (r"quick-?_?gelu", "quick_gelu"),
    (r"laion2b|datacomp|commonpool", "gelu"),
    (r"(b[-_ ]?|patch)32.*laion400m|metaclip|dfn[25]b|(rn50|rn101).*yfcc|rn50.*cc12m", "quick_gelu"),
    (r"laion400m", "gelu"),
    (r"openai|chinese-clip|clip_cn_|clip-vit-base-patch32-ko", "quick_gelu"),
)


def model_checks(
    model: str, load: Callable[[str, str], "cjkclip.Clip"], engine: str, precision: str
) -> Iterator[tuple[str, Check]]:
    """Load the model, look at its parts, encode, and compare with the NumPy engine, which is written to be right.

    `load` takes the names of an engine and of a precision.
    """
    exact = ROUNDED if precision == ROUNDED else "fp32"  # of the NumPy engine
    loaded: list[cjkclip.Clip] = []

    def loads() -> Result:
        start = time.perf_counter()
        loaded.append(load(engine, precision))
        clip, took = loaded[0], time.perf_counter() - start
        return "ok", f"{clip.family.name}, languages {' '.join(clip.languages)}, {took:.1f} s"

    yield "model loads", loads
    if not loaded:
        return
    clip = loaded[0]
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
    """How many parameters, in each tower and in all; running statistics are none."""
    counts = Counter[str]()
    for name, array in clip.params.items():
        if not name.endswith(_STATISTICS):
            counts[name.partition(".")[0]] += array.size
    towers = {"vision": "image", "text": "text"}
    parts = ", ".join(f"{what} {counts[part]:,}" for part, what in towers.items() if counts[part])
    return "ok", f"{counts.total():,} ({parts})"


def stored(clip: "cjkclip.Clip") -> Result:
    """The element types in the file. Half precision is computed in single precision, and said to be rounded."""
    shown = Counter(array.dtype.name for name, array in clip.params.items() if not name.endswith(_STATISTICS))
    found = ", ".join(f"{kind} in {count} tensors" for kind, count in shown.most_common())
    if any(kind not in ("float32", "float16", "bfloat16") for kind in shown):
        return "note", f"{found}: weights are float32, float16 or bfloat16; convert the others before they are used"
    return "ok", found


def finite(clip: "cjkclip.Clip") -> Result:
    """No parameter is infinite or not a number. Raises CheckpointError that names those that are."""
    bad = [name for name, array in clip.params.items() if is_float(array) and not np.isfinite(array).all()]
    if bad:
        raise CheckpointError(
            f"{len(bad)} of {len(clip.params)} tensors hold infinities or no numbers (first: {bad[0]}): fetch the "
            "file again; if it is as published, its training or its conversion to half precision went wrong"
        )
    return "ok", f"all {len(clip.params)} tensors"


def activation(model: str, clip: "cjkclip.Clip") -> Result:
    """What the towers compute with, beside what the checkpoint's name suggests."""
    vision, text = clip.config.vision, clip.config.text
    acts = {"vision.act": vision.act} if isinstance(vision, Vit) else {}
    acts |= {"text.act": text.act} if isinstance(text, Text) else {}
    every = acts | ({"text.act": text.act} if isinstance(text, Bert) else {})
    found = ", ".join(f"{name} {act}" for name, act in every.items()) or "a ResNet has none to choose"
    place = Path(model)
    name = " ".join(place.resolve().parts[-2:]) if place.exists() else model
    trained = next((act for pattern, act in _TRAINED if re.search(pattern, name, re.IGNORECASE)), None)
    wrong = {name: trained for name, act in acts.items() if trained not in (None, act)}
    if wrong:
        return "note", (
            f"{found}, but weights of the name {name!r} were trained with {trained}. The wrong one costs accuracy and "
            f"is never noticed otherwise. If the name is right: load(..., facts={wrong!r})"
        )
    return "ok", found


def scale(clip: "cjkclip.Clip") -> Result:
    """What multiplies a cosine. Raises CheckpointError where it cannot be what it should be."""
    if clip.config.vision is None or clip.config.text is None:
        return "ok", "a single tower needs none"
    log = float(np.log(clip.logit_scale)) if clip.logit_scale > 0 else -np.inf
    if not -_ABSURD < log < _ABSURD:
        raise CheckpointError(
            f"logit_scale is {log:.4g}, so that cosines are multiplied by {clip.logit_scale:.4g}: the file seems to "
            "hold the scale itself, not its logarithm. Features are not touched by it; probabilities are useless"
        )
    found = f"{clip.logit_scale:.4g} (logarithm {log:.4f})"
    if log > _CAP:
        return "note", f"{found}: training caps it at 100, so the file may be changed; probabilities will be extreme"
    return "ok", found


def files(clip: "cjkclip.Clip") -> Result:
    """What lies beside the weights, or does not."""
    lacking: list[str] = []
    if clip.config.text is not None and clip.tokenizer is None:
        lacking.append("no tokenizer: put tokenizer.json, vocab.json and merges.txt, or vocab.txt beside the weights")
    if clip.config.vision is not None and clip.config.image is None:
        lacking.append("no preprocessing: put preprocessor_config.json beside the weights")
    if clip.config.vision is None:
        lacking.append("no image tower: name the one it was trained against with --image-tower")
    if clip.config.text is None:
        lacking.append("no text tower: for search by words load the whole model")
    return ("note", "; ".join(lacking)) if lacking else ("ok", "weights, tokenizer and preprocessing")


@np.errstate(all="ignore")  # what is not finite is found below, and said in words
def _encodes(run: Callable[[], np.ndarray]) -> Result:
    run()  # the first call builds the engine
    start = time.perf_counter()
    vectors = run()
    took = (time.perf_counter() - start) * 1000 / len(vectors)
    if not np.isfinite(vectors).all():
        raise CheckpointError("the features are not finite: see 'weights finite'; if those are, report the model")
    if not np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3):
        raise CheckpointError("the vectors are not of unit length: the weights are damaged, or not for this layout")
    return "ok", f"{vectors.shape[1]} numbers each, {took:.1f} ms"


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
    """The same coloured noise each time."""
    return np.random.default_rng(0).integers(0, 256, size=(96, 96, 3), dtype=np.uint8)
