"""Two checkpoints side by side: the same in any layout; else the first stage that differs, and why."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cjkclip
from cjkclip import verify
from cjkclip.checkpoints import weights
from cjkclip.errors import InputError
from families import FAMILIES, GOLDEN, HEADS, QUICK, Case
from support.cli import answer, run

EOS2, GELU = GOLDEN / "hf-clip-eos2", GOLDEN / "hf-clip-gelu"
CROP_SIZES = (224, 288, 336, 384, 448)


def load(path: Path, **asked: Any) -> cjkclip.Clip:
    return cjkclip.load(path, engine="numpy", **asked)


def stage(report: verify.Comparison, name: str) -> verify.Stage:
    return next(each for each in report.stages if each.name == name)


def first(report: verify.Comparison) -> str | None:
    return None if report.first is None else report.first.name


def changed(source: Path, folder: Path, change: Callable[[weights.Tensors], None]) -> Path:
    """A copy of a transformers folder with other weights."""
    shutil.copytree(source, folder)
    tensors = weights.read(folder / "model.safetensors")
    own = weights.Tensors({name: array.copy() for name, array in tensors.items()})
    change(own)
    weights.write(folder / "model.safetensors", own)
    return folder


@pytest.mark.parametrize("case", FAMILIES, ids=lambda case: case.name)
def test_every_model_is_the_same_in_our_own_layout(case: Case, tmp_path: Path) -> None:
    report = verify.compare(case.load(), load(case.load().save(tmp_path)))
    assert report.same, report.first
    assert report.facts == ()
    assert len(report.stages) >= (4 if case.towers != "both" else 8)


def test_names_are_loaded_and_the_report_is_in_order() -> None:
    report = verify.compare(EOS2, str(EOS2))
    names = [each.name for each in report.stages]
    assert names[:3] == ["tokens", "pixels", "image_embeddings"]
    assert names.index("image_features") < names.index("text_embeddings") < names.index("text_features")
    assert names[-1] == "logit_scale"
    assert [each.relative for each in report.stages] == [0] * len(names)


@pytest.mark.parametrize(
    ("facts", "where", "least"),
    [
        ({"vision.act": "quick_gelu"}, "image_block_0", 1e-4),
        ({"vision.eps": 1e-6}, "image_ln_pre", 2e-6),
        ({"text.act": "quick_gelu"}, "text_block_0", 1e-4),
        ({"text.pool": "largest-id", "text.eot": 743}, None, 0),
    ],
)
def test_a_wrong_fact_is_found_where_it_acts(facts: dict[str, Any], where: str | None, least: float) -> None:
    report = verify.compare(load(GELU), load(GELU, facts=facts))
    assert first(report) == where
    assert [fact.partition(":")[0] for fact in report.facts] == list(facts)[:1]
    if where is not None:
        assert (stage(report, where).relative or 0) > least


def test_a_changed_weight_is_found_where_it_stands(tmp_path: Path) -> None:
    def change(tensors: weights.Tensors) -> None:
        tensors["text_model.encoder.layers.1.mlp.fc1.bias"][3] += 1e-3

    report = verify.compare(load(EOS2), load(changed(EOS2, tmp_path / "m", change)))
    assert first(report) == "text_block_1"
    assert report.within(stage(report, "image_features"))


def test_the_scale_is_compared(tmp_path: Path) -> None:
    def change(tensors: weights.Tensors) -> None:
        tensors["logit_scale"] += 1e-3

    report = verify.compare(load(EOS2), load(changed(EOS2, tmp_path / "m", change)))
    assert first(report) == "logit_scale"
    assert report.first is not None
    assert report.first.relative == pytest.approx(1e-3, rel=0.1)


def test_numbers_that_are_none_differ_from_themselves(tmp_path: Path) -> None:
    def change(tensors: weights.Tensors) -> None:
        tensors["vision_model.pre_layrnorm.bias"][0] = np.nan

    broken = load(changed(EOS2, tmp_path / "m", change))
    report = verify.compare(broken, broken)
    assert (first(report), stage(report, "image_ln_pre").note) == ("image_ln_pre", "values that are not finite")


def test_another_tokenizer_is_told_and_the_towers_are_compared_all_the_same(tmp_path: Path) -> None:
    shutil.copytree(EOS2, tmp_path / "m")
    merges = (EOS2 / "merges.txt").read_text("utf-8").splitlines()
    (tmp_path / "m" / "merges.txt").write_text("\n".join(merges[:-60]), "utf-8")
    report = verify.compare(load(EOS2), load(tmp_path / "m"))
    tokens, *rest = report.stages
    assert tokens.name == first(report) == "tokens"
    assert tokens.apart
    assert tokens.note.startswith("different ids for")
    assert [each.relative for each in rest] == [0] * len(rest)


def test_another_crop_is_told_and_the_towers_are_compared_all_the_same() -> None:
    report = verify.compare(load(EOS2), load(EOS2, facts={"image.crop": "half-even"}))
    assert first(report) == "pixels"
    assert stage(report, "pixels").note.endswith("of 6 images")
    assert report.facts == ("image.crop: 'floor' and 'half-even'",)
    assert [each.name for each in report.stages if not report.within(each)] == ["pixels"]


@pytest.mark.parametrize("size", CROP_SIZES)
def test_the_pictures_tell_one_rounding_of_the_crop_from_the_other(size: int) -> None:
    surplus = [size * max(picture.size) // min(picture.size) - size for picture in verify.pictures()]
    assert any(round(each / 2) != each // 2 for each in surplus)


def test_the_sentences_are_of_five_languages_and_some_are_too_long() -> None:
    texts = verify.sentences()
    assert len(texts) == 35
    assert len(set(texts)) > 30  # the two Chinese share words
    assert verify.sentences() == texts
    assert load(EOS2).tokenize(texts).truncated


def test_a_single_tower_is_compared_with_the_whole(tmp_path: Path) -> None:
    shutil.copytree(EOS2, tmp_path / "m")
    tensors = {n: a for n, a in weights.read(EOS2 / "model.safetensors").items() if n.startswith("text_")}
    weights.write(tmp_path / "m" / "model.safetensors", tensors)
    report = verify.compare(load(EOS2), load(tmp_path / "m"))
    assert report.same
    assert report.facts == ("only the first has an image tower",)
    assert {each.name.partition("_")[0] for each in report.stages} == {"tokens", "text"}


def test_towers_that_have_nothing_in_common_are_refused() -> None:
    text, vision = GOLDEN / "hf-clip-text-projection", GOLDEN / "hf-clip-vision-projection"
    with pytest.raises(InputError, match="no tower in common"):
        verify.compare(load(text), load(vision))


def test_stages_that_only_one_has_and_ids_that_do_not_fit_are_told() -> None:
    report = verify.compare(load(EOS2), load(GELU))  # of 754 and 744 ids
    assert "do not fit the second: it accepts 77 ids per text, below 744" in stage(report, "text_features").note
    whole = load(EOS2)
    assert whole.config.vision is not None
    deeper = dataclasses.replace(whole.config, vision=dataclasses.replace(whole.config.vision, depth=1))
    shallow = cjkclip.Clip(dataclasses.replace(whole._found, config=deeper), ("numpy", "fp32", "cpu"))  # pyright: ignore
    report = verify.compare(whole, shallow)
    assert (first(report), stage(report, "image_block_1").note) == ("image_block_1", "only the first has this stage")
    larger = load(GOLDEN / "openai-rn", facts={"text.act": "quick_gelu", "text.heads": 1})
    assert stage(verify.compare(whole, larger), "image_features").note.startswith("pixels of 32 a side do not fit")


def test_the_engines_differ_by_less_than_the_tolerance_and_by_more_than_nothing() -> None:
    clips = cjkclip.load(EOS2, engine="numpy"), cjkclip.load(EOS2, engine="openvino")
    assert verify.compare(*clips).same
    assert not verify.compare(*clips, tolerance=0).same


def test_towers_without_a_tokenizer_are_compared_on_made_ids() -> None:
    path = GOLDEN / "openai-vit" / "model.pt"
    report = verify.compare(load(path, facts=QUICK), load(path, facts=QUICK | {"text.act": "gelu"}))
    assert first(report) == "text_block_0"
    assert "tokens" not in {each.name for each in report.stages}


def test_verify_answers_for_machines_and_for_people() -> None:
    data = answer("verify", EOS2, EOS2, "--engine", "numpy")
    assert (data["same"], data["first"], data["tolerance"]) == (True, None, 2e-6)
    assert {"name": "pixels", "apart": 0, "relative": 0, "same": True}.items() <= data["stages"][1].items()
    shown = run("verify", EOS2, EOS2, "--engine", "numpy").stdout
    assert f"the same: {len(data['stages'])} stages within 2e-06" in shown
    data = answer("verify", EOS2, GELU, code=1)
    assert (data["same"], data["first"]) == (False, "tokens")
    result = run("verify", EOS2, GELU)
    assert result.exit_code == 1
    assert "configs: vision.act: 'quick_gelu' and 'gelu'" in result.stdout
    assert "not the same: tokens is the first stage that differs" in result.stdout
    assert answer("verify", EOS2, EOS2.parent / "nothing", code=3)["error"]["kind"] == "ModelNotFoundError"


def test_verify_hears_facts_and_a_second_source(tmp_path: Path) -> None:
    case = next(case for case in FAMILIES if case.case == "taiyi-pooler-gelu")
    case.load().save(tmp_path / "ours")
    data = answer("verify", case.folder / "text", tmp_path / "ours", "--image-tower", case.folder / "image")
    assert data["same"]
    assert "image_features" in {each["name"] for each in data["stages"]}
    path = GOLDEN / "cn-clip-vit" / "model.pt"
    stated = [word for name, value in HEADS.items() for word in ("--fact", f"{name}={value}")]
    assert answer("verify", path, path, *stated)["same"]
    assert answer("verify", path, path, code=3)["error"]["kind"] == "FactsError"
    assert run("verify", path, path, "--fact", "vision.heads").exit_code == 2
