"""THE TABLE: one row per golden case. A new family adds a row here, a file in families/ and a line in REGISTRY."""

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
    """A tiny checkpoint that the original package wrote, with that package's own outputs."""

    family: str  # the family that owns it
    case: str  # folder under golden/
    layout: str  # the layout it is stored in, and written back in
    weights: str  # the file in it
    facts: dict[str, Any] = field(default_factory=dict)  # what the file cannot tell
    stages: int  # how many stages of expected.npz are compared: a missing one is a failure

    @property
    def name(self) -> str:
        return self.case

    @property
    def folder(self) -> Path:
        """Where the checkpoint lies: beside its golden outputs, but for the bundled model."""
        return BUNDLED if self.family == "moji" else GOLDEN / self.case

    def load(self, engine: str = "numpy") -> cjkclip.Clip:
        return _load(self, engine)

    @property
    def inputs(self) -> dict[str, Any]:
        return json.loads((GOLDEN / self.case / "inputs.json").read_text("utf-8"))

    @property
    def pictures(self) -> list[Path]:
        return [GOLDEN / self.case / "images" / image["file"] for image in self.inputs["images"]]

    @property
    def mask(self) -> np.ndarray:
        """1 where a token is kept; the towers of OpenAI's kind read none."""
        expected = self.expected()
        return expected.get("attention_mask", np.ones_like(expected["input_ids"]))

    def expected(self) -> dict[str, np.ndarray]:
        with np.load(GOLDEN / self.case / "expected.npz") as arrays:
            return dict(arrays)

    def __hash__(self) -> int:
        return hash(self.case)


@cache
def _load(case: Case, engine: str) -> cjkclip.Clip:
    return cjkclip.load(case.folder if not case.facts else case.folder / case.weights, engine=engine, facts=case.facts)


QUICK = {"vision.act": "quick_gelu", "text.act": "quick_gelu", "vision.heads": 1, "text.heads": 1}
HF = {"family": "openai", "layout": "transformers", "weights": "model.safetensors", "stages": 11}
OPEN_CLIP = {"family": "openai", "weights": "open_clip_model.safetensors", "stages": 11}

FAMILIES = (
    Case(case="hf-clip-eos2", **HF),
    Case(case="hf-clip-trueeos", **HF),
    Case(case="hf-clip-gelu", **HF),
    Case(case="open-clip", layout="open_clip", **OPEN_CLIP),
    Case(case="open-clip-customtext", layout="open_clip_custom", **OPEN_CLIP),
    Case(case="openai-vit", family="openai", layout="openai", weights="model.pt", facts=QUICK, stages=11),
    Case(
        case="openai-rn",
        family="openai",
        layout="openai",
        weights="model.pt",
        facts={"text.act": "quick_gelu", "text.heads": 1},
        stages=11,
    ),
    Case(case="openai-vit-torchscript", family="openai", layout="openai", weights="model.pt", stages=9),
    # the bundled model has no other original than the modules that trained it: its outputs are theirs
    Case(case="moji", family="moji", layout="cjkclip", weights="model.safetensors", stages=9),
)
