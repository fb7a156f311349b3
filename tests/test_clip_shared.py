"""A Clip in several threads, and in copies as worker processes get them."""

import copy
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import cjkclip
from cjkclip import engines
from families import GOLDEN

SOURCE = GOLDEN / "hf-clip-eos2"


def test_copies_and_pickles_answer_alike() -> None:
    """Worker processes get such copies. Each builds its own engine."""
    clip = cjkclip.load(SOURCE, engine="numpy")
    want = clip.encode_text(["猫", "a dog"])
    for other in (copy.copy(clip), copy.deepcopy(clip), pickle.loads(pickle.dumps(clip))):
        assert "engine" not in vars(other)
        np.testing.assert_array_equal(other.encode_text(["猫", "a dog"]), want)
        assert other._chosen == clip._chosen


def test_threads_that_ask_first_build_one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[object] = []
    build = engines.build
    monkeypatch.setattr(engines, "build", lambda *words, **named: built.append(0) or build(*words, **named))
    fresh = cjkclip.load(SOURCE, engine="numpy")
    together = threading.Barrier(4)

    def ask(_: int) -> object:
        together.wait(20)
        return cjkclip.Clip.engine.func(fresh)  # without cached_property's own lock, which Python 3.12 gave up

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(ask, range(4)))
    assert len(built) == 1
    assert all(one is found[0] for one in found)
