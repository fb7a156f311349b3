"""The contract every row of the table keeps: loads, gives the original's numbers on every engine, saves back."""

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import PIL
import pytest

import cjkclip
from cjkclip.checkpoints import weights
from cjkclip.engines import build
from cjkclip.engines.functional import image_tower, text_tower
from cjkclip.engines.numpy import NumpyOps
from cjkclip.errors import FactsError
from families import ENGINES, FAMILIES, GOLDEN, QUICK, Case
from support.cases import READING, SEEING, difference, rows

WHOLE = [case for case in FAMILIES if case.towers == "both"]
STORED = [case for case in FAMILIES if case.layout]
ON_ENGINES = pytest.mark.parametrize("engine", ENGINES)
ATOL = 2e-6  # times the largest value of a stage, where that is above one


@cache
def rounding(case: Case) -> dict[str, float]:
    """How far the original's own stages are off the same arithmetic in double precision: what is not ours to equal."""
    clip, expected, found = case.load(), case.expected(), dict[str, float]()
    params = {name: array.astype(np.float64) for name, array in clip.params.items()}
    stages: dict[str, np.ndarray] = {}
    if case in SEEING:
        pixels = expected["pixel_values"].astype(np.float64)
        image_tower(NumpyOps(), params, clip.config, pixels, stages.__setitem__)
        found |= compare(case, stages, "image")
    if case in READING:
        assert clip.config.text is not None
        stages = {}
        text_tower(NumpyOps(), params, clip.config.text, expected["input_ids"], case.mask, stages.__setitem__)
        found |= compare(case, stages, "text")
    return found


def compare(case: Case, stages: dict[str, np.ndarray], part: str) -> dict[str, float]:
    """The stages that the original's outputs name, by how far they are off."""
    expected, found = case.expected(), {}
    for name in stages:
        want = expected.get(name)
        if want is None:
            continue
        got = stages[name][: len(want)]
        if got.ndim == 3 and part == "text":
            # rows of pads may differ: the original may mask them as keys, and nobody reads them
            kept = case.mask[: len(want)].astype(bool)
            got, want = got[kept], want[kept]
        found[name] = difference(got, want)
    return found


@rows(FAMILIES)
@ON_ENGINES
def test_every_stage_equals_the_original(case: Case, engine: str) -> None:
    clip, expected = case.load(engine), case.expected()
    found: dict[str, float] = {}
    if case in SEEING:
        found |= compare(case, clip.engine.image_stages(expected["pixel_values"]), "image")
    if case in READING:
        found |= compare(case, clip.engine.text_stages(expected["input_ids"], case.mask), "text")
    assert len(found) >= case.stages
    allowed = {case.rounded: rounding(case)[case.rounded]} if case.rounded else {}
    assert max(off - allowed.get(name, 0.0) for name, off in found.items()) <= ATOL, (found, allowed)


@rows(FAMILIES)
def test_every_stage_of_the_original_equals_double_precision(case: Case) -> None:
    """Where its own numbers are off by half of what is allowed, a row may say so; nowhere else."""
    theirs = rounding(case)
    assert max(theirs.values()) <= ATOL, theirs
    assert not case.rounded or theirs[case.rounded] > ATOL / 2, theirs


@rows(WHOLE)
@ON_ENGINES
def test_unit_features_and_logits_equal_the_original(case: Case, engine: str) -> None:
    clip, expected = case.load(engine), case.expected()
    tokens = cjkclip.Tokens(ids=expected["input_ids"].astype(np.int64), mask=case.mask.astype(np.int64), truncated=())
    images = clip.encode_pixels(expected["pixel_values"])
    texts = clip.encode_tokens(tokens)
    assert difference(images, expected["image_features_norm"]) <= ATOL
    assert difference(texts, expected["text_features_norm"]) <= ATOL
    if "logits_per_image" in expected and case.case != "taiyi-clip-model":  # whose forward pools in its other way
        assert difference(clip.logit_scale * images @ texts.T, expected["logits_per_image"]) <= ATOL
    if "logit_scale_exp" in expected:
        assert clip.logit_scale == pytest.approx(float(expected["logit_scale_exp"]), rel=1e-6)


@rows([case for case in SEEING if not case.golden])
def test_pixels_equal_the_original_to_the_bit(case: Case) -> None:
    got = case.load().preprocess(case.pictures, published=True)
    expected = case.expected()["pixel_values"]
    with np.load(GOLDEN / "pixels" / "pillow12_families.npz") as older:  # see tests/test_pixels.py
        if PIL.__version__ < "13" and case.name in older:
            expected = older[case.name]
    np.testing.assert_array_equal(got, expected)


