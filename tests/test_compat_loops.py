"""Train the models of cjkclip.compat as people do: with other packages' loops, with torch's own wrappers, by hand."""

import copy
import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from cjkclip.compat.transformers import CLIPOutput, CLIPTextModelWithProjection
from cjkclip.errors import LayoutError
from support.compat_pairs import furthest, ids, pixels
from support.loops import TARGETS, built, logits, require_same
from support.processes import python
from support.sources import TESTS

ATOL = 1e-5


@pytest.fixture(scope="module")
def child(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """All loops in one process, since the packages take seconds to import."""
    words = ("-W", "ignore", TESTS / "support" / "loops.py", tmp_path_factory.mktemp("loops"))
    return python(*words, path=[TESTS], HF_HUB_OFFLINE="1")


@pytest.mark.parametrize("loop", ["accelerate", "trainer", "lightning", "peft"])
def test_other_packages_train_save_and_load(child: subprocess.CompletedProcess[str], loop: str) -> None:
    assert loop in child.stdout.split(), child.stderr[-4000:]


@pytest.fixture
def group() -> Any:
    """A group of one process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("wrap", [nn.DataParallel, nn.parallel.DistributedDataParallel])
def test_torchs_wrappers(kind: str, wrap: type[nn.Module], group: None) -> None:
    model, plain = built(kind), built(kind)
    output = wrap(model)(input_ids=ids(4), pixel_values=pixels(4), return_loss=True)
    want = plain(ids(4), pixels(4), return_loss=True)
    assert type(output) is type(want)
    assert furthest(output.to_tuple(), want.to_tuple()) <= ATOL
    output.loss.backward()
    want.loss.backward()
    gradients = {name: parameter.grad for name, parameter in plain.named_parameters() if parameter.grad is not None}
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == (name not in gradients), name
        assert name not in gradients or furthest(parameter.grad, gradients[name]) <= ATOL, name


@pytest.mark.parametrize("kind", TARGETS)
def test_autocast(kind: str) -> None:
    model, want = built(kind), built(kind)(ids(4), pixels(4))
    with torch.autocast("cpu", torch.bfloat16):
        output = model(ids(4), pixels(4), return_loss=True)
    assert (output.loss.dtype, output.logits_per_image.dtype) == (torch.float32, torch.bfloat16)
    assert furthest(output.image_embeds.float(), want.image_embeds) < 0.05
    output.loss.backward()
    assert all(each.grad is None or each.grad.dtype == torch.float32 for each in model.parameters())


@pytest.mark.parametrize("kind", TARGETS)
def test_stopping_and_continuing_changes_nothing(kind: str, tmp_path: Path) -> None:
    """Model and optimiser go through torch.save; the next step is the same, also by a copy and a pickled model."""
    models = [built(kind)]
    optimisers = [torch.optim.AdamW(models[0].parameters(), 1e-2)]
    step(models[0], optimisers[0])
    torch.save({"model": models[0].state_dict(), "optimiser": optimisers[0].state_dict()}, tmp_path / "last.pt")
    again = built(kind)
    again.load_state_dict(torch.load(tmp_path / "last.pt", weights_only=True)["model"])
    for model in (again, copy.deepcopy(models[0]), pickle.loads(pickle.dumps(models[0]))):
        optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
        optimiser.load_state_dict(torch.load(tmp_path / "last.pt", weights_only=True)["optimiser"])
        models.append(model)
        optimisers.append(optimiser)
    before = logits(models[0])
    for model, optimiser in zip(models, optimisers, strict=True):
        step(model, optimiser)
        require_same(model, models[0])
        assert furthest(logits(model), before) > 1e-3


def step(model: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    optimiser.zero_grad()
    model(input_ids=ids(4), pixel_values=pixels(4), return_loss=True).loss.backward()
    optimiser.step()


def test_hooks_on_a_whole_model_run() -> None:
    """Lightning's summary, profilers and loggers register hooks on the model itself."""
    calls: list[Any] = []
    model = built()
    model.register_forward_pre_hook(lambda _, inputs: calls.append(inputs))
    model.register_forward_hook(lambda _, __, output: calls.append(type(output)))
    model(ids(1), pixels(1))
    assert calls[1] is CLIPOutput
    single = CLIPTextModelWithProjection(model.config.text_config)
    single.register_forward_hook(lambda _, __, output: calls.append(output.text_embeds.shape))
    single(ids(2))
    assert calls[2] == (2, 512)


def test_saving_what_another_process_gathered(tmp_path: Path) -> None:
    model, other = built(), built()
    with torch.no_grad():
        other.logit_scale.add_(1)
    model.save_pretrained(tmp_path / "none", is_main_process=False)
    assert not (tmp_path / "none").exists()
    model.save_pretrained(tmp_path / "other", state_dict=other.state_dict(), save_function=print)
    require_same(type(model).from_pretrained(tmp_path / "other"), other)
    partial = {name: value for name, value in other.state_dict().items() if name != "logit_scale"}
    with pytest.raises(LayoutError, match="lacks \\(logit_scale\\)"):
        model.save_pretrained(tmp_path / "none", state_dict=partial)
