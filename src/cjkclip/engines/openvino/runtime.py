"""The OpenVINO runtime: imported without its telemetry, its capabilities on this processor, and compiling a graph.

OpenVINO is imported when this engine is built, without its telemetry (docs/decisions/0005) and without its converter of
other frameworks' models, which takes two thirds of the import time and is imported at its first call.
"""

import functools
import importlib
import os
import sys
from typing import Any, cast

import numpy as np

from cjkclip.machine.limits import bound_to, cores

# Importing openvino sends an event to Google Analytics and writes into the home directory, unless its telemetry package
# cannot be imported: then it uses its own stub. It has no option to turn telemetry off in a program.
sys.modules.setdefault("openvino_telemetry", cast(Any, None))

_CONVERTER = "openvino.tools.ovc"  # openvino works without it if it cannot be imported
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
# parts of OpenVINO's error messages if an allocation failed, in the caller or in a thread, or if a thread cannot start
NO_MEMORY = (
    "bad_alloc",
    "bad allocation",
    "ould not allocate",
    "ailed to allocate",
    "can't alloc",
    "Broken promise",
    "Resource temporarily unavailable",
)
_PROCESSES: list[int] = []  # that compiled graphs: parents of this one, and this one
_PLAIN = {"SNIPPETS_MODE": "DISABLE"}
_WIDE = ("AVX512", "X86_V4")  # names of AVX-512 in older and newer versions of NumPy


def _convert_model(*args: Any, **options: Any) -> Any:
    """Import openvino.convert_model at its first call, and replace this function by it."""
    cast(Any, ov).convert_model = importlib.import_module(_CONVERTER).convert_model
    return ov.convert_model(*args, **options)


if not hasattr(ov, "convert_model"):
    cast(Any, ov).convert_model = _convert_model


@functools.cache
def core() -> ov.Core:
    """Return the one ov.Core of this process, which is never freed.

    Each Core installs a signal stack in the thread that first uses it and removes it when it is freed. If two of them
    are freed in the order of their creation, which happens when models are replaced, the thread keeps a freed stack,
    and Ctrl-C then ends Python with a segmentation fault (OpenVINO 2026.4.1, Linux).
    """
    return ov.Core()


def compile_graph(graph: ov.Model, precision: str) -> ov.CompiledModel:
    """Compile a graph for this processor, in "fp32" or "bf16"."""
    return core().compile_model(graph, "CPU", hints(precision) | threads())


def hints(precision: str) -> dict[str, Any]:
    """Return OpenVINO's settings for a precision; its threads are not bound to cores.

    If they were bound, two graphs that are compiled at the same time would share the first core while others wait.
    """
    element = {"fp32": "f32", "bf16": "bf16"}[precision]
    return {"INFERENCE_PRECISION_HINT": element, "ENABLE_CPU_PINNING": False} | (_PLAIN if _plainly() else {})


def threads() -> dict[str, Any]:
    """Return OpenVINO's settings for its threads, if they are not those that OpenVINO would choose.

    OpenVINO knows the cores that this process is bound to, but not the quota of a container.

    It keeps the threads of a graph that was freed for the next graph with the same settings. In a forked child they do
    not exist, and compiling would wait for ever. So each process in a line of forks has its own number of streams.
    """
    me = os.getpid()
    if me not in _PROCESSES:
        _PROCESSES.append(me)
    before = _PROCESSES.index(me)
    streams = {"NUM_STREAMS": 0 if before == 1 else before} if before else {}  # 1 is the default
    return streams | ({"INFERENCE_NUM_THREADS": cores()} if cores() != bound_to() else {})


@functools.cache
def _plainly() -> bool:
    """Whether to compile without OpenVINO's fused kernels. On AVX2 they take a third of the time and gain nothing.

    OpenVINO does not document this setting, so a version may lack it.
    """
    if not (simd() & {"AVX2", "X86_V3"}) or any(name.startswith(_WIDE) for name in simd()):
        return False
    probe = ov.Core()  # a separate one, since it keeps the setting
    try:
        probe.set_property("CPU", _PLAIN)
        probe.get_property("CPU", "FULL_DEVICE_NAME")  # a Core reads its settings only when it is used
    except RuntimeError:
        return False
    return True


def simd() -> set[str]:
    """Return the instruction sets that NumPy found: processors with the same name may have different ones."""
    extensions = np.show_config(mode="dicts").get("SIMD Extensions", {})
    return {*extensions.get("baseline", ()), *extensions.get("found", ())}


def in_memory(array: np.ndarray, kind: ov.Type) -> ov.Tensor:
    """Wrap an array, which may be read-only, without a copy. It has to live as long as the tensor is used."""
    return ov.Tensor(array, ov.Shape(array.shape), kind)


def fast(device: str) -> str | None:
    """Return "bf16" if the processor multiplies it in hardware, else None: OpenVINO would emulate it."""
    assert device == "cpu"
    return "bf16" if "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") else None


@functools.cache
def computes_bf16() -> bool:
    """Whether OpenVINO computes in bf16 on request: AVX-512 emulates bf16, lesser processors use float32 instead."""
    x = op.parameter([1], np.float32)
    graph = cast(Any, ov.Model)([op.relu(x)], [x], "half")
    return compile_graph(graph, "bf16").get_property("INFERENCE_PRECISION_HINT") == ov.Type.bf16


def machine(device: str) -> str:
    """Return OpenVINO's version, the processor's name, and the types that it computes in hardware."""
    assert device == "cpu"
    properties = ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")
    return repr((ov.get_version(), *(core().get_property("CPU", name) for name in properties)))
