"""Every published size, on empty tensors: parameters and names counted, and the config read back from the names.

The hyper-parameters and the counts are those of the original code, built there on torch's meta device: OpenAI's CLIP at
d05afc4, open_clip 3.3.0, Chinese-CLIP at 31863c7, transformers 5.23.0 (for Taiyi's and rinna's towers too).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cjkclip import checkpoints
from cjkclip.checkpoints import hub, layouts, weights
from cjkclip.checkpoints.families import families
from cjkclip.checkpoints.formats import Parts
from cjkclip.checkpoints.formats.openai import JIT_ENTRIES
from cjkclip.checkpoints.formats.pixels import OPENAI_MEAN, OPENAI_STD, torchvision_rules
from cjkclip.checkpoints.matching import find_layout
from cjkclip.config import Bert, Image, Model, ResNet, Text, TextTower, Vision, Vit
from cjkclip.parameters import shapes

Empty = dict[str, np.ndarray]
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")  # of batch normalisation: tensors, not parameters


def empty(shape: tuple[int, ...]) -> np.ndarray:
    """A tensor of any size in two bytes."""
    return np.broadcast_to(np.float16(0), shape)


def stacked(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Empty tensors one behind the other, still without memory."""
    return empty((sum(len(part) for part in parts), *parts[0].shape[1:]))


