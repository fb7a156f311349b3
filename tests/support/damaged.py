"""Checks of the guarantee that every reader of weight files gives for damaged files."""

import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cjkclip.checkpoints.weights import Tensors, read
from cjkclip.errors import WeightsError
from support.mutations import mutate


def refused(file: Path, words: str) -> None:
    """Check that reading a file raises WeightsError, with a message of limited length that names the file."""
    with pytest.raises(WeightsError, match=words) as caught:
        read(file)
    assert str(caught.value).startswith(file.name)
    assert len(str(caught.value)) < 1000


def hold(file: Path, turns: int, also: Callable[[bytes, Tensors], object] = lambda _content, _tensors: None) -> None:
    """Check in at most 10 seconds that each mutation of a valid file gives readable tensors or WeightsError.

    `also` is called with the content and the tensors of each mutation that can be read.
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
