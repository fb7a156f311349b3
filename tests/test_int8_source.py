"""Inputs that calibrate int8, built-in ones or the caller's own, and the cache key of the result."""

import numpy as np
import pytest

import cjkclip
from cjkclip import probes
from cjkclip.errors import InputError
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
