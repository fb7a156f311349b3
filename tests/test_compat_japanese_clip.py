"""Compare compat's japanese_clip with golden outputs of the original: tokens, pixels and features."""

import numpy as np
import pytest
import torch

from cjkclip.compat import japanese_clip
from cjkclip.errors import ImageError, InputError, OptionError
from families import GOLDEN
from support.cases import row_of
from support.compat import ATOL, near, tensor


@pytest.mark.parametrize("case", ["rinna-clip", "rinna-clip-bert", "rinna-cloob"])
def test_japanese_clip_gives_the_golden_outputs(case: str) -> None:
    """The package cannot be imported today: the golden outputs are from its version 0.2.0."""
    expected, texts = row_of(case).expected(), row_of(case).inputs["texts"]
    model, preprocess = japanese_clip.load(GOLDEN / case, device="cpu")
    tokenizer = japanese_clip.load_tokenizer(GOLDEN / case)
    encodings = japanese_clip.tokenize(texts=texts, max_seq_len=77, device="cpu", tokenizer=tokenizer)
    assert list(encodings) == ["input_ids", "attention_mask", "position_ids"]
    for name, value in encodings.items():
        assert torch.equal(value, tensor(expected, name)), name
    pixels = torch.stack([preprocess(path) for path in row_of(case).pictures])
    assert torch.equal(pixels, tensor(expected, "pixel_values"))
    assert not any(parameter.requires_grad for parameter in model.parameters())
    near(model.get_image_features(pixels), expected["image_features"])
    near(model.get_text_features(**encodings), expected["text_features"])
    assert torch.equal(model.encode_text(encodings["input_ids"]), model.get_text_features(**encodings))
    output = model(pixel_values=pixels, **encodings)
    near(output.text_embeds, expected["text_features_norm"])
    near(output.image_embeds, expected["image_features_norm"])
    scale = float(row_of(case).load().logit_scale)
    cosines = expected["image_features_norm"] @ expected["text_features_norm"].T
    np.testing.assert_allclose(output.logits_per_image, scale * cosines, atol=scale * ATOL)
    assert torch.equal(output.logits_per_text, output.logits_per_image.T)


def test_japanese_clips_names() -> None:
    assert japanese_clip.available_models() == ["rinna/japanese-clip-vit-b-16", "rinna/japanese-cloob-vit-b-16"]
    tokenizer = japanese_clip.load_tokenizer(GOLDEN / "rinna-clip")
    short = japanese_clip.tokenize("犬", max_seq_len=6, tokenizer=tokenizer)
    assert {name: tuple(value.shape) for name, value in short.items()} == dict.fromkeys(short, (1, 6))
    bundled = japanese_clip.load_tokenizer("moji")
    assert torch.equal(
        japanese_clip.tokenize(["犬"], 16, tokenizer=bundled)["input_ids"][0, :1],
        torch.tensor([bundled(["犬"]).ids[0, 0]]),
    )


def test_bad_calls_of_japanese_clip() -> None:
    model, preprocess = japanese_clip.load(GOLDEN / "rinna-clip", device="cpu")
    tokenizer = japanese_clip.load_tokenizer(GOLDEN / "rinna-clip")
    with pytest.raises(OptionError, match="'cache_folder'"):
        japanese_clip.load("rinna/japanese-clip-vit-b-16", cache_folder="here")
    encodings = japanese_clip.tokenize(["犬"], tokenizer=tokenizer)
    with pytest.raises(InputError, match="position_ids must be 0, 1, 2"):
        model.get_text_features(encodings["input_ids"], position_ids=encodings["position_ids"] + 1)
    with pytest.raises(InputError, match=r"expected \(n, 3, 32, 32\)"):
        model.get_image_features(torch.zeros(1, 3, 224, 224))
    with pytest.raises(ImageError, match="no such file"):
        preprocess("no-such.png")