@rows([case for case in READING if not case.golden])
def test_tokens_equal_the_original(case: Case) -> None:
    clip, expected = case.load(), case.expected()["input_ids"]
    if clip.tokenizer is None:
        assert case.layout == "openai"  # OpenAI's files carry no tokenizer
        with pytest.raises(FactsError, match="has no tokenizer files"):
            clip.tokenize(["cat"])
        return
    tokenizer = clip.tokenizer
    if case.family == "taiyi":  # whose texts were cut at the width of the recorded ids, short of the position table
        tokenizer = tokenizer.under(dataclasses.replace(tokenizer.rules, context=expected.shape[1]))
    np.testing.assert_array_equal(tokenizer(case.inputs["texts"]).ids[:, : expected.shape[1]], expected)


@rows(SEEING)
@ON_ENGINES
def test_a_batch_of_one_equals_the_same_item_in_a_batch(case: Case, engine: str) -> None:
    clip, pixels = case.load(engine), case.expected()["pixel_values"]
    whole = clip.encode_pixels(pixels)
    for i in range(len(pixels)):
        assert difference(clip.encode_pixels(pixels[i : i + 1]), whole[i : i + 1]) <= ATOL


@rows(STORED)
def test_saving_in_its_own_layout_is_bit_identical(case: Case, tmp_path: Path) -> None:
    case.load().save(tmp_path, layout=case.layout)
    original, saved = weights.read(case.folder / case.weights), weights.read(weights.find(tmp_path))
    # settings of OpenAI's archives, and what cn_clip itself drops: neither is a weight of the model
    dropped = {"input_resolution", "context_length", "vocab_size", "bert.pooler.dense.weight", "bert.pooler.dense.bias"}
    dropped = {name for name in original if name.removeprefix("module.") in dropped}
    assert set(saved) == set(original) - (dropped if case.layout in ("openai", "cn_clip") else set())
    for name, array in saved.items():
        assert array.dtype == original[name].dtype, name
        assert array.tobytes() == original[name].tobytes(), name


@rows(FAMILIES)
@pytest.mark.parametrize("layout", ["cjkclip", "own"])
def test_save_and_load_gives_the_same_vectors(case: Case, layout: str, tmp_path: Path) -> None:
    clip, expected = case.load(), case.expected()
    own = layout == "own" and case.layout
    clip.save(tmp_path, layout=own or "cjkclip")
    facts = case.facts if own else None  # only our own layout has a place for every fact
    if case.case == "openai-vit-torchscript" and own:
        facts = QUICK  # what the archive told by being one
    again = cjkclip.load(tmp_path, engine="numpy", facts=facts, **(case.asked if own else {}))
    if case in SEEING:
        pixels = expected["pixel_values"]
        np.testing.assert_array_equal(again.encode_pixels(pixels), clip.encode_pixels(pixels))
        assert again.config.image == clip.config.image
    if case in READING:
        ids, mask = expected["input_ids"], case.mask
        np.testing.assert_array_equal(again.engine.text(ids, mask), clip.engine.text(ids, mask))
        if again.tokenizer is not None:
            texts = case.inputs["texts"]
            np.testing.assert_array_equal(again.tokenize(texts).ids, clip.tokenize(texts).ids)
    if not own:
        assert again.fingerprint == clip.fingerprint
        assert again.family.name == case.family


@rows(READING)
def test_a_wrong_fact_is_seen_by_these_tests(case: Case) -> None:
    """The bound is tight enough: a wrong activation moves the features far outside it."""
    clip, expected = case.load(), case.expected()
    config = clip.config
    assert config.text is not None
    other = "gelu" if config.text.act == "quick_gelu" else "quick_gelu"
    wrong = dataclasses.replace(config, text=dataclasses.replace(config.text, act=other))
    ids, mask = expected["input_ids"], case.mask
    right, off = (
        build(c, clip.params, engine="numpy", precision="fp32", device="cpu").text(ids, mask) for c in (config, wrong)
    )
    assert difference(off, right) > 100 * ATOL


@rows([case for case in FAMILIES if case.prefix == "fp32_"])
@ON_ENGINES
def test_weights_rounded_as_cn_clip_rounds_them(case: Case, engine: str) -> None:
    """cn_clip's loader rounds to fp16 before it copies fp32 values in; its features on a CPU are those of that."""
    plain = dataclasses.replace(case, prefix="").expected()
    clip = cjkclip.load(case.folder / case.weights, engine=engine, facts=case.facts, precision="fp16-weights")
    image, text = clip.engine.image(plain["pixel_values"]), clip.engine.text(plain["input_ids"], case.mask)
    assert difference(image, plain["image_features"]) <= ATOL
    assert difference(text, plain["text_features"]) <= ATOL
    assert difference(image, case.expected()["image_features"]) > 10 * ATOL  # so the rounding is seen
