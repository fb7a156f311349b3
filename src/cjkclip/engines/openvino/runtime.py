"""OpenVINO itself: imported in silence, what it computes on this processor, a graph made ready to run.

OpenVINO is imported by whoever asks for this engine. Refuses: its telemetry (docs/decisions/0005), and its converter of
other frameworks' models, two thirds of its import, until somebody converts one.
"""

import functools
import importlib
import sys
from typing import Any, cast

import numpy as np

# Importing openvino reports itself to Google Analytics and writes into the home folder, unless its telemetry package
# cannot be imported: then it uses its own stub. It has no switch that a program could set.
sys.modules.setdefault("openvino_telemetry", cast(Any, None))

_CONVERTER = "openvino.tools.ovc"  # openvino goes without it where it cannot be imported
_first = "openvino" not in sys.modules
if _first:
    sys.modules[_CONVERTER] = cast(Any, None)
try:
    import openvino as ov
    from openvino import opset13 as op
finally:
    if _first:
        del sys.modules[_CONVERTER]

Node = Any  # openvino.Node or openvino.Output; the package's own annotations do not tell them apart
# in the texts of its errors, where an allocation failed, in the program or in one of its threads, or a thread's own
NO_MEMORY = (
    "bad_alloc",
    "bad allocation",
    "ould not allocate",
    "ailed to allocate",
    "can't alloc",
    "Broken promise",
    "Resource temporarily unavailable",
)
_PLAIN = {"SNIPPETS_MODE": "DISABLE"}
_WIDE = ("AVX512", "X86_V4")  # AVX-512, as older and newer versions of NumPy call it


def _convert_model(*words: Any, **named: Any) -> Any:
    """openvino.convert_model, which is imported now and takes this place."""
    cast(Any, ov).convert_model = importlib.import_module(_CONVERTER).convert_model
    return ov.convert_model(*words, **named)


if not hasattr(ov, "convert_model"):
    cast(Any, ov).convert_model = _convert_model


@functools.cache
def core() -> ov.Core:
    """The one of this process, which is never let go of.

    Each gives the thread that first uses it a stack for signals, and takes it away when it goes. Where two of them go
    in the order they came in, as they do with models that come and go, the thread is left with one that is gone: then
    Ctrl-C ends Python by a segmentation fault (OpenVINO 2026.4.1, Linux).
    """
    return ov.Core()


def compile_graph(graph: ov.Model, precision: str) -> ov.CompiledModel:
    """A graph for this processor, in "fp32" or "bf16"."""
    return core().compile_model(graph, "CPU", hints(precision))


def hints(precision: str) -> dict[str, Any]:
    """What OpenVINO is told of a precision; its threads are bound to no core.

    Bound, two graphs that are compiled at once share the first core while the other cores wait.
    """
    kind = {"fp32": "f32", "bf16": "bf16"}[precision]
    return {"INFERENCE_PRECISION_HINT": kind, "ENABLE_CPU_PINNING": False} | (_PLAIN if _plainly() else {})


@functools.cache
def _plainly() -> bool:
    """Are OpenVINO's own fused kernels a waste of time? On AVX2 they take a third of compiling and gain nothing.

    The name is none that OpenVINO documents, so that a version may come without it.
    """
    if not (simd() & {"AVX2", "X86_V3"}) or any(name.startswith(_WIDE) for name in simd()):
        return False
    asked = ov.Core()  # of its own: what it is told stays with it
    try:
        asked.set_property("CPU", _PLAIN)
        asked.get_property("CPU", "FULL_DEVICE_NAME")  # until something is asked of it, nothing reads what was set
    except RuntimeError:
        return False
    return True


def simd() -> set[str]:
    """Instruction sets, as far as NumPy names them: processors of one name may differ in them."""
    told = np.show_config(mode="dicts").get("SIMD Extensions", {})
    return {*told.get("baseline", ()), *told.get("found", ())}


def in_memory(array: np.ndarray, kind: ov.Type) -> ov.Tensor:
    """An array where it is, without a copy, read-only ones too. It has to live as long as what uses it."""
    return ov.Tensor(array, ov.Shape(array.shape), kind)


def fast(device: str) -> str | None:
    """bf16, if the processor multiplies it; OpenVINO would emulate it otherwise."""
    assert device == "cpu"
    return "bf16" if "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else None


@functools.cache
def computes_bf16() -> bool:
    """Does OpenVINO compute in bf16 when it is told to? It imitates bf16 on AVX-512, and stays in float32 below."""
    x = op.parameter([1], np.float32)
    graph = cast(Any, ov.Model)([op.relu(x)], [x], "half")
    return compile_graph(graph, "bf16").get_property("INFERENCE_PRECISION_HINT") == ov.Type.bf16


def machine(device: str) -> str:
    """OpenVINO's version, the processor's name, and what it computes in hardware."""
    assert device == "cpu"
    asked = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
    return repr((ov.get_version(), *(core().get_property("CPU", name) for name in asked)))
