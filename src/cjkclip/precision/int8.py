"""precision="int8": quantise the towers of a model, judge the result, and cache it. n inputs, E joint width.

Calibration on the wrong inputs ruins a model while its plain cosine similarities still look perfect. So the towers are
calibrated on real images and sentences and judged on others: by the cosine similarity of centred features, and, if the
model is trained, by recall at 10 of drawings by name. A model that fails is quantised again without its worst layers
and then rejected. A model without preprocessing or tokenizer cannot be quantised, since only noise could calibrate it.
"""

import contextlib
import hashlib
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cjkclip import engines
from cjkclip.config import Model
from cjkclip.errors import EngineError, EngineWarning
from cjkclip.fingerprint import digest, file_digest
from cjkclip.machine import cache
from cjkclip.machine.mapped import MappedFile
from cjkclip.machine.threads import on_every_core
from cjkclip.precision.judge import LEAST_CENTRED, MOST_LOST, Judged, features, in_words, judge, passes
from cjkclip.precision.shown import CalibrationSource, Shown
from cjkclip.probes import Inputs

if TYPE_CHECKING:
    from cjkclip.engines.openvino.int8 import Int8Engine, Quantised, Sample

LEFT_ALONE = (0, 4, 12)  # layers of the worse tower that are not quantised, for each attempt
MOST_MODELS = 4  # in the cache; a ViT-B/16 with a base BERT takes 0.3 GB
FORM = 2  # version of the cached files; raised if they, the calibration or the judgement change
Params = Mapping[str, np.ndarray]
_LOG = logging.getLogger(__name__)


def engine(config: Model, params: Params, source: CalibrationSource) -> "Int8Engine":
    """Build the int8 engine of a model, from the cache if possible; else quantise and judge it, which takes minutes.

    Raises EngineError if it does not pass, FactsError without preprocessing or tokenizer, MissingDependencyError
    without NNCF. EngineWarning reports a processor on which int8 is not faster.
    """
    from cjkclip.engines.openvino.int8 import Int8Engine, overflows

    if overflows():
        warnings.warn(
            "this processor has no instruction for int8, so int8 is about as fast as fp32 here and less exact. "
            "Use load(..., precision='auto')",
            EngineWarning,
            stacklevel=2,
        )
    folder = cache.folder("int8", _key(config, params, source))
    quantised = _read(folder)
    if quantised is None:
        _LOG.info("quantising this model to int8, which takes minutes, once; the result is cached in %s", folder.parent)
        new = _quantise(config, params, source.shown(config))
        _write(folder, new)
        quantised = _read(folder) or new
    return Int8Engine(config, params, quantised)


def _quantise(config: Model, params: Params, shown: Shown) -> "Quantised":
    """Quantise and judge, each time with more layers left in float, until the model passes."""
    from cjkclip.engines.openvino import int8

    exact = engines.build(config, params, engine="openvino", precision="fp32", device="cpu")
    assert isinstance(exact, int8.OpenvinoEngine)
    reference = features(exact, shown.judged)
    samples = _samples(shown.calibration)
    plain = {tower: exact.graph(tower, stages=False)[0] for tower in samples}
    whole: dict[str, Any] = {tower: int8.quantise(graph, samples[tower]) for tower, graph in plain.items()}
    graphs, layers, judged = dict(whole), list[str](), Judged()
    for count in LEFT_ALONE:
        if count:
            tower = _worse(judged)
            layers = int8.worst_layers(plain[tower], whole[tower], samples[tower], count)
            graphs[tower] = int8.quantise(plain[tower], samples[tower], layers)
        rough = int8.Int8Engine(config, params, int8.Quantised(graphs=graphs))
        judged = judge(reference, features(rough, shown.judged), shown.drawings)
        if passes(judged):
            return int8.Quantised(graphs=graphs, layers=layers, judged=judged)
    raise EngineError(
        f"int8 changes this model too much, even with {len(layers)} layers not quantised: {in_words(judged)}; "
        f"expected mean centred cosines of at least {LEAST_CENTRED} and recall within {100 * MOST_LOST} points. "
        "Use load(..., precision='auto'), or calibrate on your own inputs: load(...).quantize(images, texts)"
    )


def _worse(judged: Judged) -> str:
    means = {name.partition(" ")[0]: value for name, value in judged.items() if name.endswith(" mean")}
    return min(means, key=lambda tower: means[tower])


def _samples(inputs: Inputs) -> dict[str, list["Sample"]]:
    """Return the inputs of one call for each image and each text, without padding."""
    samples: dict[str, list[Sample]] = {}
    if inputs.pixels is not None:
        samples["image"] = [[row[None]] for row in inputs.pixels]
    if inputs.tokens is not None:
        ids, mask = inputs.tokens.ids, inputs.tokens.mask
        lengths = mask.sum(axis=1)
        samples["text"] = [[ids[i : i + 1, :n], mask[i : i + 1, :n]] for i, n in enumerate(lengths)]
    return samples


def _key(config: Model, params: Params, source: CalibrationSource) -> str:
    """Return a digest of all that the graphs and their judgement depend on; `FORM` represents the built-in inputs.

    Processors with the same name may differ in how they add products, which only the test `overflows` shows.
    """
    from cjkclip.engines.openvino.int8 import overflows

    processor = engines.machine("openvino"), overflows()
    facts = FORM, config, processor, digest(config, params), source.digest(config)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def _read(folder: Path) -> "Quantised | None":
    """Return what `_write` wrote, or None if a byte of it is missing or changed."""
    from cjkclip.engines.openvino.int8 import OnDisk, Quantised
    from cjkclip.engines.openvino.runtime import core

    try:
        record: dict[str, Any] = json.loads((folder / "record.json").read_text("utf-8"))
        files: dict[str, str] = record["files"]
        paths = {name[:-4]: folder / name for name in files if name.endswith(".xml")}
        mapped = {tower: MappedFile.of(path.with_suffix(".bin")) for tower, path in paths.items()}
        if on_every_core(file_digest, [folder / name for name in files], "cjkclip-digest") != list(files.values()):
            return None
        cache.used(folder)
        digest = repr(sorted(files.items()))
        return Quantised(
            graphs={tower: core().read_model(path) for tower, path in paths.items()},
            layers=list(record["layers"]),
            judged=dict(record["judged"]),
            places={t: OnDisk(graph=path, weights=mapped[t], digest=digest) for t, path in paths.items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError):
        return None


def _write(folder: Path, quantised: "Quantised") -> None:
    """Write completely or not at all; then delete the least recently used models, and files of killed programs."""
    from cjkclip.engines.openvino.runtime import ov

    with contextlib.suppress(OSError, RuntimeError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent, ignore_cleanup_errors=True) as fresh:
            for tower, graph in quantised.graphs.items():
                ov.save_model(graph, Path(fresh) / f"{tower}.xml", compress_to_fp16=False)
            files = {path.name: file_digest(path) for path in sorted(Path(fresh).iterdir())}
            facts = {"files": files, "layers": list(quantised.layers), "judged": dict(quantised.judged)}
            (Path(fresh) / "record.json").write_text(json.dumps(facts), "utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            Path(fresh).rename(folder)
            Path(fresh).mkdir()  # the context manager removes it
        cache.forget(folder.parent.iterdir(), MOST_MODELS)
