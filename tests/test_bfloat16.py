"""Checkpoints in bfloat16: arrays in the mapped file as they are stored, the numbers of the same values in float32."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ml_dtypes import bfloat16

import cjkclip
from cjkclip.checkpoints import weights
from cjkclip.engines.openvino import kept as kept_openvino
from cjkclip.engines.openvino.kept import CachedGraph
from cjkclip.machine.mapped import MappedFile, root
from cjkclip.train import towers_of
from families import ENGINES, GOLDEN

HF, EOS2 = GOLDEN / "hf-chinese-clip", GOLDEN / "hf-clip-eos2"
PICTURE = np.arange(3000, dtype=np.uint8).reshape(20, 50, 3)
TEXTS = ["猫", "两只狗在雪地里"]
Stored = Callable[..., Path]


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """A golden model whose weights were rounded to bfloat16, stored as a type."""

    def write(kind: type, case: Path = HF) -> Path:
        folder = tmp_path / kind.__name__
        shutil.copytree(case, folder)
        tensors = weights.read(case / "model.safetensors")
        rounded = {n: a.astype(bfloat16).astype(kind) if a.dtype == np.float32 else a for n, a in tensors.items()}
        weights.write(folder / "model.safetensors", rounded)
        return folder

    return write


def halves(clip: cjkclip.Clip) -> list[np.ndarray]:
    return [array for array in clip.params.values() if array.dtype == bfloat16]


@pytest.mark.parametrize("engine", ENGINES)
def test_features_are_those_of_the_same_values_in_float32(engine: str, stored: Stored):
    got, want = (cjkclip.load(stored(kind), engine=engine, precision="fp32") for kind in (bfloat16, np.float32))
    assert len(halves(got)) > 50
    assert all(isinstance(root(array), MappedFile) for array in halves(got))
    assert got.logit_scale == want.logit_scale
    bound = 2e-6 if engine == "openvino" else 0.0  # which multiplies with another kernel where it widens by itself
    assert np.abs(got.encode_image(PICTURE) - want.encode_image(PICTURE)).max() <= bound
    assert np.abs(got.encode_text(TEXTS) - want.encode_text(TEXTS)).max() <= bound


def test_openvino_takes_them_as_they_are(stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """They are no part of the graph that is kept, and the one that is read back answers alike."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_openvino, "LEAST", 1)
    taken: list[set[str]] = []
    nodes = CachedGraph.nodes

    def noting(kept: CachedGraph) -> dict[str, object]:
        taken.append({array.dtype.name for array in kept.weights.values()})
        return nodes(kept)

    monkeypatch.setattr(CachedGraph, "nodes", noting)
    folder = stored(bfloat16)
    first, second = (cjkclip.load(folder, precision="fp32").encode_text(TEXTS) for _ in range(2))
    assert taken == [{"bfloat16"}]
    np.testing.assert_array_equal(first, second)


@pytest.mark.filterwarnings("ignore::cjkclip.errors.LayoutWarning")  # texts are not what is looked at
@pytest.mark.parametrize(("case", "layout"), [(HF, "cjkclip"), (HF, "cn_clip"), (EOS2, "transformers"), (EOS2, "flax")])
def test_saving_keeps_every_bit(case: Path, layout: str, stored: Stored, tmp_path: Path):
    clip = cjkclip.load(stored(bfloat16, case))
    assert clip.config.vision is not None
    assert clip.config.text is not None
    heads = {
        "vision.heads": clip.config.vision.heads,
        "text.heads": clip.config.text.heads,
    }  # cn_clip's files lack them
    again = cjkclip.load(clip.save(tmp_path / "saved", layout=layout), facts=heads if layout == "cn_clip" else None)
    assert len(halves(again)) == len(halves(clip)) > 50
    assert {n: a.tobytes() for n, a in again.params.items()} == {n: a.tobytes() for n, a in clip.params.items()}


def test_training_starts_from_their_values(stored: Stored):
    clip = cjkclip.load(stored(bfloat16))
    state = towers_of(clip).state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in state.values() if tensor.is_floating_point())
    np.testing.assert_array_equal(
        state["text.token.weight"].numpy(), clip.params["text.token.weight"].astype(np.float32), strict=True
    )
