"""Table of test checkpoints, one row per golden case. A new family adds a row, a family file, a REGISTRY line."""

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import cjkclip

GOLDEN = Path(__file__).parent / "golden"
BUNDLED = Path(cjkclip.__file__).parent / "moji"
ENGINES = ("numpy", "openvino", "torch")


@dataclass(frozen=True, kw_only=True)
class Case:
    """A tiny checkpoint that the original package wrote, with the outputs of that package."""

    family: str  # name of its family
    case: str  # directory under golden/
    layout: str  # layout for reading and writing; "" if it has two sources, or can only be read
    weights: str  # weight file in that directory
    form: str = ""  # format of that file, if the directory has the model in several: the file is loaded by its name
    facts: dict[str, Any] = field(default_factory=dict)  # config values that the file does not contain
    asked: dict[str, Any] = field(default_factory=dict)  # more arguments of load
    image: str = ""  # second source: path of the image tower in the directory
    golden: str = ""  # directory of the outputs, if different
    prefix: str = ""  # prefix of the outputs to compare, if there are two kinds
    towers: str = "both"  # or "text", "vision"
    stages: int = 11  # number of stages of expected.npz to compare: a missing one is a failure
    rounded: str = ""  # the one stage whose golden numbers have a rounding error that the test must allow

    @property
    def name(self) -> str:
        return self.case.replace("/", "-") + (f"-{self.form}" if self.form else "")

    @property
    def folder(self) -> Path:
        """Directory of the checkpoint: that of its golden outputs, except for the bundled model."""
        return BUNDLED if self.family == "moji" else GOLDEN / self.case

    @property
    def outputs(self) -> Path:
        return GOLDEN / (self.golden or self.case)

    def load(self, engine: str = "numpy") -> cjkclip.Clip:
        return _load(self, engine)

    @property
    def inputs(self) -> dict[str, Any]:
        return json.loads((self.outputs / "inputs.json").read_text("utf-8"))

    @property
    def pictures(self) -> list[Path]:
        return [self.outputs / "images" / image["file"] for image in self.inputs["images"]]

    @property
    def mask(self) -> np.ndarray:
        """1 for a token, 0 for padding; towers of OpenAI's kind have no mask."""
        expected = self.expected()
        return expected.get("attention_mask", np.ones_like(expected["input_ids"]))

    def expected(self) -> dict[str, np.ndarray]:
        """Return the original's outputs by plain names; with a prefix, its outputs, the inputs and the scale."""
        with np.load(self.outputs / "expected.npz") as arrays:
            found = dict(arrays)
        if not self.prefix:
            return found
        plain = {name: found[name] for name in ("input_ids", "attention_mask", "pixel_values", "logit_scale_exp")}
        return plain | {n.removeprefix(self.prefix): a for n, a in found.items() if n.startswith(self.prefix)}

    def __hash__(self) -> int:
        return hash(self.case)


@cache
def _load(case: Case, engine: str) -> cjkclip.Clip:
    path = case.folder / case.weights if case.facts or case.image or case.form else case.folder
    tower = {"image_tower": case.folder / case.image} if case.image else {}
    return cjkclip.load(path, engine=engine, facts=case.facts, **tower, **case.asked)


def row(case: str, family: str, layout: str, weights: str = "model.safetensors", **more: Any) -> Case:
    return Case(case=case, family=family, layout=layout, weights=weights, **more)


# OpenAI's plain files lack the activation and heads of these towers, and cn_clip's lack the heads of a tiny width
QUICK = {"vision.act": "quick_gelu", "text.act": "quick_gelu", "vision.heads": 1, "text.heads": 1}
RESNET = {"text.act": "quick_gelu", "text.heads": 1}
HEADS = {"vision.heads": 4, "text.heads": 2}

FAMILIES = (
    row("hf-clip-eos2", "openai", "transformers"),
    row("hf-clip-eos2", "openai", "flax", "flax_model.msgpack", form="flax"),
    row("hf-clip-eos2", "openai", "", "tf_model.h5", form="tensorflow"),
    row("hf-clip-trueeos", "openai", "transformers"),
    row("hf-clip-gelu", "openai", "transformers"),
    row("hf-clip-text-projection", "openai", "transformers_text_projection", towers="text", stages=5),
    row("hf-clip-vision-projection", "openai", "transformers_vision_projection", towers="vision", stages=5),
    row(
        "hf-clip-v5-unprefixed/text",
        "openai",
        "transformers_text_bare",
        towers="text",
        stages=4,
        golden="hf-clip-v5-unprefixed",
    ),
    row(
        "hf-clip-v5-unprefixed/vision",
        "openai",
        "transformers_vision_bare",
        towers="vision",
        stages=4,
        golden="hf-clip-v5-unprefixed",
    ),
    row("open-clip", "openai", "open_clip", "open_clip_model.safetensors"),
    row("open-clip-customtext", "openai", "open_clip_custom", "open_clip_model.safetensors"),
    row("openai-vit", "openai", "openai", "model.pt", facts=QUICK),
    row("openai-rn", "openai", "openai", "model.pt", facts=RESNET),
    row("openai-vit-torchscript", "openai", "openai", "model.pt", stages=9),
    row("hf-chinese-clip", "chinese", "transformers_chinese"),
    row("hf-chinese-clip-crop", "chinese", "transformers_chinese"),
    row(
        "cn-clip-vit", "chinese", "cn_clip", "model.pt", facts=HEADS, prefix="fp32_", stages=4, rounded="text_features"
    ),
    row("cn-clip-rn", "chinese", "cn_clip", "model.pt", facts={"text.heads": 2}, prefix="fp32_", stages=3),
    row("cn-clip-vit-flash", "chinese", "cn_clip_flash", "model.pt", facts=HEADS, prefix="fp32_", stages=4),
    row("rinna-clip", "rinna", "rinna", "pytorch_model.bin", stages=10),
    row("rinna-clip-bert", "rinna", "rinna", stages=10),
    row("rinna-cloob", "rinna", "rinna", "pytorch_model.bin", stages=10),
    row("koclip", "koclip", "transformers", asked={"family": "koclip"}),
    row(
        "taiyi-pooler",
        "taiyi",
        "",
        "text/pytorch_model.bin",
        image="image/ViT-tiny.pt",
        stages=9,
        facts={"vision.act": "quick_gelu", "vision.heads": 1},
    ),
    row("taiyi-pooler-gelu", "taiyi", "", "text/pytorch_model.bin", image="image", stages=10),
    row("taiyi-logits", "taiyi", "", "text/pytorch_model.bin", image="image"),
    row("taiyi-clip-model", "taiyi", "taiyi", "pytorch_model.bin", facts={"text.head": "project"}),
    # the bundled model has no original package: its golden outputs are from the modules that trained it
    row("moji", "moji", "cjkclip", stages=9),
)
