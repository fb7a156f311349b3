"""Batches that do not fit into memory: halved once, right afterwards, and a clear error when half is too much."""

import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cjkclip
from cjkclip import engines
from cjkclip.engines import torch as torch_engine
from cjkclip.engines.openvino import ops as ops_openvino
from cjkclip.errors import CjkclipError, EngineError, OutOfMemoryError
from cjkclip.image import batches
from cjkclip.machine.memory import short_of_memory
from families import GOLDEN
from support.processes import printed


@pytest.fixture(autouse=True)
def one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """All pictures come at once: the first batch is not smaller here."""
    monkeypatch.setattr(batches, "FIRST", 32)


TEXTS = [f"number {number}" for number in range(10)]
PICTURES = [Image.new("RGB", (8, 8), (number * 20, 0, 0)) for number in range(10)]


class Small:
    """An engine that has room for so many rows."""

    def __init__(self, real: Any, room: int, error: Exception) -> None:
        self.real, self.room, self.error = real, room, error
        self.asked: list[int] = []

    def image(self, pixels: np.ndarray) -> np.ndarray:
        return self.run(self.real.image, pixels)

    def text(self, ids: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return self.run(self.real.text, ids, mask)

    def run(self, real: Any, *arrays: np.ndarray) -> np.ndarray:
        self.asked.append(len(arrays[0]))
        if len(arrays[0]) > self.room:
            raise self.error
        return real(*arrays)


def small(room: int, error: Exception | None = None) -> cjkclip.Clip:
    clip = cjkclip.load(GOLDEN / "hf-clip-eos2", engine="numpy")
    clip.engine = Small(clip.engine, room, error or OutOfMemoryError("no room"))  # pyright: ignore[reportAttributeAccessIssue]
    return clip


def encode(clip: cjkclip.Clip, what: str, batch_size: int) -> np.ndarray:
    if what == "texts":
        return clip.encode_text(TEXTS, batch_size=batch_size)
    return clip.encode_image(PICTURES, batch_size=batch_size)


@pytest.mark.parametrize("what", ["pictures", "texts"])
@pytest.mark.parametrize("error", [OutOfMemoryError("no room"), MemoryError()])
def test_a_batch_that_is_too_large_is_halved(what: str, error: Exception) -> None:
    clip = small(5, error)
    found = encode(clip, what, 10)
    assert clip.engine.asked == [10, 5, 5]  # pyright: ignore[reportAttributeAccessIssue]
    np.testing.assert_allclose(found, encode(small(10), what, 10), atol=1e-6)
    odd = small(4)
    np.testing.assert_allclose(encode(odd, what, 7), found, atol=1e-6)
    assert odd.engine.asked == [7, 4, 3, 3]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("what", ["pictures", "texts"])
def test_half_a_batch_that_is_too_large_says_what_to_do(what: str) -> None:
    with pytest.raises(OutOfMemoryError, match=r"batch size 10 and with 5 \(no room\): use batch_size=2") as told:
        encode(small(4), what, 10)
    assert isinstance(told.value, MemoryError)
    assert isinstance(told.value, EngineError)
    with pytest.raises(OutOfMemoryError, match="out of memory with a single input: close other programs"):
        encode(small(0, MemoryError()), what, 1)
    np.testing.assert_allclose(encode(small(4), what, 2), encode(small(10), what, 2), atol=1e-6)  # as it was told


@pytest.mark.parametrize("what", ["pictures", "texts"])
def test_other_errors_are_not_retried(what: str) -> None:
    clip = small(4, RuntimeError("a shape is wrong"))
    with pytest.raises(RuntimeError, match="a shape is wrong"):
        encode(clip, what, 10)
    assert clip.engine.asked == [10]  # pyright: ignore[reportAttributeAccessIssue]


def test_pixels_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("cjkclip.image.batches.load_pixels", load)
    for batch_size in (4, 10):
        with pytest.raises(OutOfMemoryError, match=f"batch size {batch_size} and"):
            encode(small(10), "pictures", batch_size)


# what the packages have been seen to say, or say in their sources
SAID = {
    "torch": (
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 139 GiB",
        "MPS backend out of memory (MPS allocated: 5.31 GB)",
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
        "could not create a primitive",
        "[enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: not enough memory: you tried",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ),
    "openvino": (
        "Exception from src/a.cpp:224:\n[CPU] Convolution\nFailed to allocate 37748736 bytes of memory\n\n",
        "Exception from src/a.cpp:224:\n[CPU] Reorder node with name 'Parameter_1' can't alloc\n",
        "std::bad_alloc",
        "Exception from src/plugin.cpp:54:\nResource temporarily unavailable\n",
        "Could not allocate memory",
    ),
}
SIGNS = {"torch": torch_engine.NO_MEMORY, "openvino": ops_openvino.NO_MEMORY}


@pytest.mark.parametrize(("engine", "text"), [(engine, text) for engine, texts in SAID.items() for text in texts])
def test_what_engines_say_is_understood(engine: str, text: str) -> None:
    with pytest.raises(OutOfMemoryError) as told, short_of_memory(*SIGNS[engine]):
        raise RuntimeError(text)
    assert "\n" not in str(told.value)
    assert "Exception from" not in str(told.value)
    with pytest.raises(RuntimeError) as kept, short_of_memory(*SIGNS[engine]):
        raise RuntimeError("could not create a primitive descriptor for a convolution")
    assert not isinstance(kept.value, CjkclipError)


def test_a_model_that_does_not_fit_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def build(*_: Any) -> None:
        raise MemoryError("Unable to allocate 9 GiB")

    monkeypatch.setattr("cjkclip.engines.numpy.build", build)
    with pytest.raises(OutOfMemoryError, match="Unable to allocate 9 GiB"):
        _ = cjkclip.load("moji", engine="numpy").engine
    assert engines.ENGINES["numpy"][0] == "cjkclip.engines.numpy"


REAL = """
import ctypes, resource, sys
import numpy as np
import cjkclip
from cjkclip.errors import OutOfMemoryError

clip = cjkclip.load("moji", engine=sys.argv[1])
side = clip.config.vision.image_size
pixels = np.random.default_rng(0).normal(size=(48, 3, side, side)).astype(np.float32)
truth = np.concatenate([clip.encode_pixels(part) for part in np.split(pixels, 6)])
if sys.argv[1] == "torch":
    clip.encode_pixels(pixels), clip.encode_pixels(pixels[:24])  # oneDNN never forgets that it had no room for code
if sys.platform == "linux":
    ctypes.CDLL(None).malloc_trim(0)  # what was freed is given back: it would be room too
held = next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmSize")) * 1024
seen = []
for room in range(0, 2000, 8):
    resource.setrlimit(resource.RLIMIT_AS, (held + (room << 20), -1))
    try:
        clip.engine.image(pixels)
        seen.append("whole")
    except MemoryError:
        seen.append("none")
    try:
        assert np.abs(clip.encode_pixels(pixels) - truth).max() < 1e-5, seen
        seen[-1] = seen[-1].replace("none", "halves")
    except OutOfMemoryError as error:
        assert "use batch_size=12" in str(error)
    if seen[-1] == "whole":
        break
print(*dict.fromkeys(seen))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and read as Linux does")
@pytest.mark.parametrize("engine", ["numpy", "openvino", "torch"])
def test_a_process_with_little_memory(engine: str) -> None:
    """With ever more room: first nothing works, then halves do, then all; and every number that comes is right.

    Engines with memory pools of their own may leave out the halves: what they ask for at once differs from run to run.
    """
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if engine == "torch":
        # what is freed is given back, and no arena of a thread that ended has set room aside
        one |= {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072"}
    seen = printed("-c", REAL, engine, **one).split()
    assert seen[0] == "none"
    assert seen[-1] == "whole"
    assert set(seen) <= {"none", "halves", "whole"}
    assert engine != "numpy" or "halves" in seen
