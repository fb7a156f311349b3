"""int8 by name: a model's towers quantised, judged, and kept on disk. n pictures or texts, E joint width.

A range that was learnt from the wrong inputs ruins a model while the usual cosine still looks perfect, so the towers
are calibrated on real pictures and sentences and judged on others: by the cosine after the mean was taken away, and,
where the model was trained, by how many names still find their drawing among the ten nearest. What fails is tried
again with its worst layers left alone, and then refused. Refuses also: a model without preprocessing or tokenizer,
which could only be shown noise.
"""

import contextlib
import hashlib
import json
import logging
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cjkclip import engines, probes
from cjkclip.config import Model
from cjkclip.errors import EngineError, EngineWarning, InputError
from cjkclip.fingerprint import digest
from cjkclip.gate import texts
from cjkclip.image import Picture, load_pixels
from cjkclip.machine import cache
from cjkclip.machine.mapped import MappedFile
from cjkclip.machine.threads import on_every_core
from cjkclip.probes import Inputs
from cjkclip.text import Tokenizer

if TYPE_CHECKING:
    from cjkclip.engines.openvino.int8 import Int8Engine, Quantised, Sample

LEAST_CENTRED = 0.95  # mean centred cosine of a tower's features to those in float32
MOST_LOST = 0.005  # of recall at 10
TRAINED = 3.0  # times the recall of chance from which a model counts as trained
LEFT_ALONE = (0, 4, 12)  # layers of the worse tower that stay as they are, attempt by attempt
MOST_MODELS = 4  # kept on disk; one of ViT-B/16 and a base BERT takes 0.3 GB
FORM = 2  # of what is kept; raised when it, the calibration or the gate changes
NEAREST = 10
FEWEST = 16  # pictures, or texts, of one's own
Judged = dict[str, float]
Params = Mapping[str, np.ndarray]
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """What a model is shown: to learn ranges from, and, apart from it, to be judged by."""

    calibration: Inputs
    judged: Inputs  # its first `drawings` pictures are named, in order and language by language, by its texts
    drawings: int


@dataclass(frozen=True, eq=False)
class Source:
    """Where the inputs come from: the package, or pictures and texts of one's own."""

    tokenizer: Tokenizer | None
    languages: Sequence[str]
    pictures: Sequence[Picture] = ()
    texts: Sequence[str] = ()

    def __post_init__(self) -> None:
        """Raise InputError for too few of one's own."""
        for own in (self.pictures, self.texts):
            if own and len(own) < FEWEST:
                raise InputError(
                    f"got {len(own)} to calibrate int8 with, expected at least {FEWEST}, like those to come"
                )

    def shown(self, config: Model) -> Shown:
        """The inputs; every fourth of one's own pictures is kept for judging."""
        learnt, kept = [p for i, p in enumerate(self.pictures) if i % 4 < 3], list(self.pictures[3::4])
        judged, drawings = probes.judging(config, self.tokenizer, self.languages, kept)
        calibration = probes.calibration(config, self.tokenizer, self.languages, (learnt, self.texts))
        return Shown(calibration=calibration, judged=judged, drawings=drawings)

    def digest(self, config: Model) -> str:
        """What the inputs depend on besides this package and the config, without making those of the package.

        One's own pictures are opened, and the tokenizer is asked for the package's sentences.
        """
        digest = hashlib.sha256(repr((tuple(self.languages), tuple(self.texts), len(self.pictures))).encode())
        if self.pictures and config.image is not None:
            digest.update(load_pixels(self.pictures, config.image).tobytes())
        if self.tokenizer is not None:
            tokens = self.tokenizer(probes.sentences())
            digest.update(tokens.ids.tobytes() + tokens.mask.tobytes())
        return digest.hexdigest()


def engine(config: Model, params: Params, source: Source) -> "Int8Engine":
    """The int8 engine of a model, from disk if it was made before; else made and judged, which takes minutes.

    Raises EngineError if it does not pass, FactsError if it cannot be shown anything, MissingDependencyError without
    NNCF. Warns where the processor gains nothing by it.
    """
    from cjkclip.engines.openvino.int8 import Int8Engine, overflows

    if overflows():
        warnings.warn(
            "this processor has no instruction for int8, so that int8 is about as fast as fp32 and less exact here: "
            "leave precision at 'auto'",
            EngineWarning,
            stacklevel=2,
        )
    folder = cache.folder("int8", _key(config, params, source))
    kept = _kept(folder)
    if kept is None:
        _LOG.info("quantising this model to int8, which takes minutes, once; kept in %s", folder.parent)
        made = _make(config, params, source.shown(config))
        _keep(folder, made)
        kept = _kept(folder) or made
    return Int8Engine(config, params, kept)


def _make(config: Model, params: Params, shown: Shown) -> "Quantised":
    """Quantise, judge, and leave layers alone until it passes."""
    from cjkclip.engines.openvino import int8

    exact = engines.build(config, params, engine="openvino", precision="fp32", device="cpu")
    assert isinstance(exact, int8.OpenvinoEngine)
    want = features(exact, shown.judged)
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
        judged = judge(want, features(rough, shown.judged), shown.drawings)
        if passes(judged):
            return int8.Quantised(graphs=graphs, layers=layers, judged=judged)
    raise EngineError(
        f"int8 changes this model too much, with {len(layers)} layers left alone as well: {told(judged)}; "
        f"expected centred cosines of {LEAST_CENTRED} and recall within {100 * MOST_LOST} points. "
        "Use precision='bf16' or 'fp32', or Clip.quantize(pictures, texts) with inputs like yours"
    )


