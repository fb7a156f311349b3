"""load(): a model by its name."""

from pathlib import Path
from typing import Unpack

from cjkclip import checkpoints, engines
from cjkclip.checkpoints import ReadOptions, check_options
from cjkclip.checkpoints.weights import OpenFile
from cjkclip.clip import Clip
from cjkclip.errors import InputError
from cjkclip.machine.forks import GATE
from cjkclip.machine.limits import using


def load(
    name: str | Path | OpenFile,
    *,
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    family: str | None = None,
    revision: str | None = None,
    threads: int | None = None,
    **options: Unpack[ReadOptions],
) -> Clip:
    """Load a model: "moji" (bundled), an alias ("ViT-B/32"), a hub id, a directory, or a weights file.

    A weights file may also be an open one, which has no side files.

    engine: "auto", "openvino", "torch" or "numpy". precision: "auto" (bf16 if fast and exact enough, else fp32),
    "fp32", "bf16", "int8" (see Clip.quantize), "fp16-weights" (as cn_clip). device: "auto", "cpu", "cuda" or "mps".
    image_tower: use that model's image tower and logit_scale. facts: missing config values, as {"vision.heads": 12}.
    image_size: pixels a side, with interpolated positions. context: ids per text, up to the text tower's positions.
    threads: for decoding and for the engine; by default the cores of this process, within its container's quota.
    mapped=False: copy the weights into memory, for files that other programs write to while the model is in use.
    Raises ModelNotFoundError, HubError, WeightsError, LayoutError, FactsError, EngineError, MissingDependencyError.

    >>> load("moji").encode_text(["猫", "고양이"]).shape  # works offline
    (2, 256)
    """
    check_options(options)
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}, expected at least 1: use for example threads=2")
    with GATE.call():  # a module that is imported during a fork cannot be imported in the child
        names = engines.choose(engine, precision, device)
    source = checkpoints.resolve(name, checkpoints.Where(revision=revision), family=family)
    with using(threads):
        return Clip(checkpoints.read(source, **options), names, threads)