def vit(width: int, depth: int, patch: int, size: int = 224, **more: Any) -> Vit:
    sizes = {"width": width, "depth": depth, "heads": width // 64, "mlp": 4 * width, "image_size": size, "patch": patch}
    rules = {"act": "quick_gelu", "eps": 1e-5, "patch_bias": False, "pre_norm": True, "project": True}
    return Vit(**(sizes | rules | more))


def resnet(width: int, stages: tuple[int, ...], size: int = 224) -> ResNet:
    return ResNet(image_size=size, width=width, stages=stages, heads=width // 2)


def text(width: int, **more: Any) -> Text:
    sizes = {"width": width, "depth": 12, "heads": width // 64, "mlp": 4 * width, "vocab": 49_408, "context": 77}
    rules = {"act": "quick_gelu", "eps": 1e-5, "pool": "largest-id", "eot": 49_407, "project": True}
    return Text(**(sizes | rules | more))


def bert(width: int, depth: int, **more: Any) -> Bert:
    sizes = {"width": width, "depth": depth, "heads": width // 64, "mlp": 4 * width, "vocab": 21_128, "context": 512}
    return Bert(**(sizes | {"types": 2, "act": "gelu", "eps": 1e-12, "head": "project"} | more))


def rules(layout: str, size: int) -> Image:
    """The pixel rules that a file of a layout tells, or that its provenance does."""
    record = torchvision_rules(size, OPENAI_MEAN, OPENAI_STD)
    if layout.startswith("cn_clip"):
        record |= {"resize": "squash"}
    elif layout == "rinna":
        record |= {"filter": "bilinear"}
    elif layout.startswith(("transformers", "flax")):
        record |= {"crop": "floor", "rgb": "first", "alpha": "white"}
    return Image(**record)


@dataclass(frozen=True, kw_only=True)
class Size:
    """One published size: what it is made of, and what the original code counts."""

    name: str  # a release or alias of ours, or a file of that name
    layout: str
    vision: Vision | None
    text: TextTower | None
    embed: int
    params: int
    keys: int
    scale: float | None = None
    halves: dict[str, int] = field(default_factory=dict)  # prefix of published names -> parameters under it

    @property
    def config(self) -> Model:
        image = None if self.vision is None else rules(self.layout, self.vision.image_size)
        return Model(vision=self.vision, text=self.text, image=image, embed=self.embed, scale=self.scale)

    def tensors(self) -> Empty:
        params = {name: empty(shape) for name, shape in shapes(self.config).items()}
        return layouts.write(find_layout(self.layout, params).layout, params, join=stacked)

    def put(self, folder: Path) -> None:
        """The side files."""
        form = find_layout(self.layout, shapes(self.config))
        form.write(Parts(config=self.config, tokenizer=None, family="", release=None, identity=""), folder)


OPENAI = (
    ("ViT-B/32", vit(768, 12, 32), 512, 512, 151_277_313, 302, 87_849_216, 398),
    ("ViT-B/16", vit(768, 12, 16), 512, 512, 149_620_737, 302, 86_192_640, 398),
    ("ViT-L/14", vit(1024, 24, 14), 768, 768, 427_616_513, 446, 303_966_208, 590),
    ("ViT-L/14@336px", vit(1024, 24, 14, 336), 768, 768, 427_944_193, 446, 304_293_888, 590),
    ("RN50", resnet(64, (3, 4, 6, 3)), 512, 1024, 102_007_137, 489, 38_316_896, None),
    ("RN101", resnet(64, (3, 4, 23, 3)), 512, 512, 119_688_033, 795, 56_259_936, None),
    ("RN50x4", resnet(80, (4, 6, 10, 6), 288), 640, 640, 178_300_601, 669, 87_137_080, None),
    ("RN50x16", resnet(96, (6, 8, 18, 8), 384), 768, 768, 290_979_217, 921, 167_328_912, None),
    ("RN50x64", resnet(128, (3, 15, 36, 10), 448), 1024, 1024, 623_258_305, 1353, 420_380_352, None),
)
HUGE = vit(1280, 32, 14, heads=16)
CHINESE = (
    ("rn50", resnet(64, (3, 4, 6, 3)), bert(768, 3), 1024, 76_989_537, 394, (38_316_896, 37_886_208), None),
    ("vit-base-patch16", vit(768, 12, 16), bert(768, 12), 512, 188_262_913, 351, (86_192_640, 101_677_056), 399),
    ("vit-large-patch14", vit(1024, 24, 14), bert(768, 12), 768, 406_233_089, 495, (303_966_208, 101_677_056), 591),
    (
        "vit-large-patch14-336px",
        vit(1024, 24, 14, 336),
        bert(768, 12),
        768,
        406_560_769,
        495,
        (304_293_888, 101_677_056),
        591,
    ),
    ("vit-huge-patch14", HUGE, bert(1024, 24), 1024, 957_598_209, 783, (632_076_800, 324_472_832), 911),
)


def openai_sizes() -> Iterator[Size]:
    for name, vision, width, embed, params, keys, visual, hf in OPENAI:
        size = Size(name=name, layout="openai", vision=vision, text=text(width), embed=embed, params=params, keys=keys)
        yield replace(size, halves={"visual.": visual})
        for layout in ("open_clip", "open_clip_custom"):
            yield replace(size, layout=layout, halves={"visual.": visual})
        if hf is not None:
            eos = text(width, eot=2)  # what OpenAI's configs say; it is a mark, not a token
            for layout in ("transformers", "flax"):
                yield replace(size, layout=layout, text=eos, keys=hf)


def chinese_sizes() -> Iterator[Size]:
    for kind, vision, words, embed, params, keys, (visual, spoken), hf in CHINESE:
        name = f"OFA-Sys/chinese-clip-{kind}"
        size = Size(name=name, layout="cn_clip", vision=vision, text=words, embed=embed, params=params, keys=keys)
        yield replace(size, halves={"visual.": visual, "bert.": spoken})
        fused = keys - 4 * words.depth  # six tensors of a BERT's attention are two
        yield replace(size, layout="cn_clip_flash", keys=fused, halves={"visual.": visual, "bert.": spoken})
        if hf is not None:
            yield replace(size, layout="transformers_chinese", keys=hf, halves={"text_model.": spoken})


def other_sizes() -> Iterator[Size]:
    laion = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    gelu = {"vision": replace(HUGE, act="gelu"), "text": text(1024, depth=24, act="gelu"), "embed": 1024}
    size = Size(name=laion, layout="open_clip", **gelu, params=986_109_441, keys=686, halves={"visual.": 632_076_800})
    yield size
    gelu["text"] = replace(gelu["text"], eot=2)
    yield replace(size, layout="transformers", text=gelu["text"], keys=910, halves={})
    korean = {"vision": vit(768, 12, 32), "text": text(512, eot=2), "embed": 512, "params": 151_277_313, "keys": 398}
    yield Size(name="Bingsu/clip-vit-base-patch32-ko", layout="transformers", **korean)
    # the published file has 787 MB, which fits rinna's own vocabulary of 32,000 and this count
    seen = vit(768, 12, 16, act="gelu", eps=1e-12, patch_bias=True, pre_norm=False)
    halves = {"vision_model.": 85_798_656, "text_model.": 110_026_752}
    japanese = {"layout": "rinna", "vision": seen, "text": bert(768, 12, vocab=32_000), "embed": 512, "halves": halves}
    yield Size(name="rinna/japanese-clip-vit-b-16", **japanese, params=196_611_841, keys=398)
    yield Size(name="rinna/japanese-cloob-vit-b-16", **japanese, params=196_611_840, keys=397, scale=30.0)


def taiyi_sizes() -> Iterator[tuple[Size, str]]:
    """Text repositories, and the size above that their image tower comes from."""
    pooler, logits = {"layout": "taiyi_pooler", "vision": None}, {"layout": "taiyi_logits", "vision": None}
    base, large = bert(768, 12, head="pooler"), bert(1024, 24, head="pooler")
    names = [f"IDEA-CCNL/Taiyi-CLIP-{n}-Chinese" for n in ("RoBERTa-102M-ViT-L", "RoBERTa-326M-ViT-H")]
    yield Size(name=names[0], **pooler, text=base, embed=768, params=102_267_648, keys=199), "ViT-L/14"
    yield Size(name=names[1], **pooler, text=large, embed=1024, params=325_522_432, keys=391), "laion"
    base, large = replace(base, head="classify"), replace(large, head="classify")
    names = [f"IDEA-CCNL/Taiyi-CLIP-{n}-Chinese" for n in ("Roberta-102M", "Roberta-large-326M")]
    yield Size(name=names[0], **logits, text=base, embed=512, params=102_661_376, keys=201), "ViT-B/32"
    yield Size(name=names[1], **logits, text=large, embed=768, params=326_309_632, keys=393), "ViT-L/14"


WHOLE = [*openai_sizes(), *chinese_sizes(), *other_sizes()]
TAIYI = list(taiyi_sizes())
SIZES = [*WHOLE, *(size for size, _ in TAIYI)]


def rows(sizes: list[Size]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("size", sizes, ids=lambda size: f"{size.name.split('/', 1)[-1]}-{size.layout}")


@rows(SIZES)
def test_parameters_and_names_are_as_many_as_published(size: Size) -> None:
    tensors = size.tensors()
    counted = {name: array.size for name, array in tensors.items() if not name.endswith(STATISTICS)}
    assert (sum(counted.values()), len(tensors)) == (size.params, size.keys)
    for prefix, params in size.halves.items():
        assert sum(n for name, n in counted.items() if name.startswith(prefix)) == params
    assert sum(array.strides != (0,) * array.ndim for array in tensors.values()) == 0  # nothing was copied


class Shelf:
    """Empty checkpoints, by the name they are asked for."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.tensors = root, dict[Path, Empty]()
        monkeypatch.setattr(hub, "locate", lambda name, *_, **__: self.folder(name))
        monkeypatch.setattr(hub, "file", lambda _, name, *__: self.root / name)  # no tokenizers here
        monkeypatch.setattr(weights, "find", lambda folder: folder / "weights")
        monkeypatch.setattr(weights, "read", lambda path: weights.Tensors(self.tensors[path.parent]))

    def folder(self, name: str) -> Path:
        return self.root / name.replace("/", "-")

    def put(self, size: Size, name: str = "") -> None:
        folder = self.folder(name or size.name)
        folder.mkdir()
        size.put(folder)
        own = dict.fromkeys(JIT_ENTRIES, empty(())) if size.layout == "openai" else {}
        self.tensors[folder] = size.tensors() | own

    def read(self, name: str) -> checkpoints.Found:
        return checkpoints.read(checkpoints.resolve(name))


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shelf:
    return Shelf(tmp_path, monkeypatch)


def hub_id(name: str) -> str:
    """Return the hub id or URL of a name or alias."""
    releases = [release for each in families() for release in each.releases]
    return {name: release.source for release in releases for name in (release.name, *release.aliases)}.get(name, name)


@rows(WHOLE)
def test_the_config_is_read_back(size: Size, shelf: Shelf) -> None:
    shelf.put(size, hub_id(size.name))
    found = shelf.read(size.name)
    assert found.config == size.config
    assert found.params.keys() == shapes(size.config).keys()


@pytest.mark.parametrize(("size", "tower"), TAIYI, ids=lambda value: getattr(value, "name", value).split("/")[-1])
def test_two_sources_become_one_model(size: Size, tower: str, shelf: Shelf) -> None:
    seen = next(s for s in WHOLE if s.layout == "transformers" and s.name.startswith(tower))
    shelf.put(size)
    shelf.put(seen, hub_id(seen.name))
    found = shelf.read(size.name)
    assert found.config == replace(seen.config, text=size.text, embed=size.embed)
    assert found.release is not None
    assert found.release.image_tower == hub_id(seen.name)


def test_every_release_has_its_size_here() -> None:
    known = {(r.source, r.layout) for each in families() for r in each.releases} - {("moji", "cjkclip")}
    assert known <= {(hub_id(size.name), size.layout) for size in SIZES}
