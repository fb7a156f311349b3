"""Run NNCF in a process of its own: `python -m cjkclip.engines.openvino.nncf FOLDER`.

NNCF prints, draws progress bars, and replaces functions of other packages. Here nobody sees that. The process reads
graph.xml, samples.npz and settings.json in FOLDER, and writes quantised.xml.
"""

import importlib
import json
import multiprocessing.spawn
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cjkclip.engines.openvino.runtime import core, ov
from cjkclip.errors import EngineError, OutOfMemoryError

ROOT = Path(__file__).parents[3]  # the directory from which the package is imported


def quantised(
    graph: ov.Model, samples: Sequence[Sequence[np.ndarray]], keep: Sequence[str], *, overflow_fix: bool
) -> ov.Model:
    """Return the graph in int8, except the layers in `keep`, calibrated on samples: the inputs of one call each.

    Raises EngineError if NNCF fails, OutOfMemoryError if the process was killed, as systems do when memory is short.
    """
    with tempfile.TemporaryDirectory(prefix="cjkclip-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        ov.save_model(graph, folder / "graph.xml", compress_to_fp16=False)
        arrays = {f"{i}.{j}": array for i, sample in enumerate(samples) for j, array in enumerate(sample)}
        np.savez(folder / "samples.npz", **arrays)  # pyright: ignore[reportArgumentType]
        (folder / "settings.json").write_text(json.dumps({"keep": list(keep), "overflow_fix": overflow_fix}))
        _run(folder)
        return core().read_model(folder / "quantised.xml")


def _run(folder: Path) -> None:
    """Run this module, and wait for it. Ctrl-C ends both."""
    python = os.fsdecode(multiprocessing.spawn.get_executable() or sys.executable)
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    done = subprocess.run(
        [python, "-P", "-m", __name__, str(folder)],
        env=os.environ | {"PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == -getattr(signal, "SIGKILL", 9):
        raise OutOfMemoryError("the process that quantises was killed, probably because memory is short: free some")
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EngineError(f"NNCF cannot quantise this model ({why}). Use load(..., precision='auto')")


def main(folder: Path) -> None:
    """Quantise the graph in a folder."""
    library: Any = importlib.import_module("nncf")
    settings = json.loads((folder / "settings.json").read_text())
    with np.load(folder / "samples.npz") as file:
        count = 1 + max(int(name.partition(".")[0]) for name in file.files)
        inputs = sum(name.startswith("0.") for name in file.files)
        samples = [[file[f"{i}.{j}"] for j in range(inputs)] for i in range(count)]
    graph = library.quantize(
        core().read_model(folder / "graph.xml"),
        library.Dataset(samples),
        model_type=library.ModelType.TRANSFORMER,
        subset_size=len(samples),
        ignored_scope=library.IgnoredScope(names=settings["keep"]) if settings["keep"] else None,
        advanced_parameters=library.AdvancedQuantizationParameters(
            overflow_fix=library.OverflowFix.ENABLE if settings["overflow_fix"] else None
        ),
    )
    ov.save_model(graph, folder / "quantised.xml", compress_to_fp16=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
