"""Forms of images and labels, and options, that transformers' pipeline accepts; and the class for hub snippets."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import cjkclip
import cjkclip.compat.transformers as compat
from cjkclip.compat.transformers import pipeline
from cjkclip.errors import ImageError, LayoutError
from families import GOLDEN
from support.compat import PANDA, TASK

LABELS = ["판다", "消防车", "猫"]


@pytest.fixture(scope="module")
def bundled() -> Any:
    return pipeline(model="moji", engine="numpy")


def test_the_task_is_known(bundled: Any) -> None:
    assert type(bundled) is compat.ZeroShotImageClassificationPipeline
    assert bundled.task == TASK


def test_labels_in_one_string(bundled: Any) -> None:
    assert bundled(PANDA, "판다, 消防车,,猫") == bundled(PANDA, LABELS)


@pytest.mark.parametrize("form", ["base64", "lines", "data", "percent"])
def test_images_as_text(form: str, bundled: Any) -> None:
    text = base64.b64encode(PANDA).decode()
    forms = {"base64": text, "data": f"data:image/webp;base64,{text}", "lines": base64.encodebytes(PANDA).decode()}
    forms["percent"] = f"data:image/webp;base64,{text.replace('+', '%2B').replace('/', '%2F')}"
    assert bundled(forms[form], LABELS) == bundled(PANDA, LABELS)
    assert bundled([forms[form], PANDA], LABELS) == bundled([PANDA, PANDA], LABELS)


def test_a_path_that_looks_like_base64(bundled: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ("a" * 40)).write_bytes(PANDA)
    assert bundled("a" * 40, LABELS) == bundled(PANDA, LABELS)
    with pytest.raises(ImageError):
        bundled("b" * 40, LABELS)


def test_an_iterator_is_read_batch_by_batch(bundled: Any) -> None:
    read: list[int] = []

    def pictures() -> Iterator[bytes]:
        for number in range(5):
            read.append(number)
            yield PANDA

    results = bundled(pictures(), LABELS, batch_size=2)
    assert not read
    assert next(results)[0]["label"] == "판다"
    assert read == [0, 1]
    assert len(list(results)) == 4
    assert list(bundled(iter([]), LABELS)) == []


def test_the_batch_size_of_a_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    model = pipeline(TASK, "moji", batch_size=2, engine="numpy")
    encode = model.model.encode_image
    monkeypatch.setattr(model.model, "encode_image", lambda pictures: sizes.append(len(pictures)) or encode(pictures))
    model([PANDA] * 3, LABELS)
    model([PANDA] * 3, LABELS, batch_size=3)
    assert sizes == [2, 1, 3]


def test_options_for_the_model() -> None:
    for options in ({"device_map": "auto"}, {"device_map": {"": "cpu"}}, {"device": -1, "framework": "pt"}):
        assert pipeline(TASK, "moji", **options, subfolder="").device == torch.device("cpu")
    model = pipeline(model="moji", model_kwargs={"engine": "numpy", "torch_dtype": torch.float32})
    assert model.model.engine.name == "numpy"
    own = compat.AutoModel.from_pretrained("moji")
    parts = {"tokenizer": "moji", "image_processor": "moji"}
    assert pipeline(model=own, **parts).device == torch.device("cpu")


def test_options_for_the_tokenizer(bundled: Any) -> None:
    assert bundled(PANDA, LABELS, tokenizer_kwargs={"truncation": True, "padding": True}) == bundled(PANDA, LABELS)
    long = pipeline(model=GOLDEN / "hf-chinese-clip", tokenizer=GOLDEN / "hf-chinese-clip")
    cut = {"truncation": True, "max_length": 4}
    labels = ["猫", "猫猫猫猫猫猫猫猫"]
    scores = {
        each["label"]: each["score"] for each in long(PANDA, labels, hypothesis_template="{}", tokenizer_kwargs=cut)
    }
    assert scores["猫"] != pytest.approx(0.5)
    same = ["猫猫猫", "猫猫"]
    scores = {
        each["label"]: each["score"] for each in long(PANDA, same, hypothesis_template="{}", tokenizer_kwargs=cut)
    }
    assert scores["猫猫"] == pytest.approx(scores["猫猫猫"])


def test_the_class_in_the_snippets_of_the_hub() -> None:
    kind = compat.AutoModelForZeroShotImageClassification
    for case, name in (("hf-chinese-clip", "ChineseCLIPModel"), ("hf-dual-v4", "VisionTextModel")):
        assert type(kind.from_pretrained(GOLDEN / case)).__name__ == name
    with pytest.raises(LayoutError, match="contains one tower, but zero-shot classification needs two"):
        kind.from_pretrained(GOLDEN / "hf-clip-text-projection")
    assert cjkclip.load(GOLDEN / "hf-dual-v4").embed_dim
