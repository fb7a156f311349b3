"""`cjkclip doctor MODEL`: each thing that can be wrong with a model is found, and the finding says what to do."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ml_dtypes import bfloat16

import cjkclip
from cjkclip.checkpoints import weights
from families import GOLDEN, QUICK
from support.cli import answer

EOS2 = GOLDEN / "hf-clip-eos2"


def checks(*args: str | Path, code: int = 0) -> dict[str, dict[str, str]]:
    data = answer("doctor", *args, "--engine", "numpy", code=code)
    assert data["well"] is (code == 0)
    return {check["name"]: check for check in data["checks"]}


def amiss(found: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return the checks that are not ok. Fonts do not count, because they depend on the computer."""
    return {name: check["status"] for name, check in found.items() if check["status"] != "ok" and name != "fonts"}


def copied(source: Path, folder: Path, *leave_out: str) -> Path:
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("images", "expected.npz", *leave_out))
    return folder


def test_a_model_that_is_well(tmp_path: Path) -> None:
    found = checks(copied(EOS2, tmp_path / "m"))
    assert amiss(found) == {}
    assert found["parameters"]["found"] == "55,465 (image 24,960, text 30,504)"
    assert found["stored as"]["found"] == "float32 in 78 tensors"
    assert found["activation"]["found"] == "vision.act quick_gelu, text.act quick_gelu"
    assert found["logit scale"]["found"] == "22.2 (logarithm 3.1000)"
    assert set(found) >= {"weights finite", "files", "texts encode", "pictures encode", "engine agrees"}


def test_running_statistics_are_no_parameters() -> None:
    found = checks(GOLDEN / "openai-rn", "--fact", "text.act=quick_gelu", "--fact", "text.heads=1")
    tensors = weights.read(GOLDEN / "openai-rn" / "model.pt")
    count = sum(array.size for name, array in tensors.items() if "running" not in name and "num_batches" not in name)
    assert found["parameters"]["found"].startswith(f"{count:,} (image ")
    assert "int64" not in found["stored as"]["found"]


def test_the_end_token_and_the_pooling_do_not_fit() -> None:
    found = checks(GOLDEN / "koclip-naive-eos1", code=3)
    assert amiss(found) == {"model loads": "fail"}
    assert "but the end token is id 1," in found["model loads"]["found"]
    assert 'facts={"text.pool": "first-eot", "text.eot": 1}' in found["model loads"]["found"]
    found = checks(GOLDEN / "koclip-naive-eos1", "--fact", "text.pool=first-eot", "--fact", "text.eot=1")
    assert amiss(found) == {}


def test_facts_that_are_missing_and_files_that_are_missing() -> None:
    path = GOLDEN / "openai-vit" / "model.pt"
    assert (
        'load(..., facts={"vision.heads": 1, "vision.act": "quick_gelu"' in checks(path, code=3)["model loads"]["found"]
    )
    stated = [word for name, value in QUICK.items() for word in ("--fact", f"{name}={value}")]
    found = checks(path, *stated)
    assert amiss(found) == {"files": "note"}
    assert "no tokenizer: put tokenizer.json" in found["files"]["found"]
    assert "float16" in found["stored as"]["found"]


def test_preprocessing_is_not_known(tmp_path: Path) -> None:
    found = checks(copied(EOS2, tmp_path / "m", "preprocessor_config.json"))
    assert amiss(found) == {"files": "note"}
    assert found["files"]["found"] == "no preprocessing: put preprocessor_config.json beside the weights"
    assert "pictures encode" not in found


@pytest.mark.parametrize(
    ("case", "what"),
    [("hf-clip-text-projection", "no image tower"), ("hf-clip-vision-projection", "no text tower")],
)
def test_a_single_tower_is_no_failure(case: str, what: str) -> None:
    found = checks(GOLDEN / case)
    assert amiss(found) == {"files": "note"}
    assert what in found["files"]["found"]
    assert found["logit scale"]["found"] == "not used by a single tower"


def test_a_second_source_makes_it_whole() -> None:
    text, image = GOLDEN / "taiyi-pooler-gelu" / "text", GOLDEN / "taiyi-pooler-gelu" / "image"
    assert "--image-tower" in checks(text)["files"]["found"]
    assert amiss(checks(text, "--image-tower", image)) == {}


@pytest.mark.parametrize(
    ("name", "case", "other"),
    [
        ("ViT-B-32-openai", "open-clip-customtext", "quick_gelu"),
        ("vit_base_patch32_clip_224.laion400m_e32", "open-clip-customtext", "quick_gelu"),
        ("vit_base_patch16_clip_224.laion400m_e32", "open-clip-customtext", None),
        ("CLIP-ViT-B-32-laion2B-s34B-b79K", "open-clip", "gelu"),
        ("CLIP-ViT-B-32-laion2B-s34B-b79K", "open-clip-customtext", None),
        ("ViT-B-16-quickgelu-dfn2b", "open-clip", None),
        ("chinese-clip-vit-base-patch16", "hf-chinese-clip", None),
        ("my-own", "open-clip-customtext", None),
    ],
)
def test_a_name_that_speaks_of_another_activation_is_a_hint(
    name: str, case: str, other: str | None, tmp_path: Path
) -> None:
    found = checks(copied(GOLDEN / case, tmp_path / name))["activation"]
    assert found["status"] == ("note" if other else "ok")
    if other:
        facts = {"vision.act": other, "text.act": other}
        assert f"were trained with {other}" in found["found"]
        assert f"facts={facts!r}" in found["found"]


