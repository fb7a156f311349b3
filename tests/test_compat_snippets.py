"""Run the whole published snippets with cjkclip's import line on tiny weights; compare with transformers' numbers."""

from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from cjkclip.compat import transformers as ours
from families import GOLDEN
from support.peers import transformers

TEXTS = {
    "hf-chinese-clip": ["杰尼龟", "妙蛙种子", "小火龙", "皮卡丘"],
    "hf-clip-eos2": ["a photo of a cat", "a photo of a dog"],
    "koclip": ["고양이 두 마리", "개 두 마리"],
}


def features_and_scores(classes: tuple[Any, Any], name: str, image: PIL.Image.Image, texts: list[str]) -> Any:
    """Run snippets 2 and 3, line by line."""
    model, processor = (each.from_pretrained(name) for each in classes)

    inputs = processor(images=image, return_tensors="pt")
    image_features = model.get_image_features(**inputs)
    image_features = image_features / image_features.norm(p=2, dim=-1, keepdim=True)

    inputs = processor(text=texts, padding=True, return_tensors="pt")
    text_features = model.get_text_features(**inputs)
    text_features = text_features / text_features.norm(p=2, dim=-1, keepdim=True)

    inputs = processor(text=texts, images=image, return_tensors="pt", padding=True)
    outputs = model(**inputs)
    logits_per_image = outputs.logits_per_image
    return image_features, text_features, logits_per_image, logits_per_image.softmax(dim=1)


def theirs(name: str, image: PIL.Image.Image, texts: list[str]) -> Any:
    """Compute the same with transformers 5.23, which cannot run those lines: it returns features inside an object."""
    peer = transformers()
    from transformers.models.chinese_clip.image_processing_pil_chinese_clip import ChineseCLIPImageProcessorPil
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    chinese = "chinese" in name
    model = (peer.ChineseCLIPModel if chinese else peer.CLIPModel).from_pretrained(name).eval()
    tokenizer = (peer.BertTokenizer if chinese else peer.CLIPTokenizer).from_pretrained(name)
    pixels = (ChineseCLIPImageProcessorPil if chinese else CLIPImageProcessorPil).from_pretrained(name)
    read, seen = tokenizer(texts, padding=True, return_tensors="pt"), pixels(image, return_tensors="pt")
    with pytest.raises(AttributeError):
        model.get_image_features(**seen).norm(p=2, dim=-1, keepdim=True)
    logits = model(**read, **seen).logits_per_image
    features = (model.get_image_features(**seen).pooler_output, model.get_text_features(**read).pooler_output)
    return *(torch.nn.functional.normalize(each) for each in features), logits, logits.softmax(dim=1)


@pytest.mark.parametrize(
    ("case", "classes"),
    [
        ("hf-chinese-clip", ("ChineseCLIPModel", "ChineseCLIPProcessor")),
        ("hf-clip-eos2", ("CLIPModel", "CLIPProcessor")),
        ("koclip", ("AutoModel", "AutoProcessor")),
        ("hf-chinese-clip", ("AutoModel", "AutoProcessor")),
    ],
)
def test_features_and_scores(case: str, classes: tuple[str, str]) -> None:
    name, image = str(GOLDEN / case), PIL.Image.open(GOLDEN / case / "images" / "a.png").convert("RGB")
    got = features_and_scores(tuple(getattr(ours, each) for each in classes), name, image, TEXTS[case])
    want = theirs(name, image, TEXTS[case])
    assert len(got) == len(want) == 4
    for mine, other in zip(got, (each.detach() for each in want), strict=True):
        assert mine.shape == other.shape
        assert (mine.detach() - other).abs().max() <= 1e-5 * max(1.0, float(other.abs().max()))


def test_the_pipeline_by_its_published_call() -> None:
    """Snippet 4 (b) uses images= and hypothesis_template="{}"; transformers 5 no longer accepts images=."""
    image = GOLDEN / "koclip" / "images" / "a.png"
    pipe = ours.pipeline("zero-shot-image-classification", model=str(GOLDEN / "koclip"))
    result = pipe(images=str(image), candidate_labels=TEXTS["koclip"], hypothesis_template="{}")
    *_, scores = theirs(str(GOLDEN / "koclip"), PIL.Image.open(image).convert("RGB"), TEXTS["koclip"])
    want = sorted(zip(scores[0].tolist(), TEXTS["koclip"], strict=True), reverse=True)
    assert [each["label"] for each in result] == [label for _, label in want]
    np.testing.assert_allclose([each["score"] for each in result], [score for score, _ in want], atol=3e-6)
