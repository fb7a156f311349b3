"""Spoilt files: random but repeatable damage, and the promise that every reader keeps under it."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from cjkclip.errors import WeightsError
from cjkclip.weights import Tensors, read


def mutate(rng: random.Random, content: bytes) -> bytes:
    """Cut, flip, drop, double or move a few bytes, mostly near the ends, where the structure is."""
    if rng.random() < 0.2:
        return content[: rng.randrange(len(content))]
    spoilt = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        near = rng.randrange(min(len(spoilt), 1200))
        at = rng.choice((near, len(spoilt) - 1 - near, rng.randrange(len(spoilt))))
        kind = rng.randrange(4)
        if kind == 0:
            spoilt[at] = rng.randrange(256)
        elif kind == 1:
            spoilt[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del spoilt[at : at + rng.randrange(1, 9)]
        else:
            spoilt[at:at] = spoilt[rng.randrange(len(spoilt)) :][: rng.randrange(1, 9)]
    return bytes(spoilt)


def hold(file: Path, turns: int, also: Callable[[bytes, Tensors], object] = lambda _content, _tensors: None) -> None:
    """Each of so many mutations of a sound file gives tensors that can be read, or WeightsError: in 10 seconds.

    `also` may look at what was read from a spoilt file.
    """
    sound, refusals, start = file.read_bytes(), 0, time.perf_counter()
    rng = random.Random(file.name)
    for turn in range(turns):
        content = mutate(rng, sound)
        spoilt = file.with_name(f"{turn}-{file.name}")
        spoilt.write_bytes(content)
        try:
            tensors = read(spoilt)
        except WeightsError:
            refusals += 1
        else:
            assert all(np.array(array, copy=True).shape == array.shape for array in tensors.values())
            also(content, tensors)
        spoilt.unlink()
    assert turns // 4 < refusals < turns
    assert time.perf_counter() - start < 10
