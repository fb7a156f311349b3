"""Compare the pipeline with transformers 5.23 on the same weights, and with golden logits for other families."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

import cjkclip
from cjkclip import engines, zeroshot
from cjkclip.compat.transformers.inputs.auto import AutoProcessor
from cjkclip.compat.transformers.pipelines import pipeline
from cjkclip.errors import ImageError, InputError, OptionError, TextError
from cjkclip.text import Tokens
from families import FAMILIES, GOLDEN
from support.compat import PANDA, TASK, close
from support.peers import transformers
from support.processes import python

LABELS = ["고양이 두 마리", "a cat", "一只猫", "犬の写真", "개"]


@pytest.fixture(scope="module")
def bundled() -> Any:
    return pipeline(TASK, model="moji")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    levels = np.random.default_rng(5).integers(0, 256, (41, 67, 3), dtype=np.uint8)
    image = PIL.Image.fromarray(levels)
    exif = image.getexif()
    exif[0x0112] = 6  # stored rotated by 90 degrees
    image.save(tmp_path / "turned.png", exif=exif)
    return tmp_path / "turned.png"


def peers_pipeline(case: str) -> Any:
    peer = transformers()
    kind = "ChineseCLIP" if "chinese" in case else "CLIP"
    tokenizer = "BertTokenizer" if "chinese" in case else "CLIPTokenizer"
    path = str(GOLDEN / case)
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return peer.pipeline(
        TASK,
        model=getattr(peer, f"{kind}Model").from_pretrained(path).eval(),
        tokenizer=getattr(peer, tokenizer).from_pretrained(path),
        image_processor=CLIPImageProcessorPil.from_pretrained(path),
        device="cpu",
    )


@pytest.mark.parametrize("case", ["koclip", "hf-clip-trueeos", "hf-chinese-clip"])
def test_the_scores_are_transformers_own(case: str, picture: Path) -> None:
    mine, theirs = pipeline(TASK, model=GOLDEN / case), peers_pipeline(case)
    pictures: list[Any] = [
        str(picture),
        *(PIL.Image.open(GOLDEN / case / "images" / name) for name in ("a.png", "b.png", "c.jpg")),
    ]
    for options in ({}, {"hypothesis_template": "{}"}, {"hypothesis_template": "{}의 사진"}):
        got = mine(pictures, candidate_labels=LABELS, **options)
        want = theirs(pictures, candidate_labels=LABELS, **options)
        assert len(got) == 4
        for one, other in zip(got, want, strict=True):
            close(one, other)
    one = mine(images=str(picture), candidate_labels=LABELS)  # transformers 5.23 raises TypeError for `images=`
    close(one, theirs(str(picture), candidate_labels=LABELS))


def see_through(folder: Path, mode: str, clear: Any) -> str:
    """Return an image with one transparent colour, or a palette with alpha bytes."""
    levels = np.random.default_rng(6).integers(0, 8, (41, 67), dtype=np.uint8) * 30
    image = PIL.Image.fromarray(levels).convert("RGB")
    image = image.quantize(8) if mode == "P" else image.convert(mode)
    image.save(folder / f"{mode}.png", transparency=clear)
    return str(folder / f"{mode}.png")


@pytest.mark.parametrize(
    ("mode", "clear"), [("P", 2), ("P", b"\0\x80\xff"), ("L", 30), ("RGB", (60, 60, 60)), ("1", 0), ("RGBA", None)]
)
def test_one_transparent_colour_is_laid_on_white(mode: str, clear: Any, tmp_path: Path) -> None:
    path, case = see_through(tmp_path, mode, clear), "hf-clip-trueeos"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns that alpha bytes are lost; this image has none
        want = peers_pipeline(case)(path, candidate_labels=LABELS)
    parts = {"tokenizer": GOLDEN / case, "image_processor": GOLDEN / case}
    for mine in (pipeline(TASK, model=GOLDEN / case), pipeline(TASK, model=GOLDEN / case, **parts)):
        close(mine(path, candidate_labels=LABELS), want)


@pytest.mark.parametrize("size", [(40, 1), (37, 3), (50, 4), (3, 50)])
def test_a_flat_picture_keeps_its_channels_last(size: tuple[int, int], tmp_path: Path) -> None:
    levels = np.random.default_rng(7).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    PIL.Image.fromarray(levels).save(tmp_path / "flat.png")
    case, path = "hf-clip-trueeos", str(tmp_path / "flat.png")
    parts = {"tokenizer": GOLDEN / case, "image_processor": GOLDEN / case}
    mine = pipeline(TASK, model=transformers().CLIPModel.from_pretrained(str(GOLDEN / case)).eval(), **parts)
    close(mine(path, candidate_labels=LABELS), peers_pipeline(case)(path, candidate_labels=LABELS))


@pytest.mark.parametrize(
    "case",
    [
        "hf-clip-eos2",
        "open-clip",
        "open-clip-customtext",
        "cn-clip-vit",
        "rinna-clip",
        "rinna-cloob",
        "koclip",
        "taiyi-pooler",
        "taiyi-logits",
    ],
)
def test_every_family(case: str) -> None:
    """Scores equal the softmax of golden logits: an image without EXIF, non-empty texts that neither side cuts."""
    row = next(each for each in FAMILIES if each.case == case)
    expected, clip = row.expected(), row.load()
    texts = row.inputs["texts"]
    tokens = clip.tokenize(texts)
    used = tokens.mask.sum(axis=1)
    cut = used != row.mask.sum(axis=1) if "attention_mask" in expected else np.zeros(len(texts), bool)
    kept = [i for i, text in enumerate(texts) if text.strip() and not cut[i] and i not in tokens.truncated]
    assert len(kept) >= 2
    labels = [texts[i] for i in kept]
    cosines = expected["image_features_norm"] @ expected["text_features_norm"][kept].T
    want = zeroshot.predictions(cosines, clip.logit_scale, labels)
    got = pipeline(TASK, model=clip)([row.pictures[0]], candidate_labels=labels, hypothesis_template="{}")
    close(got[0], [{"label": each.label, "score": each.score} for each in want[0]])


def test_labels_are_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = cjkclip.load("moji")
    texts: list[int] = []
    encode = cjkclip.Clip.encode_text
    monkeypatch.setattr(cjkclip.Clip, "encode_text", lambda self, t, **k: texts.append(len(t)) or encode(self, t, **k))
    found = pipeline(TASK, model=clip)(
        [PIL.Image.new("RGB", (9, 9), c) for c in ("red", "blue", "green")] * 3, LABELS, batch_size=2
    )
    assert (len(found), texts) == (9, [len(LABELS)])


def test_one_picture_or_many(bundled: Any, tmp_path: Path) -> None:
    (tmp_path / "panda.webp").write_bytes(PANDA)
    path = tmp_path / "panda.webp"
    one = bundled(path, candidate_labels=["판다", "자동차"], hypothesis_template="{}")
    assert one[0]["label"] == "판다"
    assert [sorted(each) for each in one] == [["label", "score"]] * 2
    assert sum(each["score"] for each in one) == pytest.approx(1, abs=1e-6)
    opened = PIL.Image.open(path)
    for same in (str(path), opened, np.asarray(opened.convert("RGB")), PANDA):
        close(bundled(images=same, candidate_labels=["판다", "자동차"], hypothesis_template="{}"), one)
    for many in ([path], [path, opened], (path, opened, path)):
        found = bundled(many, ["판다", "자동차"], hypothesis_template="{}")
        assert len(found) == len(many)
        for each in found:
            close(each, one)


def test_parts_of_transformers_shape() -> None:
    """A tokenizer and an image processor can be passed with a Clip and with another model."""
    row = next(each for each in FAMILIES if each.case == "koclip")
    processor = AutoProcessor.from_pretrained(row.folder)
    picture = PIL.Image.open(row.pictures[0])
    plain = pipeline(TASK, model=row.folder)(picture, candidate_labels=LABELS)
    parts = {"tokenizer": processor.tokenizer, "image_processor": processor.image_processor}
    close(pipeline(TASK, model=row.load(), **parts)(picture, LABELS), plain)
    close(pipeline(TASK, model=row.load(), feature_extractor=processor.image_processor)(picture, LABELS), plain)
    model = transformers().CLIPModel.from_pretrained(str(row.folder)).eval()
    close(pipeline(TASK, model=model, **parts)(picture, LABELS), plain)
    close(pipeline(TASK, model=model, tokenizer=row.folder, image_processor=str(row.folder))(picture, LABELS), plain)
    with pytest.raises(InputError, match="needs tokenizer= and image_processor="):
        pipeline(TASK, model=model)


class Dressed:
    """A Clip with the interface of a compat.transformers model whose scale is not a parameter."""

    def __init__(self, clip: cjkclip.Clip) -> None:
        self.clip, self.device, self.logit_scale = clip, torch.device("cpu"), None
        self.config = SimpleNamespace(to_model=lambda: clip.config)

    def get_text_features(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        tokens = Tokens(ids=input_ids.numpy(), mask=attention_mask.numpy(), truncated=())
        return torch.from_numpy(self.clip.encode_tokens(tokens, normalize=False))

    def get_image_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.clip.encode_pixels(pixel_values.numpy(), normalize=False))


def test_a_model_whose_scale_is_a_fact() -> None:
    row = next(each for each in FAMILIES if each.case == "rinna-cloob")
    processor, picture = AutoProcessor.from_pretrained(row.folder), row.pictures[0]
    parts = {"tokenizer": processor.tokenizer, "image_processor": processor.image_processor}
    found = pipeline(TASK, model=Dressed(row.load()), **parts)(picture, ["犬", "ねこ", "a"])
    close(found, pipeline(TASK, model=row.load())(picture, ["犬", "ねこ", "a"]))


@pytest.mark.parametrize(("device", "name"), [(None, "auto"), (-1, "cpu"), (1, "cuda:1"), ("cpu", "cpu")])
def test_devices(device: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    choose = engines.choose
    monkeypatch.setattr(engines, "choose", lambda e, p, d: asked.append(d) or choose(e, p))
    pipeline(TASK, model="moji", device=device)
    assert asked == [name]


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_types_are_precisions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(engines, "choose", lambda e, p, d: asked.append(p) or ("numpy", "fp32", "cpu"))
    for dtype in ("auto", None, torch.float32, "bfloat16", torch.float16):
        pipeline(TASK, model="moji", trust_remote_code=True, use_fast=True, **{name: dtype})
    pipeline(TASK, model="moji", dtype=None, torch_dtype="float32")
    assert asked == ["auto", "auto", "fp32", "bf16", "auto", "fp32"]
    with pytest.raises(OptionError, match="dtype and torch_dtype, names of one option"):
        pipeline(TASK, model="moji", dtype="float32", torch_dtype="bfloat16")
    pipeline(TASK, model=cjkclip.load("moji"), dtype=None)


def test_tokens_pixels_and_the_pipeline_need_no_torch(tmp_path: Path) -> None:
    (tmp_path / "panda.webp").write_bytes(PANDA)
    code = """
