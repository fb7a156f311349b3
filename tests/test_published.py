"""The figures that five model cards publish, from the published weights: `make test-hub`, with the network on.

Where a card gives no figures, its own example is asked for what it must show. Differences that are left have a cause:
cards were made with other versions of their image libraries, and cn_clip's readme with weights rounded to fp16.
"""

from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import hf_hub_download
from huggingface_hub.utils import get_session

import cjkclip

pytestmark = pytest.mark.hub

CATS = "http://images.cocodataset.org/val2017/000000039769.jpg"  # two cats on a pink sofa
POKEMON = "https://clip-cn-beijing.oss-cn-beijing.aliyuncs.com/pokemon.jpeg"
DOG = "https://raw.githubusercontent.com/rinnakk/japanese-clip/master/data/dog.jpeg"
NAMES = ["杰尼龟", "妙蛙种子", "小火龙", "皮卡丘"]
CHINESE = "OFA-Sys/chinese-clip-vit-base-patch16"
KOREAN = "Bingsu/clip-vit-base-patch32-ko"
JAPANESE = "rinna/japanese-clip-vit-b-16"
TAIYI = "IDEA-CCNL/Taiyi-CLIP-RoBERTa-102M-ViT-L-Chinese"


@pytest.fixture
def picture(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The picture at a URL, downloaded now."""
    answer = get_session().get(request.param, timeout=60)
    answer.raise_for_status()
    file = tmp_path / "picture.jpg"
    file.write_bytes(answer.content)
    return str(file)


def at(url: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("picture", [url], indirect=True, ids=[url.rpartition("/")[2]])


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def scores(clip: cjkclip.Clip, picture: str, texts: list[str]) -> np.ndarray:
    return softmax(clip.logits([picture], texts)[0])


@at(CATS)
def test_openai(picture: str) -> None:
    """The card prints no figures; these logits are what transformers' own tests expect of its example."""
    clip = cjkclip.load("openai/clip-vit-base-patch32")
    [logits] = clip.logits([picture], ["a photo of a cat", "a photo of a dog"])
    np.testing.assert_allclose(logits, [24.5701, 19.3049], atol=2e-2)


@at(POKEMON)
def test_chinese(picture: str) -> None:
    found = scores(cjkclip.load(CHINESE), picture, NAMES)
    np.testing.assert_allclose(found, [1.2686e-03, 5.4499e-02, 6.7968e-04, 9.4355e-01], atol=1e-3)


@at(POKEMON)
def test_chinese_from_the_file_of_cn_clip(picture: str) -> None:
    file = hf_hub_download(CHINESE, "clip_cn_vit-b-16.pt")
    found = scores(cjkclip.load(file, precision="fp16-weights"), picture, NAMES)
    np.testing.assert_allclose(found, [1.268734e-03, 5.436878e-02, 6.795761e-04, 9.436829e-01], atol=1e-3)


@at(CATS)
@pytest.mark.parametrize(
    "card",
    [
        {"고양이 두 마리": 0.9926, "개 두 마리": 0.0074},
        {
            "분홍색 소파에 드러누운 고양이 친구들": 0.9456236958503723,
            "고양이 두 마리": 0.05315302312374115,
            "고양이 한 마리": 0.0012233294546604156,
        },
    ],
    ids=["model", "pipeline"],
)
def test_korean(picture: str, card: dict[str, float]) -> None:
    found = scores(cjkclip.load(KOREAN), picture, list(card))
    np.testing.assert_allclose(found, list(card.values()), atol=2e-3)


@at(DOG)
def test_japanese(picture: str) -> None:
    """The card's score is saturated, so it is no proof; the cosines behind it must be in order too, and be cosines."""
    clip = cjkclip.load(JAPANESE)
    texts = ["犬", "猫", "象"]
    long = clip.encode_image([picture], normalize=False) @ clip.encode_text(texts, normalize=False).T
    np.testing.assert_allclose(softmax(100 * long[0]), [1, 0, 0], atol=1e-4)
    cosines = (clip.encode_image([picture]) @ clip.encode_text(texts).T)[0]
    assert cosines.argmax() == 0
    assert np.abs(cosines).max() < 0.9


@at(CATS)
def test_taiyi(picture: str) -> None:
    """Its card publishes scores on whole test sets only; its example has to see cats, and one text is one feature."""
    clip = cjkclip.load(TAIYI)
    texts = ["一只猫", "一只狗", "两只猫", "两只老虎", "一只老虎"]
    found = scores(clip, picture, texts)
    assert "猫" in texts[int(found.argmax())]
    np.testing.assert_allclose(clip.encode_text(texts)[0], clip.encode_text(texts[:1])[0], atol=1e-5)
