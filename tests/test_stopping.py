"""Calls that end early: cancelled by another thread, or in a thread that outlives the main thread."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import cjkclip
from cjkclip.clip import Clip
from cjkclip.errors import CancelledError, CjkclipError
from support.processes import printed

MANY = [np.full((400, 400, 3), shade % 256, np.uint8) for shade in range(6000)]  # takes over half a minute
WORDS = [f"panda {number} {'bamboo ' * (number % 9)}" for number in range(50_000)]
CALLS: dict[str, Callable[[Clip, threading.Event], object]] = {
    "images": lambda clip, stop: clip.encode_image(MANY, cancel=stop),
    "batches": lambda clip, stop: list(clip.encode_image_batches(MANY, cancel=stop)),
    "classify": lambda clip, stop: clip.classify(MANY, ["cat", "dog"], cancel=stop),
    "labels": lambda clip, stop: clip.classify(MANY[:1], WORDS, cancel=stop),
    "texts": lambda clip, stop: clip.encode_text(WORDS, cancel=stop),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_cancelled_call_ends_at_once_and_leaves_no_thread(call: str) -> None:
    clip, stop = cjkclip.load("moji"), threading.Event()
    clip.encode_image(MANY[:1])
    clip.encode_text(WORDS[:1])
    timer, before = threading.Timer(0.3, stop.set), set(threading.enumerate())
    timer.start()
    start = time.monotonic()
    with pytest.raises(CancelledError, match="cancel"):
        CALLS[call](clip, stop)
    assert time.monotonic() - start < 10  # the whole call takes much longer, and a loaded machine is slow
    timer.join()
    assert not set(threading.enumerate()) - before
    assert issubclass(CancelledError, CjkclipError)


def test_a_call_that_was_cancelled_before_it_began_encodes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, stop = cjkclip.load("moji"), threading.Event()
    stop.set()

    def fail(*_: Any) -> None:
        raise AssertionError("encoded")

    monkeypatch.setattr(type(clip.engine), "image", fail)
    monkeypatch.setattr(type(clip.engine), "text", fail)
    for call in CALLS.values():
        with pytest.raises(CancelledError):
            call(clip, stop)


def test_an_event_that_nobody_sets_changes_nothing() -> None:
    clip = cjkclip.load("moji", engine="numpy")
    quiet = threading.Event()
    expected = clip.encode_image(MANY[:20], batch_size=8)
    assert np.array_equal(clip.encode_image(MANY[:20], cancel=quiet), expected)
    assert np.array_equal(clip.encode_text(WORDS[:20], cancel=quiet), clip.encode_text(WORDS[:20]))


def test_wait_for_around_a_call_in_a_thread_ends() -> None:
    clip = cjkclip.load("moji")
    clip.encode_image(MANY[:1])

    async def main() -> float:
        stop = threading.Event()
        try:
            await asyncio.wait_for(asyncio.to_thread(clip.encode_image, MANY, cancel=stop), 0.3)
        except TimeoutError:
            stop.set()
            return time.monotonic()
        raise AssertionError("no timeout")

    given_up = asyncio.run(main())  # it waits for the threads of the loop
    assert time.monotonic() - given_up < 5


LATE = """
import threading
import numpy as np, cjkclip

ENGINES = ["numpy", "openvino", "torch"]
images = [np.full((40, 40, 3), shade, np.uint8) for shade in range(20)]
clips = {engine: cjkclip.load("moji", engine=engine) for engine in ENGINES}
expected = {engine: clip.encode_image(images) for engine, clip in clips.items()}

def late():
    threading.main_thread().join()
    for engine in ENGINES:
        for clip in (clips[engine], cjkclip.load("moji", engine=engine)):
            assert np.array_equal(clip.encode_image(images), expected[engine])
            best = clip.classify(images, ["cat", "dog"])
            print(engine, clip.encode_text(["cat", "dog"]).shape, len(best), len(clip.fingerprint))

threading.Thread(target=late).start()
"""


def test_a_thread_that_outlives_the_main_thread_works() -> None:
    lines = printed("-W", "error", "-c", LATE).splitlines()
    assert lines == [f"{engine} (2, 256) 20 16" for engine in ("numpy", "openvino", "torch") for _ in range(2)]
