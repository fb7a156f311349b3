"""The contract every row of the table keeps: loads, gives the original's numbers on every engine, saves back."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import cjkclip
from cjkclip import weights
from cjkclip.errors import FactsError
from families import ENGINES, FAMILIES, QUICK, Case

ROWS = pytest.mark.parametrize("case", FAMILIES, ids=lambda case: case.name)
ON_ENGINES = pytest.mark.parametrize("engine", ENGINES)
ATOL = 2e-6  # times the largest value of a stage, where that is above one


def difference(got: np.ndarray, expected: np.ndarray) -> float:
    assert got.shape == expected.shape
    return float(np.abs(got - expected).max() / max(1.0, float(np.abs(expected).max())))


@ROWS
@ON_ENGINES
def test_every_stage_equals_the_original(case: Case, engine: str) -> None:
    clip, expected = case.load(engine), case.expected()
    stages = clip.engine.image_stages(expected["pixel_values"])
    stages |= clip.engine.text_stages(expected["input_ids"])
    compared = {}
    for name, got in stages.items():
        want = expected.get(name)
        if want is None:
            continue
        if got.ndim == 3 and name.startswith("text_") and "attention_mask" in expected:
            # the original masked pads, which only changes the rows of pads: compare those that are kept
            kept = expected["attention_mask"][: len(want)].astype(bool)
            compared[name] = difference(got[: len(want)][kept], want[kept])
        else:
            compared[name] = difference(got[: len(want)], want)
    assert len(compared) >= case.stages
    assert {"image_features", "text_features"} <= set(compared)
    assert max(compared.values()) <= ATOL, compared


@ROWS
@ON_ENGINES
def test_unit_features_and_logits_equal_the_original(case: Case, engine: str) -> None:
    clip, expected = case.load(engine), case.expected()
    tokens = cjkclip.Tokens(
        ids=expected["input_ids"].astype(np.int64),
        mask=np.ones_like(expected["input_ids"], np.int64),
        truncated=(),
    )
    images = clip.encode_pixels(expected["pixel_values"])
    texts = clip.encode_tokens(tokens)
    assert difference(images, expected["image_features_norm"]) <= ATOL
    assert difference(texts, expected["text_features_norm"]) <= ATOL
    assert difference(clip.logit_scale * images @ texts.T, expected["logits_per_image"]) <= ATOL
    assert clip.logit_scale == pytest.approx(float(expected["logit_scale_exp"]), rel=1e-6)


@ROWS
def test_pixels_equal_the_original_to_the_bit(case: Case) -> None:
    got = case.load().preprocess(case.pictures, published=True)
    np.testing.assert_array_equal(got, case.expected()["pixel_values"])


@ROWS
def test_tokens_equal_the_original(case: Case) -> None:
    clip, expected = case.load(), case.expected()["input_ids"]
    if clip.tokenizer is None:
        assert case.layout == "openai"  # OpenAI's files carry no tokenizer
        with pytest.raises(FactsError, match="without tokenizer files"):
            clip.tokenize(["cat"])
        return
    tokens = clip.tokenize(case.inputs["texts"])
    np.testing.assert_array_equal(tokens.ids[:, : expected.shape[1]], expected)


@ROWS
@ON_ENGINES
def test_a_batch_of_one_equals_the_same_item_in_a_batch(case: Case, engine: str) -> None:
    clip, pixels = case.load(engine), case.expected()["pixel_values"]
    whole = clip.encode_pixels(pixels)
    for i in range(len(pixels)):
        assert difference(clip.encode_pixels(pixels[i : i + 1]), whole[i : i + 1]) <= ATOL


@ROWS
def test_saving_in_its_own_layout_is_bit_identical(case: Case, tmp_path: Path) -> None:
    clip = case.load()
    clip.save(tmp_path, layout=case.layout)
    original, saved = weights.read(case.folder / case.weights), weights.read(weights.find(tmp_path))
    entries = {
        "input_resolution",
        "context_length",
        "vocab_size",
    }  # of OpenAI's archives: settings, not weights
    assert set(saved) == set(original) - entries
    for name, array in saved.items():
        assert array.dtype == original[name].dtype, name
        np.testing.assert_array_equal(
            array.view(np.uint8) if array.ndim else array,
            original[name].view(np.uint8) if array.ndim else original[name],
        )


@ROWS
@pytest.mark.parametrize("layout", ["cjkclip", "own"])
def test_save_and_load_gives_the_same_vectors(case: Case, layout: str, tmp_path: Path) -> None:
    clip, expected = case.load(), case.expected()
    layout = case.layout if layout == "own" else layout
    clip.save(tmp_path, layout=layout)
    facts = QUICK if layout == "openai" else None  # OpenAI's layout has no place for facts: state them again
    if case.case == "openai-rn" and facts:
        facts = case.facts
    again = cjkclip.load(tmp_path, engine="numpy", facts=facts)
    np.testing.assert_array_equal(
        again.encode_pixels(expected["pixel_values"]), clip.encode_pixels(expected["pixel_values"])
    )
    np.testing.assert_array_equal(again.engine.text(expected["input_ids"]), clip.engine.text(expected["input_ids"]))
    if layout == "cjkclip":
        assert again.fingerprint == clip.fingerprint
        assert again.family.name == case.family


@ROWS
def test_a_wrong_fact_is_seen_by_these_tests(case: Case) -> None:
    """The bound is tight enough: a wrong activation moves the features far outside it."""
    clip, expected = case.load(), case.expected()
    config = clip.config
    assert config.text is not None
    other = "gelu" if config.text.act == "quick_gelu" else "quick_gelu"
    wrong = dataclasses.replace(config, text=dataclasses.replace(config.text, act=other))
    from cjkclip.engines import build

    engine = build(wrong, clip.params, engine="numpy", precision="fp32", device="cpu")
    assert difference(engine.text(expected["input_ids"]), expected["text_features"]) > 100 * ATOL
