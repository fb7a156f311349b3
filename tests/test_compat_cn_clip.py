"""Compare compat's cn_clip with the original on the same weights: ids, pixels, features, similarities."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cjkclip.compat import cn_clip, sources
from cjkclip.errors import FactsError, InputError, ModelNotFoundError, TextError
from families import GOLDEN, HEADS
from support.cases import row_of
from support.compat import STRINGS, near, tensor
from support.images import photo
from support.peers import CN_SIZES, load_cn_clip
from support.peers import cn_clip as cn_clips_own

FACTS = {"cn-clip-vit": HEADS, "cn-clip-vit-flash": HEADS, "cn-clip-rn": {"text.heads": 2}}


@pytest.mark.parametrize("case", CN_SIZES)
def test_cn_clip_beside_itself(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare both on the same file: ids, pixels, features, scaled cosine similarities."""
    file = GOLDEN / case / "model.pt"
    theirs, their_preprocess = load_cn_clip(case, file, tmp_path, monkeypatch)
    size = theirs.visual.input_resolution
    mine, preprocess = cn_clip.load_from_name(str(file), "cpu", facts=FACTS[case], input_resolution=size)
    images = [photo(), photo(40, 90, "RGBA"), photo(33, 33, "L")]
    pixels = torch.stack([preprocess(image) for image in images])
    assert torch.equal(pixels, torch.stack([their_preprocess(image) for image in images]))
    ids = cn_clip.tokenize(["杰尼龟", "皮卡丘", "a photo of a dog"])
    assert torch.equal(ids, cn_clips_own().tokenize(["杰尼龟", "皮卡丘", "a photo of a dog"]))
    with torch.no_grad():
        near(mine.encode_image(pixels), theirs.encode_image(pixels))
        near(mine.encode_text(ids), theirs.encode_text(ids))
        for one, other in zip(mine(pixels, ids), theirs(pixels, ids), strict=True):
            near(one, other)
        near(mine(pixels, None), theirs(pixels, None))
        near(mine(None, ids), theirs(None, ids))
        near(mine.logit_scale, theirs.logit_scale)
        for one, other in zip(mine.get_similarity(pixels, ids), theirs.get_similarity(pixels, ids), strict=True):
            near(one / mine.logit_scale.exp(), other / mine.logit_scale.exp())  # cosine similarities


@pytest.mark.parametrize("case", FACTS)
def test_cn_clip_gives_the_golden_features(case: str) -> None:
    """The keys without a prefix are from cn_clip's own CPU path, with weights rounded to fp16."""
    with np.load(GOLDEN / case / "expected.npz") as arrays:
        expected = dict(arrays)
    model, preprocess = cn_clip.load_from_name(str(GOLDEN / case / "model.pt"), "cpu", facts=FACTS[case])
    pixels = torch.stack([preprocess(path) for path in row_of(case).pictures])
    assert torch.equal(pixels, tensor(expected, "pixel_values"))
    near(model.encode_image(pixels), expected["image_features"])
    near(model.encode_text(tensor(expected, "input_ids")), expected["text_features"])


@pytest.mark.parametrize("length", [52, 24, 5])
def test_cn_clip_tokenizes_as_itself(length: int) -> None:
    theirs = cn_clips_own().tokenize(STRINGS, context_length=length)
    assert torch.equal(cn_clip.tokenize(STRINGS, context_length=length), theirs)
    assert torch.equal(cn_clip.tokenize("皮卡丘"), cn_clips_own().tokenize("皮卡丘"))


def test_cn_clips_names() -> None:
    peer = cn_clips_own()
    assert cn_clip.available_models() == peer.available_models()
    assert cn_clip.MODELS == peer.utils._MODELS
    assert set(cn_clip.__all__) == set(peer.utils.__all__)
    squashed = peer.image_transform(40)(photo())
    assert torch.equal(cn_clip.image_transform(40)(photo()), squashed)


@pytest.mark.parametrize(
    ("name", "more", "asked"),
    [
        ("ViT-B-16", {}, "OFA-Sys/chinese-clip-vit-base-patch16"),
        ("RN50", {"use_modelscope": True}, "modelscope:AI-ModelScope/chinese-clip-rn50"),
    ],
)
def test_where_cn_clip_finds_weights(
    name: str, more: dict[str, Any], asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is loaded from the hub with its cache at download_root; a file that exists there is used instead."""
    seen: list[tuple[str, Any]] = []

    def resolve(source: str, where: Any, *, family: str | None) -> Any:
        assert family == "chinese"
        seen.append((source, where.cache))
        raise ModelNotFoundError("seen")

    monkeypatch.setattr(sources.checkpoints, "resolve", resolve)
    for _ in range(2):
        with pytest.raises(ModelNotFoundError, match="seen"):
            cn_clip.load_from_name(name, download_root=str(tmp_path), **more)
        (tmp_path / cn_clip.MODELS[name][1]).touch()
    assert seen == [(asked, str(tmp_path)), (str(tmp_path / cn_clip.MODELS[name][1]), str(tmp_path))]


def test_cn_clip_loads_weights_into_a_model() -> None:
    file = str(GOLDEN / "cn-clip-vit" / "model.pt")
    model, _ = cn_clip.load_from_name(file, "cpu", facts=HEADS)
    ids = cn_clip.tokenize(["皮卡丘"])
    want = model.encode_text(ids).detach()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert cn_clip.load(model, "cpu", clip_path=file) is model
    assert torch.equal(model.encode_text(ids), want)
    with pytest.raises(InputError, match="another size or kind"):
        cn_clip.load(
            cn_clip.load_from_name(str(GOLDEN / "cn-clip-rn" / "model.pt"), facts={"text.heads": 2})[0], clip_path=file
        )
    with pytest.raises(InputError, match="clip_path"):
        cn_clip.load(model, bert_path=file)


def test_bad_calls_of_cn_clip() -> None:
    file = str(GOLDEN / "cn-clip-vit" / "model.pt")
    model, _ = cn_clip.load_from_name(file, "cpu", facts=HEADS)
    with pytest.raises(ModelNotFoundError, match="'ViT-B-32' is neither a file nor a model name of cn_clip"):
        cn_clip.load_from_name("ViT-B-32")
    with pytest.raises(FactsError, match=r"vision\.heads"):
        cn_clip.load_from_name(file, "cpu", "roots", "ViT-B-16", "RoBERTa-wwm-ext-base-chinese", 32)
    with pytest.raises(InputError, match=r"input_resolution is 224.*input_resolution=32"):
        cn_clip.load_from_name(file, facts=HEADS, input_resolution=224)
    with pytest.raises(InputError, match="both None"):
        model(None, None)
    with pytest.raises(InputError, match="mask_ratio"):
        model.encode_image(torch.zeros(1, 3, 32, 32), mask_ratio=0.5)
    for texts in (3, ["a", None]):
        with pytest.raises(TextError):
            cn_clip.tokenize(texts)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="context length is 1"):
        cn_clip.tokenize("a", context_length=1)
