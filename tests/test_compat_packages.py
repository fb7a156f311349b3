"""Compare compat's open_clip, and Taiyi loaded in one line, with the originals; test what all three packages share."""

import warnings
from typing import Any

import numpy as np
import pytest
import torch

import cjkclip
from cjkclip.compat import cn_clip, japanese_clip, open_clip
from cjkclip.compat.towers import TorchClip
from cjkclip.errors import FactsError, InputError, ModelNotFoundError, OptionError
from cjkclip.image.crop import random_box
from cjkclip.text.bpe import OPEN_CLIP, clip_bpe
from cjkclip.text.wordpiece import CN_CLIP, chinese_bert
from families import FAMILIES, GOLDEN, HEADS, Case
from support.cases import row_of
from support.compat import ATOL, STRINGS, near, tensor
from support.images import photo
from support.peers import open_clip as open_clips_own
from support.peers import transformers
from support.processes import python

BOTH = [row for row in FAMILIES if row.towers == "both" and not row.form]


# open_clip


@pytest.mark.parametrize("case", ["open-clip", "open-clip-customtext"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_open_clip_beside_itself(case: str) -> None:
    name, expected = f"local-dir:{GOLDEN / case}", row_of(case).expected()
    theirs, their_train, their_preprocess = open_clips_own().create_model_and_transforms(name)
    mine, train, preprocess = open_clip.create_model_and_transforms(name, device="cpu")
    images = [photo(), photo(35, 90, "RGBA"), photo(200, 33, "P"), photo(31, 40, "L")]
    pixels = torch.stack([preprocess(image) for image in images])
    assert torch.equal(pixels, torch.stack([their_preprocess(image) for image in images]))
    for seed in range(20):
        for image in (*images, photo(400, 20), photo(20, 400)):
            both = []
            for transform in (train, their_train):
                torch.manual_seed(seed)
                both.append(transform(image))
            assert torch.equal(*both)
    theirs.eval()
    ids = tensor(expected, "input_ids")
    with torch.no_grad():
        for normalize in (False, True):
            near(mine.encode_image(pixels, normalize=normalize), theirs.encode_image(pixels, normalize=normalize))
            near(mine.encode_text(ids, normalize=normalize), theirs.encode_text(ids, normalize=normalize))
        for one, other in zip(mine(pixels, ids), theirs(pixels, ids), strict=True):
            near(one, other)
        assert mine(pixels)[1] is theirs(pixels)[1] is None
        near(mine(text=ids)[1], theirs(text=ids)[1])
        for one, other in zip(mine.get_logits(pixels, ids), theirs.get_logits(pixels, ids), strict=True):
            near(one, other)
        near(mine.logit_scale, theirs.logit_scale)


def test_open_clip_tokenizes_as_itself() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the peer do not matter here
        peer = open_clips_own().get_tokenizer("ViT-B-32")
    mine = open_clip.get_tokenizer("ViT-B-32-quickgelu")
    assert torch.equal(mine(STRINGS), peer(STRINGS))
    assert torch.equal(mine("two cats", context_length=16), peer("two cats", context_length=16))
    assert torch.equal(open_clip.get_tokenizer("RN50", 20)(STRINGS), peer(STRINGS, context_length=20))
    assert mine.decode(mine("two cats")[0, 1:3]) == "two cats "


@pytest.mark.parametrize("case", BOTH, ids=lambda case: case.name)
def test_every_family_in_open_clips_shape(case: Case) -> None:
    """Golden pixels and ids give golden features; padding is recognised by its id."""
    tower: dict[str, Any] = {"image_tower": case.folder / case.image} if case.image else {}
    path = case.folder / case.weights if case.facts or case.image else case.folder
    family = case.asked.get("family")
    model, preprocess = open_clip.create_model_from_pretrained(
        str(path), device="cpu", facts=case.facts, family=family, **tower
    )
    expected = case.expected()
    near(model.encode_image(tensor(expected, "pixel_values")), expected["image_features"])
    ids = tensor(expected, "input_ids")
    near(model.encode_text(ids), expected["text_features"])
    if case.family != "moji":
        assert preprocess(case.pictures[0]).shape == expected["pixel_values"].shape[1:]
    clip = case.load()
    assert model.logit_scale.exp().item() == pytest.approx(clip.logit_scale, rel=1e-6)
    if clip.tokenizer is not None:
        tokenizer = open_clip.get_tokenizer(str(path), facts=case.facts, family=family, **tower)
        assert np.array_equal(tokenizer(case.inputs["texts"]), clip.tokenize(case.inputs["texts"]).ids)


def test_names_of_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(
        open_clip, "load_clip", lambda name, *_, **__: seen.append(name) or cjkclip.load("moji", engine="torch")
    )
    file = str(GOLDEN / "openai-vit" / "model.pt")
    for name, weights in (
        ("ViT-B-32", "openai"),
        ("ViT-L-14-quickgelu", "openai"),
        ("ViT-B-32", file),
        ("hf-hub:laion/CLIP-ViT-H-14-laion2B-s32B-b79K", None),
        ("OFA-Sys/chinese-clip-rn50", None),
    ):
        open_clip.create_model(name, weights)
    assert seen == ["ViT-B-32", "ViT-L-14", file, "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "OFA-Sys/chinese-clip-rn50"]


BAD: dict[str, tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "no weights": (("ViT-B-32",), {}, InputError, "random weights"),
    "another tag": (("ViT-B-32", "laion2b_s34b_b79k"), {}, InputError, "neither a file nor OpenAI's"),
    "OpenAI never trained it": (("ViT-H-14", "openai"), {}, InputError, "neither a file nor OpenAI's"),
    "an unknown option": (("moji",), {"jit": True}, OptionError, "'jit'"),
    "another precision": (("moji",), {"precision": "fp16"}, InputError, "'fp32'"),
    "no such folder": (("local-dir:nowhere/at/all",), {}, ModelNotFoundError, "nowhere"),
}


@pytest.mark.parametrize(("names", "options", "error", "words"), BAD.values(), ids=list(BAD))
def test_bad_calls_of_open_clip(
    names: tuple[Any, ...], options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        open_clip.create_model_and_transforms(*names, **options)


# Taiyi: two packages in the published code, one line here


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_taiyi_in_one_line_beside_the_two_packages() -> None:
    """Originals: transformers' BERT pooler and open_clip's image tower; one text a call: the cards mask no padding."""
    folder, texts = GOLDEN / "taiyi-pooler-gelu", ["一只猫", "两只老虎", "皮卡丘"]
    bert = transformers().BertModel.from_pretrained(str(folder / "text")).eval()
    tokenizer = transformers().BertTokenizer.from_pretrained(str(folder / "text"))
    seen, preprocess = open_clips_own().create_model_from_pretrained(f"local-dir:{folder / 'image'}")
    seen.eval()
    images = [photo(), photo(40, 90)]
    with torch.no_grad():
        image = seen.encode_image(torch.stack([preprocess(each) for each in images]))
        text = torch.cat([bert(tokenizer(each, return_tensors="pt")["input_ids"])[1] for each in texts])
        image, text = (features / features.norm(dim=1, keepdim=True) for features in (image, text))
        want = seen.logit_scale.exp() * image @ text.t()
    clip = cjkclip.load(folder / "text", image_tower=folder / "image", engine="numpy")
    np.testing.assert_allclose(clip.logits(images, texts), want, atol=ATOL * clip.logit_scale)


# code that all three packages share


def models() -> dict[str, TorchClip]:
    return {
        "cn_clip": cn_clip.load_from_name(str(GOLDEN / "cn-clip-vit" / "model.pt"), "cpu", facts=HEADS)[0],
        "japanese_clip": japanese_clip.load(GOLDEN / "rinna-clip", device="cpu")[0].requires_grad_(True),
        "open_clip": open_clip.create_model("moji", device="cpu"),
    }


@pytest.mark.parametrize("name", ["cn_clip", "japanese_clip", "open_clip"])
def test_gradients_flow(name: str) -> None:
    model = models()[name]
    side = model.config.vision.image_size if model.config.vision else 0
    ids = torch.tensor([[4, 7, 9], [4, 8, 2]])
    image, text = model.image_features(torch.randn(2, 3, side, side)), model.text_features(ids)
    per_image, _ = model.logits(image, text)
    torch.nn.functional.cross_entropy(per_image, torch.arange(2)).backward()
    for part in ("towers.vision.", "towers.text.", "towers.logit_scale"):
        found = [p.grad for n, p in model.named_parameters() if n.startswith(part) and p.grad is not None]
        assert found, part
        assert all(torch.isfinite(grad).all() for grad in found)
        assert max(float(grad.abs().max()) for grad in found) > 0, part


@pytest.mark.parametrize("module", ["cn_clip", "japanese_clip", "open_clip", "towers"])
def test_without_torch_the_extra_is_named(module: str) -> None:
    code = f"import sys; sys.modules['torch'] = None; import cjkclip.compat.{module}"
    done = python("-c", code)
    assert done.returncode == 1
    assert "this needs torch, which is not installed: pip install 'cjkclip[torch]'" in done.stderr


def test_a_model_takes_no_wrong_ids_or_pixels() -> None:
    model = models()["cn_clip"]
    for ids in (
        torch.zeros(2, 999, dtype=torch.int64),
        torch.zeros(3, dtype=torch.int64),
        torch.zeros(2, 3),
        torch.zeros(2, 0, dtype=torch.int64),
    ):
        with pytest.raises(InputError, match="expected whole numbers"):
            model.text_features(ids)
    for pixels in (torch.zeros(3, 32, 32), torch.zeros(2, 1, 32, 32), torch.zeros(2, 3, 16, 16)):
        with pytest.raises(InputError, match=r"expected \(n, 3, 32, 32\)"):
            model.image_features(pixels)
    half = model.to(torch.bfloat16)
    assert half.image_features(torch.zeros(1, 3, 32, 32)).dtype == torch.bfloat16


def test_a_single_tower_says_so() -> None:
    vision = TorchClip(cjkclip.load(GOLDEN / "hf-clip-v5-unprefixed" / "vision", engine="torch", device="cpu"))
    with pytest.raises(InputError, match="no text tower"):
        vision.text_features(torch.zeros(1, 3, dtype=torch.int64))
    text = TorchClip(cjkclip.load(GOLDEN / "hf-clip-v5-unprefixed" / "text", engine="torch", device="cpu"))
    with pytest.raises(InputError, match="no image tower"):
        text.image_features(torch.zeros(1, 3, 32, 32))
    with pytest.raises(FactsError, match="has no preprocessing"):
        open_clip.create_model(str(GOLDEN / "hf-clip-v5-unprefixed" / "vision"), device="cpu")
    with pytest.raises(FactsError, match="has no tokenizer files"):
        open_clip.get_tokenizer(str(GOLDEN / "hf-clip-v5-unprefixed" / "vision"))


def test_boxes_lie_inside_and_cover_what_was_asked() -> None:
    generator = np.random.default_rng(0)
    for width, height in ((640, 480), (31, 400), (5, 5), (1, 1), (1, 900)):
        for _ in range(50):
            left, top, right, bottom = random_box(
                width, height, (0.9, 1.0), generator.uniform, lambda n: int(generator.integers(n))
            )
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height
            if width == 640:
                assert 0.895 <= (right - left) * (bottom - top) / (width * height) <= 1


def test_published_vocabularies_are_those_of_the_packages() -> None:
    assert chinese_bert().rules == CN_CLIP
    assert open_clip.get_tokenizer("ViT-L-14").core is clip_bpe(OPEN_CLIP)
