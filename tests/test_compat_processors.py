"""Compare processors with transformers 5.23's: both parts behind one call; AutoProcessor for every family."""

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from cjkclip.checkpoints import Where
from cjkclip.compat import sources
from cjkclip.compat.transformers.inputs import tokenizers as ours
from cjkclip.compat.transformers.inputs.auto import AutoImageProcessor, AutoProcessor, AutoTokenizer
from cjkclip.compat.transformers.inputs.batches import BatchEncoding, BatchFeature
from cjkclip.compat.transformers.inputs.images import ChineseCLIPImageProcessor, CLIPImageProcessor
from cjkclip.compat.transformers.inputs.processors import ChineseCLIPProcessor, CLIPProcessor
from cjkclip.errors import FactsError, ImageError, InputError, ModelNotFoundError, OptionError, TextError
from families import FAMILIES, GOLDEN, Case
from support.peers import transformers

TEXTS = ["杰尼龟", "a photo of two cats", "고양이 두 마리"]
KINDS = {"hf-clip-eos2": (CLIPProcessor, "CLIP"), "hf-chinese-clip": (ChineseCLIPProcessor, "ChineseCLIP")}


def photo(width: int = 53) -> PIL.Image.Image:
    levels = np.random.default_rng(width).integers(0, 256, (40, width, 3), dtype=np.uint8)
    return PIL.Image.fromarray(levels)


def peer(case: str) -> Any:
    import importlib

    package, kind = transformers(), KINDS[case][1]
    module = {"CLIP": "clip", "ChineseCLIP": "chinese_clip"}[kind]
    images = importlib.import_module(f"transformers.models.{module}.image_processing_pil_{module}")
    tokenizer = package.BertTokenizer if kind == "ChineseCLIP" else package.CLIPTokenizer
    return getattr(package, f"{kind}Processor")(
        getattr(images, f"{kind}ImageProcessorPil").from_pretrained(str(GOLDEN / case)),
        tokenizer.from_pretrained(str(GOLDEN / case)),
    )


def same(got: Any, want: Any) -> None:
    assert set(got) == set(want)
    for name in want:
        assert np.array_equal(got[name], want[name]), name


@pytest.mark.parametrize("case", KINDS)
def test_a_call_beside_transformers(case: str) -> None:
    mine, theirs = KINDS[case][0].from_pretrained(GOLDEN / case), peer(case)
    images = [photo(), photo(70)]
    for kind in ("pt", "np"):
        asked: dict[str, Any] = {"return_tensors": kind, "padding": True}
        same(mine(text=TEXTS, images=images, **asked), theirs(text=TEXTS, images=images, **asked))
        same(mine(text=TEXTS, **asked), theirs(text=TEXTS, **asked))
        same(mine(images=photo(), return_tensors=kind), theirs(images=photo(), return_tensors=kind))
    options: dict[str, Any] = {
        "text_kwargs": {"padding": "max_length", "max_length": 20},
        "images_kwargs": {"do_normalize": False},
    }
    same(
        mine(text=TEXTS, images=images, common_kwargs={"return_tensors": "np"}, **options),
        theirs(text=TEXTS, images=images, common_kwargs={"return_tensors": "np"}, **options),
    )
    assert mine.model_input_names == [*theirs.tokenizer.model_input_names, "pixel_values"]
    ids = theirs(text=TEXTS)["input_ids"]
    assert mine.batch_decode(ids, skip_special_tokens=True) == theirs.batch_decode(ids, skip_special_tokens=True)
    assert mine.decode(ids[0]) == theirs.decode(ids[0])


def test_the_parts() -> None:
    processor = CLIPProcessor.from_pretrained(GOLDEN / "hf-clip-eos2")
    assert isinstance(processor.tokenizer, ours.CLIPTokenizer)
    assert isinstance(processor.image_processor, CLIPImageProcessor)
    assert processor.feature_extractor is processor.image_processor
    again = CLIPProcessor(feature_extractor=processor.image_processor, tokenizer=processor.tokenizer)
    assert again.image_processor is processor.image_processor
    batch = processor(text="two cats", images=photo(), return_tensors="pt")
    assert isinstance(batch, BatchFeature)
    assert isinstance(processor.tokenizer("a"), BatchEncoding)
    assert batch.input_ids is batch["input_ids"]
    assert sorted(dict(**batch)) == ["attention_mask", "input_ids", "pixel_values"]
    assert batch.to("cpu").pixel_values.shape == (1, 3, *batch.pixel_values.shape[2:])
    with pytest.raises(
        AttributeError, match=r"has no 'labels'; it has \['attention_mask', 'input_ids', 'pixel_values'\]"
    ):
        _ = batch.labels
    with pytest.raises(KeyError, match="labels"):
        batch["labels"]


