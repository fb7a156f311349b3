"""A name is resolved once: one search of the releases and one look-up of files for each source of a public call."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import cjkclip
from cjkclip.checkpoints import hub, source
from cjkclip.compat import cn_clip, japanese_clip, open_clip
from cjkclip.compat import transformers as compat
from families import GOLDEN

HF, RINNA, CHINESE = GOLDEN / "hf-clip-eos2", GOLDEN / "rinna-clip", GOLDEN / "cn-clip-vit/model.pt"
TEXT, IMAGE = GOLDEN / "taiyi-pooler-gelu/text", GOLDEN / "taiyi-pooler-gelu/image"
HEADS = {"vision.heads": 2, "text.heads": 2}
CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], int]] = {
    "load": (cjkclip.load, (HF,), {}, 1),
    "load-two": (cjkclip.load, (TEXT,), {"image_tower": IMAGE}, 2),
    "CLIPModel": (compat.CLIPModel.from_pretrained, (HF,), {}, 1),
    "CLIPModel-facts": (compat.CLIPModel.from_pretrained, (HF,), {"facts": {"vision.act": "gelu"}}, 1),
    "AutoModel": (compat.AutoModel.from_pretrained, (RINNA,), {}, 1),
    "AutoModel-two": (compat.AutoModel.from_pretrained, (TEXT,), {"image_tower": IMAGE}, 2),
    "AutoConfig": (compat.AutoConfig.from_pretrained, (HF,), {}, 1),
    "AutoConfig-read": (compat.AutoConfig.from_pretrained, (RINNA,), {}, 1),
    "CLIPConfig": (compat.CLIPConfig.from_pretrained, (HF,), {}, 1),
    "AutoProcessor": (compat.AutoProcessor.from_pretrained, (HF,), {}, 1),
    "AutoProcessor-read": (compat.AutoProcessor.from_pretrained, (RINNA,), {}, 1),
    "CLIPProcessor": (compat.CLIPProcessor.from_pretrained, (HF,), {}, 1),
    "AutoTokenizer": (compat.AutoTokenizer.from_pretrained, (HF,), {}, 1),
    "AutoImageProcessor": (compat.AutoImageProcessor.from_pretrained, (HF,), {}, 1),
    "pipeline": (compat.pipeline, ("zero-shot-image-classification", HF), {}, 1),
    "open_clip": (open_clip.create_model_and_transforms, (str(HF),), {}, 1),
    "open_clip-tokenizer": (open_clip.get_tokenizer, (str(HF),), {}, 1),
    "japanese_clip": (japanese_clip.load, (RINNA,), {}, 1),
    "japanese_clip-tokenizer": (japanese_clip.load_tokenizer, (HF,), {}, 1),
    "cn_clip": (cn_clip.load_from_name, (str(CHINESE),), {"facts": HEADS}, 1),
}


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """How often the releases were searched, and the files looked up."""
    calls = {"find_release": 0, "locate": 0}

    def counted(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **options: Any) -> Any:
            calls[name] += 1
            return real(*args, **options)

        monkeypatch.setattr(owner, name, call)

    counted(source, "find_release")
    counted(hub, "locate")
    return calls


@pytest.mark.parametrize("case", CALLS)
def test_each_source_is_resolved_once(case: str, counts: dict[str, int]) -> None:
    call, args, options, sources = CALLS[case]
    call(*args, **options)
    assert counts == {"find_release": sources, "locate": sources}


def test_a_bundled_model_needs_no_look_up(counts: dict[str, int]) -> None:
    cjkclip.load("moji")
    assert counts == {"find_release": 1, "locate": 0}


def test_weights_are_fetched_for_a_source_of_small_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tokenizer's files are looked up first; the model whose rules are needed then comes from a second look-up."""
    small = tmp_path / "small"
    small.mkdir()
    (small / "config.json").write_bytes((RINNA / "config.json").read_bytes())
    looked: list[bool] = []

    def locate(name: str, where: hub.Where, **_: Any) -> Path:
        looked.append(where.small)
        return small if where.small else RINNA

    monkeypatch.setattr(hub, "locate", locate)
    assert compat.AutoConfig.from_pretrained("org/name") == compat.AutoConfig.from_pretrained(RINNA)
    assert looked == [True, False, True, False]