def with_tensors(folder: Path, change: Callable[[weights.Tensors], None]) -> Path:
    tensors = weights.read(folder / "model.safetensors")
    own = weights.Tensors({name: array.copy() for name, array in tensors.items()})
    change(own)
    weights.write(folder / "model.safetensors", own)
    return folder


@pytest.mark.parametrize(
    ("log", "status"),
    [(np.log(100), "ok"), (4.609, "ok"), (4.7, "note"), (50.0, "fail")],
)
def test_the_scale(log: float, status: str, tmp_path: Path) -> None:
    def change(tensors: weights.Tensors) -> None:
        tensors["logit_scale"] = np.array(log, np.float32)

    folder = with_tensors(copied(EOS2, tmp_path / "m"), change)
    found = checks(folder, code=3 if status == "fail" else 0)
    assert found["logit scale"]["status"] == status
    if status == "fail":
        assert "not its logarithm" in found["logit scale"]["found"]


@pytest.mark.parametrize("log", [100.0, np.nan, -np.inf])
def test_a_scale_that_cannot_be_computed_with_does_not_load(log: float, tmp_path: Path) -> None:
    def change(tensors: weights.Tensors) -> None:
        tensors["logit_scale"] = np.array(log, np.float32)

    found = checks(with_tensors(copied(EOS2, tmp_path / "m"), change), code=3)
    assert found["model loads"]["status"] == "fail"
    assert "expected the logarithm of a scale" in found["model loads"]["found"]


def test_weights_that_are_no_numbers(tmp_path: Path) -> None:
    def change(tensors: weights.Tensors) -> None:
        tensors["text_model.encoder.layers.0.mlp.fc1.weight"][2, 3] = np.inf

    found = checks(with_tensors(copied(EOS2, tmp_path / "m"), change), code=3)
    assert amiss(found) == {"weights finite": "fail", "texts encode": "fail"}
    assert "1 of 78 tensors" in found["weights finite"]["found"]
    assert "text.blocks.0.mlp.fc1.weight" in found["weights finite"]["found"]


def test_how_the_weights_are_stored(tmp_path: Path) -> None:
    def change(tensors: weights.Tensors) -> None:
        name = "visual_projection.weight"
        tensors[name] = tensors[name].astype(bfloat16)
        tensors["text_projection.weight"] = tensors["text_projection.weight"].astype(np.float64)

    found = checks(with_tensors(copied(EOS2, tmp_path / "m"), change))["stored as"]
    assert found["status"] == "note"
    assert found["found"].startswith("float32 in 76 tensors, float64 in 1 tensors, bfloat16 in 1 tensors: ")


@pytest.mark.parametrize(
    ("precision", "cosine", "advice"),
    [("bf16", 0.99, "fp32"), ("int8", 0.99, None), ("int8", 0.9, "fp32"), ("fp32", 0.9999, "numpy")],
)
def test_how_close_an_engine_has_to_be_goes_by_its_precision(
    monkeypatch: pytest.MonkeyPatch, precision: str, cosine: float, advice: str | None
) -> None:
    real = cjkclip.load

    def load(name: str, *, engine: str, **more: Any) -> cjkclip.Clip:
        clip = real(name, **more | {"engine": "numpy", "precision": "fp32"})
        if engine != "numpy":

            def aside(pixels: np.ndarray) -> np.ndarray:
                vectors = exact.image(pixels)
                other = np.roll(vectors, 1, axis=1)
                other -= vectors * (vectors * other).sum() / (vectors**2).sum()
                other *= np.linalg.norm(vectors) / np.linalg.norm(other) * np.sqrt(cosine**-2 - 1)
                return vectors + other.astype(np.float32)

            exact = clip.engine
            rough = SimpleNamespace(name="openvino", precision=precision, device="cpu", image=aside, text=exact.text)
            monkeypatch.setattr(clip, "engine", rough)
        return clip

    monkeypatch.setattr(cjkclip, "load", load)
    data = answer("doctor", EOS2, "--engine", "openvino", "--precision", precision, code=5 if advice else 0)
    found = {check["name"]: check for check in data["checks"]}["engine agrees"]
    assert found["status"] == ("fail" if advice else "ok")
    assert f"cosine {cosine:.5f}" in found["found"]
    assert advice is None or found["found"].endswith(advice)