def features(built: engines.Engine, inputs: Inputs) -> dict[str, np.ndarray]:
    """Unit vectors (n, E) by tower, 16 at once."""
    found: dict[str, np.ndarray] = {}
    if inputs.pixels is not None:
        parts = range(0, len(inputs.pixels), 16)
        found["image"] = np.concatenate([built.image(inputs.pixels[start : start + 16]) for start in parts])
    if inputs.tokens is not None:
        found["text"] = texts(built, inputs.tokens)
    return {tower: rows / np.linalg.norm(rows, axis=1, keepdims=True) for tower, rows in found.items()}


def judge(want: Mapping[str, np.ndarray], got: Mapping[str, np.ndarray], drawings: int) -> Judged:
    """Mean and least centred cosine of each tower; recall at 10 of both, where there are both towers.

    A feature that is no number counts as a cosine of -1.
    """
    judged: Judged = {}
    for tower, exact in want.items():
        cosines = np.nan_to_num(centred_cosines(exact, got[tower]), nan=-1.0)
        judged |= {f"{tower} mean": float(cosines.mean()), f"{tower} least": float(cosines.min())}
    if len(want) == 2 and drawings:
        judged |= {"recall fp32": recall(want, drawings), "recall int8": recall(got, drawings)}
        judged["recall chance"] = min(1.0, NEAREST / drawings)
    return judged


def centred_cosines(want: np.ndarray, got: np.ndarray) -> np.ndarray:
    """Cosines, row by row of (n, E), after the mean of `want` was taken from both: plain ones hide differences."""
    centre = want.mean(axis=0)
    a, b = want - centre, got - centre
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / np.maximum(norms, 1e-30)


def recall(found: Mapping[str, np.ndarray], drawings: int) -> float:
    """Share of names whose drawing is among the ten nearest of all drawings; ties count against."""
    scores = found["text"] @ found["image"][:drawings].T
    own = scores[np.arange(len(scores)), np.arange(len(scores)) % drawings]
    return float(((scores >= own[:, None]).sum(axis=1) <= NEAREST).mean())


def passes(judged: Judged) -> bool:
    """Is it good enough? Recall counts where the model was trained."""
    centred = min(value for name, value in judged.items() if name.endswith(" mean"))
    lost = judged.get("recall fp32", 0.0) - judged.get("recall int8", 0.0)
    trained = judged.get("recall fp32", 0.0) >= min(1.0, TRAINED * judged.get("recall chance", 1.0))
    return centred >= LEAST_CENTRED and not (trained and lost > MOST_LOST)


def told(judged: Judged) -> str:
    """What was measured, in words."""
    return ", ".join(f"{name} {value:.4f}" for name, value in judged.items())


def _worse(judged: Judged) -> str:
    means = {name.partition(" ")[0]: value for name, value in judged.items() if name.endswith(" mean")}
    return min(means, key=lambda tower: means[tower])


def _samples(inputs: Inputs) -> dict[str, list["Sample"]]:
    """One call's inputs per picture and per text, without padding."""
    found: dict[str, list[Sample]] = {}
    if inputs.pixels is not None:
        found["image"] = [[row[None]] for row in inputs.pixels]
    if inputs.tokens is not None:
        ids, mask = inputs.tokens.ids, inputs.tokens.mask
        used = mask.sum(axis=1)
        found["text"] = [[ids[i : i + 1, :n], mask[i : i + 1, :n]] for i, n in enumerate(used)]
    return found


def _key(config: Model, params: Params, source: Source) -> str:
    """Whatever the graphs and the verdict depend on; `FORM` stands for the package's own inputs.

    Processors of one name may differ in how they add products, which the system calls by no name.
    """
    from cjkclip.engines.openvino.int8 import overflows

    processor = engines.machine("openvino"), overflows()
    facts = FORM, config, processor, digest(config, params), source.digest(config)
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:32]


def _kept(folder: Path) -> "Quantised | None":
    """What `_keep` wrote, if every byte of it is still there."""
    from cjkclip.engines.openvino.int8 import OnDisk, Quantised
    from cjkclip.engines.openvino.runtime import core

    try:
        record: dict[str, Any] = json.loads((folder / "record.json").read_text("utf-8"))
        files: dict[str, str] = record["files"]
        paths = {name[:-4]: folder / name for name in files if name.endswith(".xml")}
        mapped = {tower: MappedFile.of(path.with_suffix(".bin")) for tower, path in paths.items()}
        if on_every_core(_digest, [folder / name for name in files], "cjkclip-digest") != list(files.values()):
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


def _keep(folder: Path, made: "Quantised") -> None:
    """Write whole or not at all; then forget models that were not used for longest, and what killed programs left."""
    from cjkclip.engines.openvino.runtime import ov

    with contextlib.suppress(OSError, RuntimeError):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=folder.parent, ignore_cleanup_errors=True) as fresh:
            for tower, graph in made.graphs.items():
                ov.save_model(graph, Path(fresh) / f"{tower}.xml", compress_to_fp16=False)
            files = {path.name: _digest(path) for path in sorted(Path(fresh).iterdir())}
            facts = {"files": files, "layers": list(made.layers), "judged": dict(made.judged)}
            (Path(fresh) / "record.json").write_text(json.dumps(facts), "utf-8")
            shutil.rmtree(folder, ignore_errors=True)
            Path(fresh).rename(folder)
            Path(fresh).mkdir()  # for the context to remove
        cache.forget(folder.parent.iterdir(), MOST_MODELS)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
