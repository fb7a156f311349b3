"""load() and Clip as a user meets them: what works, what is refused and with which words, what is never lost."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

import cjkclip
from cjkclip.errors import (
    CheckpointError,
    EngineError,
    FactsError,
    HubError,
    ImageError,
    InputError,
    LayoutError,
    ModelNotFoundError,
    TextError,
    TruncatedTextWarning,
    WeightsError,
)
from families import FAMILIES, GOLDEN

SOURCE = GOLDEN / "hf-clip-eos2"
PICTURES = sorted((SOURCE / "images").iterdir())


@pytest.fixture(scope="module")
def clip() -> cjkclip.Clip:
    return cjkclip.load(SOURCE, engine="numpy")


def copied(tmp_path: Path, source: Path = SOURCE) -> Path:
    return Path(shutil.copytree(source, tmp_path / "model"))


def test_features_are_float32_rows_of_unit_length(clip: cjkclip.Clip) -> None:
    for features in (clip.encode_image(PICTURES), clip.encode_text(["a cat", "a dog"])):
        assert features.dtype == np.float32
        assert features.shape[1] == clip.embed_dim == 32
        np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    raw = clip.encode_text(["a cat"], normalize=False)
    assert abs(float(np.linalg.norm(raw)) - 1) > 1e-3


def test_a_path_bytes_a_picture_and_an_array_are_one_picture(clip: cjkclip.Clip) -> None:
    picture = PIL.Image.open(PICTURES[0]).convert("RGB")
    whole = clip.preprocess([PICTURES[0], PICTURES[0].read_bytes(), picture, np.asarray(picture), str(PICTURES[0])])
    np.testing.assert_array_equal(whole, np.repeat(whole[:1], 5, axis=0))
    alone = clip.encode_image(PICTURES[0])
    np.testing.assert_array_equal(alone, clip.encode_image(PICTURES[:1]))


def test_batches_do_not_change_the_answer(clip: cjkclip.Clip) -> None:
    whole = clip.encode_image(PICTURES * 2)
    np.testing.assert_allclose(clip.encode_image(PICTURES * 2, batch_size=4), whole, atol=1e-6)
    texts = ["a", "two words", "a photo of a cat", "x" * 9]
    np.testing.assert_allclose(clip.encode_text(texts, batch_size=3), clip.encode_text(texts), atol=1e-6)


def test_nothing_in_nothing_out(clip: cjkclip.Clip) -> None:
    assert clip.encode_image([]).shape == (0, 32)
    assert clip.encode_text([]).shape == (0, 32)
    assert clip.logits([], ["a"]).shape == (0, 1)


def test_a_bad_picture_is_named_and_the_others_are_answered(clip: cjkclip.Clip, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    batch = [PICTURES[0], tmp_path / "broken.jpg", PICTURES[1], tmp_path / "gone.png"]
    told: dict[int, str] = {}
    features = clip.encode_image(batch, batch_size=2, on_error=lambda i, error: told.update({i: str(error)}))
    assert sorted(told) == [1, 3]
    assert "broken.jpg" in told[1]
    assert "gone.png" in told[3]
    assert np.isnan(features[[1, 3]]).all()
    np.testing.assert_allclose(features[[0, 2]], clip.encode_image(PICTURES[:2]), atol=1e-6)
    with pytest.raises(ImageError, match=r"2 of 4 images cannot be used") as caught:
        clip.encode_image(batch, batch_size=2)
    assert [index for index, _ in caught.value.problems] == [1, 3]


def test_logits_are_scaled_cosines(clip: cjkclip.Clip) -> None:
    texts = ["a cat", "a dog"]
    logits = clip.logits(PICTURES, texts)
    assert logits.shape == (3, 2)
    cosines = clip.encode_image(PICTURES) @ clip.encode_text(texts).T
    np.testing.assert_allclose(logits, clip.logit_scale * cosines, rtol=1e-5)


def test_classify_gives_every_label_best_first(clip: cjkclip.Clip) -> None:
    [best] = clip.classify(PICTURES[0], ["a cat", "a dog", "snow"])
    assert sorted(p.label for p in best) == ["a cat", "a dog", "snow"]
    assert sum(p.score for p in best) == pytest.approx(1, abs=1e-5)
    assert [p.score for p in best] == sorted((p.score for p in best), reverse=True)
    asked = clip.classify(PICTURES[0], ["cat", "dog"], language="en")
    stated = clip.classify(PICTURES[0], ["cat", "dog"], templates=["a photo of a {}."])
    assert asked == stated
    assert asked != clip.classify(PICTURES[0], ["cat", "dog"])


@pytest.mark.parametrize(
    ("labels", "more", "message"),
    [
        ([], {}, "0 labels"),
        ("cat", {}, "got one str, expected a list"),
        (["cat"], {"templates": "a {}"}, "got one str, expected a list"),
        (["cat", " "], {}, "no words"),
        (["cat"], {"templates": ["no place"]}, "no place for the label"),
        (["cat"], {"templates": []}, "0 templates"),
        (["cat"], {"language": "xx"}, "'xx' is not supported by this model: use one of"),
        (["cat\ud800"], {}, "lone surrogate"),
    ],
)
def test_labels_that_do_not_fit_are_refused(clip: cjkclip.Clip, labels: object, more: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        clip.classify(PICTURES[0], labels, **more)  # type: ignore[arg-type]


def test_labels_and_texts_may_come_one_by_one(clip: cjkclip.Clip) -> None:
    words = ["cat", "dog", "cat"]
    np.testing.assert_array_equal(clip.encode_text(word for word in words), clip.encode_text(words))
    np.testing.assert_array_equal(clip.encode_text(np.array(words)), clip.encode_text(words))
    np.testing.assert_array_equal(clip.encode_image(iter(PICTURES)), clip.encode_image(PICTURES))
    one_by_one = clip.classify(iter(PICTURES), iter(words[:2]), templates=iter(["a {}"]))
    assert one_by_one == clip.classify(PICTURES, words[:2], templates=["a {}"])


def test_a_cut_text_is_told(clip: cjkclip.Clip) -> None:
    with pytest.warns(TruncatedTextWarning, match=r"1 of 2 texts .* \(index 1\)"):
        clip.encode_text(["short", "long " * 2_000])
    with pytest.raises(TextError, match="longer than 77 tokens"):
        clip.encode_text(["long " * 2_000], truncate="error")


def test_a_cut_label_is_told_at_every_call_by_its_own_index(clip: cjkclip.Clip) -> None:
    for _ in range(2):
        with pytest.warns(TruncatedTextWarning, match=r"1 of 3 texts .* \(index 1\)"):
            clip.classify(PICTURES[0], ["cat", "long " * 2_000, "dog"], templates=["a {}", "two {}"])
    with pytest.raises(TextError, match="label 2 ' ' has no words"):
        clip.classify(PICTURES[0], ["cat", "dog", " "])


def test_prepared_arrays_of_another_shape_are_refused(clip: cjkclip.Clip) -> None:
    with pytest.raises(InputError, match=r"expected \(n, 3, 32, 32\)"):
        clip.encode_pixels(np.zeros((1, 3, 64, 64), np.float32))
    ids = np.full((1, 77), 754)
    with pytest.raises(InputError, match="below 754"):
        clip.encode_tokens(cjkclip.Tokens(ids=ids, mask=np.ones_like(ids), truncated=()))
    with pytest.raises(InputError, match="batch_size is 0"):
        clip.encode_image(PICTURES, batch_size=0)


@pytest.mark.parametrize("case", FAMILIES[:1], ids=lambda case: case.name)
def test_the_fingerprint_changes_with_any_parameter(case) -> None:
    first = case.load()
    assert first.fingerprint == cjkclip.load(SOURCE).fingerprint
    other = cjkclip.load(SOURCE, facts={"text.eps": 1e-6})
    assert other.fingerprint != first.fingerprint


def test_names_that_are_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"Did you mean .*'ViT-B/32'"):
        cjkclip.load("ViT-B32")
    with pytest.raises(ModelNotFoundError, match="contains no weight file"):
        cjkclip.load(tmp_path)
    with pytest.raises(ModelNotFoundError):
        cjkclip.load(tmp_path / "gone")
    with pytest.raises(ModelNotFoundError, match="family 'klingon' does not exist"):
        cjkclip.load(SOURCE, family="klingon")
    with pytest.raises(EngineError, match="engine 'abacus'"):
        cjkclip.load(SOURCE, engine="abacus")


def test_the_network_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(HubError, match="openai/clip-vit-base-patch32"):
        cjkclip.load("ViT-B/32")


def test_facts_that_nobody_tells_are_asked_for_all_at_once() -> None:
    with pytest.raises(FactsError) as caught:
        cjkclip.load(GOLDEN / "openai-vit")
    for fact in ("vision.act", "vision.heads", "text.act", "text.heads"):
        assert fact in str(caught.value)
    with pytest.raises(FactsError, match=r"vision\.act is 'relu', expected one of"):
        cjkclip.load(GOLDEN / "hf-clip-eos2", facts={"vision.act": "relu"})
    with pytest.raises(FactsError, match=r"config: vision has unknown fields \['wdth'\]; expected \['width'"):
        cjkclip.load(GOLDEN / "hf-clip-eos2", facts={"vision.wdth": 3})


def test_config_and_weights_that_do_not_belong_together(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    config["text_config"]["num_hidden_layers"] = 3
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(LayoutError, match=r"16 parameters that the file lacks \(text\.blocks\.2\."):
        cjkclip.load(folder)
    config["text_config"]["num_hidden_layers"] = 1
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(LayoutError, match=r"the file has 16 that the config does not need"):
        cjkclip.load(folder)
    config["text_config"] |= {"num_hidden_layers": 2, "intermediate_size": 50}
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(LayoutError, match=r"has shape \(48, 24\), the config needs \(50, 24\)"):
        cjkclip.load(folder)


def test_damaged_side_files_are_typed_errors(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    (folder / "config.json").write_text("{", "utf-8")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        cjkclip.load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(LayoutError, match=r"no fitting config\.json is beside them"):
        cjkclip.load(folder)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(GOLDEN / "hf-clip-trueeos" / name, folder / name)
    with pytest.raises(FactsError, match="belong to different models"):
        cjkclip.load(folder)


def test_preprocessing_that_is_not_read_is_refused_and_a_missing_one_is_asked_for(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    rules = json.loads((folder / "preprocessor_config.json").read_text("utf-8"))
    (folder / "preprocessor_config.json").write_text(json.dumps(rules | {"do_resize": False}), "utf-8")
    with pytest.raises(FactsError, match="do_resize"):
        cjkclip.load(folder)
    (folder / "preprocessor_config.json").unlink()
    clip = cjkclip.load(folder, engine="numpy")
    with pytest.raises(FactsError, match=r"preprocessor_config\.json"):
        clip.encode_image(PICTURES)
    assert clip.encode_text(["still works"]).shape == (1, 32)


def test_a_pickle_that_would_run_code_is_refused_unexecuted(tmp_path: Path) -> None:
    trap = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (trap,))

    (tmp_path / "model.pt").write_bytes(pickle.dumps({"weight": Bomb()}))
    with pytest.raises(WeightsError, match=r"model\.pt"):
        cjkclip.load(tmp_path / "model.pt")
    assert not trap.exists()


def test_saving_in_a_layout_that_cannot_hold_the_model_says_why(clip: cjkclip.Clip, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="layout 'onnx' does not exist"):
        clip.save(tmp_path, layout="onnx")
    resnet = next(case for case in FAMILIES if case.case == "openai-rn").load()
    with pytest.raises(LayoutError, match="no place for"):
        resnet.save(tmp_path, layout="transformers")
    assert not list(tmp_path.iterdir())


def test_whoever_asks_both_towers_says_so_first(monkeypatch: pytest.MonkeyPatch) -> None:
    clip, told = cjkclip.load("moji", engine="numpy"), list[str]()
    monkeypatch.setattr(type(clip.engine), "prepare", lambda _: told.append("both"))
    monkeypatch.setattr(
        type(clip.engine), "image", lambda *_: pytest.fail("asked") if not told else np.ones((1, 4), np.float32)
    )
    monkeypatch.setattr(
        type(clip.engine), "text", lambda *_: pytest.fail("asked") if not told else np.ones((1, 4), np.float32)
    )
    clip.embed_dim = 4
    picture = np.zeros((9, 9, 3), np.uint8)
    clip.classify(picture, ["a"])
    clip.logits(picture, ["a"])
    assert told == ["both", "both"]


def test_an_unknown_option_of_load_is_refused_before_anything_is_read() -> None:
    with pytest.raises(TypeError, match=r"load\(\) has no option 'image_towers': use one of .*image_tower"):
        cjkclip.load("nobody/no-such-model", image_towers="moji")  # type: ignore[call-arg]
