"""Export the models of cjkclip.compat in every way that torch has, and call the result with another batch.

One child process does all of it (support/exports.py). `make test` takes every model through the quick way and one of
each kind through the others, `make test-nightly` every model through every way.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree

from cjkclip.compat.transformers import CLIPConfig, CLIPModel
from support import exports
from support.compat_pairs import EOS, TEXT, VISION, furthest, ids, pixels, randomised
from support.processes import printed
from support.sources import TESTS

ATOL = 1e-5
QUICK = (
    *(f"{model}: onnx dynamo=False" for model in exports.MODELS),  # records with torch.jit.trace
    *("VisionTextModel: compile", "CLIPModel, images: compile"),
    *(f"ChineseCLIPModel, texts: {way}" for way in ("trace", "export", "onnx dynamo=True")),
)
EVERY = tuple(f"{model}: {way}" for model in exports.MODELS for way in exports.WAYS)


@cache
def results(cases: tuple[str, ...]) -> dict[str, float]:
    return json.loads(printed(TESTS / "support" / "exports.py", *cases, path=[TESTS]))


@pytest.mark.parametrize("case", QUICK)
def test_another_batch_than_the_recorded_one(case: str) -> None:
    assert results(QUICK)[case] <= ATOL


@pytest.mark.nightly
@pytest.mark.parametrize("case", sorted(set(EVERY) - set(QUICK)))
def test_every_model_in_every_way(case: str) -> None:
    assert results(EVERY)[case] <= ATOL


def random(**sizes: int) -> Any:
    config = CLIPConfig(text_config=TEXT | sizes | {"eos_token_id": EOS}, vision_config=VISION | sizes)
    return randomised(CLIPModel(config))


class Paired(torch.nn.Module):
    """A model's call with the loss."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, texts: torch.Tensor, images: torch.Tensor) -> Any:
        return self.model(texts, images, return_loss=True)


def test_an_exported_model_returns_its_outputs_class(tmp_path: Path) -> None:
    """A file of torch.export has the class by its name, and the loss of any number of pairs."""
    model, free = Paired(random(num_hidden_layers=1)), {0: torch.export.Dim("n")}
    recorded = torch.export.export(model, (ids(2), pixels(2)), dynamic_shapes=(free, free))
    torch.export.save(recorded, tmp_path / "model.pt2")
    got, want = torch.export.load(tmp_path / "model.pt2").module()(ids(4), pixels(4)), model(ids(4), pixels(4))
    assert (type(got), type(got.text_model_output)) == (type(want), type(want.text_model_output))
    assert list(got) == list(want)
    assert furthest(got.to_tuple(), want.to_tuple()) <= ATOL


def test_outputs_are_nodes_of_pytrees() -> None:
    """Code that maps over tensors, as torch.func and the loops of other packages do, keeps the output's class."""
    output = random()(ids(2), pixels(2))
    doubled = pytree.tree_map(lambda each: each * 2, output)
    assert type(doubled) is type(output)
    assert torch.equal(doubled.text_model_output.pooler_output, output.text_model_output.pooler_output * 2)
    paths = [pytree.keystr(path) for path, _ in pytree.tree_flatten_with_path(output)[0]]
    assert paths[:2] == ["['logits_per_image']", "['logits_per_text']"]
    assert paths[-1] == "['vision_model_output']['pooler_output']"