import sys
sys.modules["torch"] = None
from cjkclip.compat.transformers.inputs.auto import AutoProcessor
from cjkclip.compat.transformers.pipelines import pipeline
AutoProcessor.from_pretrained("moji")(text=["판다"], images="panda.webp", return_tensors="np")
print(pipeline("zero-shot-image-classification", "moji")("panda.webp", ["판다", "자동차"])[0]["score"] > 0.5)
"""
    done = python("-c", code, cwd=tmp_path)
    assert done.stdout == "True\n", done.stderr


BAD: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no picture": ({"candidate_labels": ["a"]}, InputError, "images is None"),
    "no pictures": ({"image": [], "candidate_labels": ["a"]}, InputError, "at least one"),
    "pictures twice": ({"image": PANDA, "images": PANDA, "candidate_labels": ["a"]}, OptionError, "passed twice"),
    "no labels": ({"image": PANDA}, InputError, "candidate_labels is missing"),
    "labels of commas": ({"image": PANDA, "candidate_labels": " , "}, InputError, "0 labels"),
    "data that is no base64": ({"image": "data:image/png;base64,=", "candidate_labels": ["a"]}, ImageError, "image"),
    "an option for a tokenizer": (
        {"image": PANDA, "candidate_labels": ["a"], "tokenizer_kwargs": {"max_length": 5}},
        OptionError,
        "need a tokenizer",
    ),
    "an empty list of labels": ({"image": PANDA, "candidate_labels": []}, InputError, "0 labels"),
    "a label of nothing": ({"image": PANDA, "candidate_labels": ["a", " "]}, TextError, "no words"),
    "a label that is a number": ({"image": PANDA, "candidate_labels": ["a", 3]}, TextError, "text 1 is int"),
    "a template without a place": (
        {"image": PANDA, "candidate_labels": ["a"], "hypothesis_template": "a photo"},
        TextError,
        "no place for the label",
    ),
    "a template of nothing": (
        {"image": PANDA, "candidate_labels": ["a"], "hypothesis_template": None},
        InputError,
        "hypothesis_template is None",
    ),
    "an unknown option": ({"image": PANDA, "candidate_labels": ["a"], "colour": 3}, OptionError, "'colour'"),
    "a missing file": ({"image": "no-such.png", "candidate_labels": ["a"]}, ImageError, "no such file"),
}


@pytest.mark.parametrize(("options", "error", "words"), BAD.values(), ids=list(BAD))
def test_bad_calls(options: dict[str, Any], error: type[Exception], words: str, bundled: Any) -> None:
    with pytest.raises(error, match=words) as caught:
        bundled(**options)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, TypeError) == (error is OptionError)


def test_bad_pipelines() -> None:
    for task, options, error, words in (
        ("translation", {"model": "moji"}, InputError, "unsupported task 'translation'; only"),
        (TASK, {}, InputError, "model is missing"),
        (TASK, {"model": "moji", "colour": 1}, OptionError, "'colour'"),
        (TASK, {"model": cjkclip.load("moji"), "family": "moji"}, OptionError, "already loaded"),
        (TASK, {"model": "moji", "dtype": torch.int8}, InputError, "expected one of"),
        (TASK, {"model": "moji", "dtype": "auto", "precision": "fp32"}, OptionError, "names of one option"),
        (TASK, {"model": "moji", "device": "cpu", "device_map": "cpu"}, OptionError, "got device and device_map"),
        (TASK, {"model": "moji", "device_map": {"a": "cpu", "b": "cuda"}}, OptionError, "names 2 devices"),
        (TASK, {"model": "moji", "framework": "tf"}, OptionError, "supports framework only as None or 'pt'"),
        (TASK, {"model": "moji", "family": "a", "model_kwargs": {"family": "b"}}, OptionError, "also in model_kwargs"),
        (TASK, {"model": "moji", "image_processor": 1, "feature_extractor": 2}, OptionError, "two names of one option"),
    ):
        with pytest.raises(error, match=words):
            pipeline(task, **options)
