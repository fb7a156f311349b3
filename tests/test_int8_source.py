"""Inputs that calibrate int8, built-in ones or the caller's own, and the cache key of the result."""

import pickle
from typing import Any, cast

import numpy as np
import pytest

import cjkclip
from cjkclip import probes
from cjkclip.config import Model
from cjkclip.engines import Engine
from cjkclip.errors import EngineError, InputError
from cjkclip.precision import int8
from cjkclip.precision.shown import CalibrationSource
from families import GOLDEN


def test_own_pictures_are_calibrated_with_and_a_quarter_of_them_judged() -> None:
    clip = cjkclip.load("moji", precision="fp32")
    own = [picture for _, picture in cjkclip.moji.gallery("noto")[1:41:2]]
    shown = CalibrationSource(clip.tokenizer, clip.languages, own, [f"text {i}" for i in range(16)]).shown(clip.config)
    pixels = clip.preprocess(own)
    assert shown.calibration.pixels is not None
    assert shown.judged.pixels is not None
    assert shown.calibration.tokens is not None
    np.testing.assert_array_equal(shown.calibration.pixels, np.delete(pixels, np.s_[3::4], axis=0))
    np.testing.assert_array_equal(shown.judged.pixels[shown.drawings :], pixels[3::4])
    assert len(shown.calibration.tokens.ids) == 16
    with pytest.raises(InputError, match=r"got 15 .* expected at least 16"):
        CalibrationSource(clip.tokenizer, clip.languages, own[:15])


def test_the_key_tells_sources_apart_without_making_the_inputs_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, other = cjkclip.load("moji", precision="fp32"), cjkclip.load(GOLDEN / "hf-clip-eos2")
    own = [picture for _, picture in cjkclip.moji.gallery("noto")[:32]]
    monkeypatch.setattr(probes, "real", lambda *_: pytest.fail("the inputs were made"))
    sources = [
        CalibrationSource(clip.tokenizer, clip.languages),
        CalibrationSource(clip.tokenizer, ("en",)),
        CalibrationSource(other.tokenizer, clip.languages),
        CalibrationSource(clip.tokenizer, clip.languages, own[:16]),
        CalibrationSource(clip.tokenizer, clip.languages, own[16:]),
        CalibrationSource(clip.tokenizer, clip.languages, (), [f"text {i}" for i in range(16)]),
    ]
    digests = [source.digest(clip.config) for source in sources]
    assert len(set(digests)) == len(sources)
    assert digests[0] == CalibrationSource(clip.tokenizer, clip.languages).digest(clip.config)


def test_the_callers_images_are_not_kept_after_the_engine_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    digests, built = list[str](), cjkclip.load("moji", engine="numpy").engine

    def engine(config: Model, params: object, source: CalibrationSource) -> Engine:
        digests.append(source.digest(config))
        return built

    monkeypatch.setattr(int8, "engine", engine)
    images, texts = [np.full((9, 9, 3), shade, np.uint8) for shade in range(16)], [f"number {i}" for i in range(16)]
    clip = cjkclip.load("moji").quantize(images, texts)
    assert clip.engine is built
    again = pickle.loads(pickle.dumps(clip))
    assert again.engine is built
    assert digests[0] == digests[1] != ""
    kept = cast(Any, clip.__reduce__()[2])["_calibration"]
    assert kept == ((), (), digests[0])
    with pytest.raises(EngineError, match="call quantize"):
        CalibrationSource(None, (), *kept).shown(clip.config)