@pytest.mark.parametrize(
    ("args", "options"),
    [
        (("meta",), {}),
        ((torch.device("meta"),), {"non_blocking": True}),
        ((torch.float16,), {}),
        (("meta", torch.float16), {}),
        (("meta",), {"dtype": torch.bfloat16}),
        ((), {"device": "meta"}),
        ((), {"dtype": torch.float16}),
        ((), {"device": "cpu", "dtype": torch.float16, "non_blocking": True}),
    ],
)
def test_batches_move_and_change_type_as_in_transformers(args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """The meta device exists on every computer, so it represents another device."""

    def moved(kind: Any) -> list[tuple[torch.device, torch.dtype]]:
        data = {"input_ids": torch.tensor([[5, 6]]), "pixel_values": torch.ones(1, 3), "masks": [torch.ones(2)]}
        batch = kind(data)
        assert batch.to(*args, **options) is batch
        return [(each.device, each.dtype) for each in (batch["input_ids"], batch["pixel_values"], *batch["masks"])]

    want = moved(transformers().BatchFeature)
    assert moved(BatchFeature) == moved(BatchEncoding) == want


def test_batches_go_nowhere_unknown() -> None:
    for args, options, words in (
        ((), {}, "neither a device nor a dtype"),
        (("cpu",), {"device": "cpu"}, "got the device twice"),
        ((torch.float16, torch.float32), {}, "got the dtype twice"),
        ((torch.ones(1),), {}, "got device"),
        (("cpu", "float16"), {}, "and dtype 'float16'"),
    ):
        with pytest.raises(InputError, match=words):
            BatchFeature({"pixel_values": torch.ones(1)}).to(*args, **options)


def test_texts_and_pictures_in_either_order() -> None:
    """Version 4 took (text, images), version 5 takes (images, text)."""
    processor = CLIPProcessor.from_pretrained(GOLDEN / "hf-clip-eos2")
    want = processor(text=TEXTS, images=photo(), padding=True, return_tensors="np")
    same(processor(TEXTS, photo(), padding=True, return_tensors="np"), want)
    same(processor(photo(), TEXTS, padding=True, return_tensors="np"), want)


@pytest.mark.parametrize("case", KINDS)
def test_a_saved_processor_loads_again(case: str, tmp_path: Path) -> None:
    processor = KINDS[case][0].from_pretrained(GOLDEN / case)
    assert {Path(path).name for path in processor.save_pretrained(tmp_path)} == {p.name for p in tmp_path.iterdir()}
    again = AutoProcessor.from_pretrained(tmp_path)
    assert type(again) is KINDS[case][0]
    assert isinstance(again.image_processor, ChineseCLIPImageProcessor) == (case == "hf-chinese-clip")
    asked: dict[str, Any] = {"text": TEXTS, "images": photo(), "padding": True, "return_tensors": "np"}
    same(again(**asked), processor(**asked))


WHOLE = [row for row in FAMILIES if row.towers == "both" and not row.form]
WITHOUT = {"openai-vit", "openai-rn", "openai-vit-torchscript"}  # no published vocabulary has their tiny size


def processor_of(row: Case) -> CLIPProcessor:
    tower: dict[str, Any] = {"image_tower": row.folder / row.image} if row.image else {}
    path = row.folder / row.weights if row.facts or row.image else row.folder
    return AutoProcessor.from_pretrained(path, facts=row.facts, **tower)


@pytest.mark.parametrize("row", [row for row in WHOLE if row.name not in WITHOUT], ids=lambda row: row.name)
def test_every_family_has_a_processor_with_its_ids(row: Case) -> None:
    processor, clip = processor_of(row), row.load()
    assert clip.tokenizer is not None
    assert isinstance(processor, ChineseCLIPProcessor) == isinstance(processor.tokenizer, ours.BertTokenizer)
    texts = row.inputs["texts"]
    tokens = clip.tokenize(texts)
    batch = processor(text=texts, padding="max_length", truncation=True, max_length=clip.tokenizer.context)
    mask = np.array(batch["attention_mask"], bool)
    assert np.array_equal(mask, tokens.mask.astype(bool))
    assert np.array_equal(np.array(batch["input_ids"])[mask], tokens.ids[mask])


@pytest.mark.parametrize("row", [row for row in WHOLE if row.name in WITHOUT], ids=lambda row: row.name)
def test_files_without_a_vocabulary(row: Case) -> None:
    with pytest.raises(FactsError, match="has no tokenizer files"):
        processor_of(row)


def test_a_models_own_rules_cannot_be_saved_as_options(tmp_path: Path) -> None:
    processor = AutoProcessor.from_pretrained(GOLDEN / "rinna-clip")
    with pytest.raises(InputError, match=r"cjkclip\.load\(name\)\.save"):
        processor.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_bundled_model_by_name() -> None:
    processor = AutoProcessor.from_pretrained("moji")
    batch = processor(text=["판다", "팬더"], images=photo(), padding=True, return_tensors="pt")
    assert batch.pixel_values.dtype == torch.float32
    assert batch.input_ids.shape[0] == 2


def test_parts_survive_pickling() -> None:
    """Pickling is necessary for the workers of a data loader."""
    for name in (GOLDEN / "hf-clip-eos2", GOLDEN / "hf-chinese-clip", GOLDEN / "rinna-clip"):
        processor = AutoProcessor.from_pretrained(name)
        asked: dict[str, Any] = {"text": TEXTS, "images": photo(), "padding": True, "return_tensors": "np"}
        want = processor(**asked)
        same(pickle.loads(pickle.dumps(processor))(**asked), want)
        same(copy.deepcopy(want), want)


@pytest.mark.parametrize("kind", [CLIPProcessor, AutoProcessor, AutoTokenizer, AutoImageProcessor, ours.CLIPTokenizer])
def test_where_files_may_come_from(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's options reach the one function that locates files."""
    seen: list[Any] = []

    def resolve(name: str, where: Any, *, family: str | None) -> Path:
        assert family is None
        seen.append((name, where))
        raise ModelNotFoundError("seen")

    monkeypatch.setattr(sources.checkpoints, "resolve", resolve)
    with pytest.raises(ModelNotFoundError, match="seen"):
        kind.from_pretrained(
            "org/name", revision="v1", cache_dir=tmp_path, local_files_only=True, use_fast=False, trust_remote_code=True
        )
    assert seen == [("org/name", Where(revision="v1", cache=str(tmp_path), offline=True, small=True))]


CALLS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "nothing": ({}, InputError, "neither text nor images"),
    "an unknown option": ({"text": "a", "pading": True}, OptionError, "'pading'"),
    "an unknown option of a part": ({"text": "a", "text_kwargs": {"do_resize": True}}, OptionError, "'do_resize'"),
    "no picture": ({"images": "no-such.png"}, ImageError, "no such file"),
    "no text": ({"text": 3}, TextError, "expected a list of strings"),
    "no pictures": ({"text": "a", "images": []}, InputError, "at least one"),
}


@pytest.mark.parametrize(("options", "error", "words"), CALLS.values(), ids=list(CALLS))
def test_bad_calls(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        CLIPProcessor.from_pretrained(GOLDEN / "hf-clip-eos2")(**options)
    assert isinstance(caught.value, ValueError)


def test_bad_makings() -> None:
    parts = CLIPProcessor.from_pretrained(GOLDEN / "hf-clip-eos2")
    with pytest.raises(InputError, match="needs an image_processor and a tokenizer"):
        CLIPProcessor(parts.image_processor)
    with pytest.raises(OptionError, match="two names of one option"):
        CLIPProcessor(parts.image_processor, parts.tokenizer, parts.image_processor)
    for auto in (AutoProcessor, AutoTokenizer, AutoImageProcessor):
        auto.from_pretrained("moji", trust_remote_code=False)
        with pytest.raises(OptionError, match="'colour'"):
            auto.from_pretrained("moji", colour=1)
        with pytest.raises(ModelNotFoundError, match="Did you mean 'moji'"):
            auto.from_pretrained("mojo")
