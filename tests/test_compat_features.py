"""Features of the compat models: tensors, as in transformers 4, with the fields of version 5."""

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cjkclip.compat.transformers import AutoModel
from support.compat_pairs import Pair, furthest, ids, pair, pixels
from support.processes import printed

PARTS = ("image", "text")


@pytest.fixture(scope="module", params=["clip", "chinese"])
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair(request.param, tmp_path_factory.mktemp("pair"))


def call(model: Any, part: str, **flags: Any) -> Any:
    return model.get_image_features(pixels(2), **flags) if part == "image" else model.get_text_features(ids(2), **flags)


# Runs without the type checks of the tests, which torch.compile cannot trace.
TRACED = """
import torch
from cjkclip.compat.transformers.models.features import features
from cjkclip.compat.transformers.models.outputs import BaseModelOutputWithPooling

class Encode(torch.nn.Linear):
    field = False
    def forward(self, inputs):
        states = super().forward(inputs)
        output = BaseModelOutputWithPooling(last_hidden_state=states, pooler_output=states[:, 0])
        vectors = features(states[:, 0] * 2, output, None)
        vectors = vectors.pooler_output if self.field else vectors
        return vectors / vectors.norm(dim=-1, keepdim=True)

inputs = torch.randn(2, 4, 3)
for model in (Encode(3, 5), Encode(3, 5)):
    with torch.no_grad():
        wanted = model(inputs)
        compiled = torch.compile(model, backend="eager", fullgraph=True)(inputs)
        exported = torch.export.export(model, (inputs,)).module()(inputs)
        traced = wanted if model.field else torch.jit.trace(model, (inputs,))(inputs)
    for got in (compiled, exported, traced):
        torch.testing.assert_close(got, wanted)
    Encode.field = True
print("done")
"""


@pytest.mark.parametrize("part", PARTS)
def test_code_of_version_5(two: Pair, part: str) -> None:
    flags = {"output_hidden_states": True, "output_attentions": True, "return_dict": True}
    two.peer.set_attn_implementation("eager")
    got, want = call(two.ours, part, **flags), call(two.peer, part, **flags)
    for name in ("pooler_output", "last_hidden_state", "hidden_states", "attentions"):
        assert furthest(getattr(got, name), want[name]) <= 1e-5, name
        assert furthest(got[name], want[name]) <= 1e-5, name
    with pytest.raises(KeyError, match="'loss' is not one of"):
        got["loss"]


@pytest.mark.parametrize("part", PARTS)
def test_computing_gives_plain_tensors(two: Pair, part: str) -> None:
    got = call(two.ours, part)
    assert isinstance(got, Tensor)
    plain = (got.pooler_output, got[0], got[:, 1], got.norm(dim=-1), got * 2, got @ got.T, torch.cat([got, got]))
    assert {type(each) for each in plain} == {Tensor}
    assert torch.equal(got[:, 1:], got.pooler_output[:, 1:])
    assert got.detach().numpy().shape == got.shape
    got /= got.norm(dim=-1, keepdim=True)
    assert furthest(got.pooler_output.norm(dim=-1), torch.ones(2)) < 1e-6


@pytest.mark.parametrize("part", PARTS)
def test_gradients_flow_through_tensor_and_field(two: Pair, part: str) -> None:
    gradients: list[Tensor] = []
    for name in ("tensor", "field"):
        two.ours.zero_grad()
        got = call(two.ours, part)
        (got if name == "tensor" else got.pooler_output).square().sum().backward()
        gradients.append(
            next(p for n, p in two.ours.named_parameters() if n.startswith("vis" if part == "image" else "text")).grad
        )
    assert gradients[0].any()
    assert torch.equal(*gradients)


def test_states_do_not_stay_in_memory_without_a_request(two: Pair) -> None:
    assert call(two.ours, "image").last_hidden_state.grad_fn is not None  # the graph refers to them anyway
    with torch.no_grad():
        got = call(two.ours, "image")
        assert call(two.ours, "image", return_dict=True).last_hidden_state.shape == (2, 17, 32)
    assert not vars(got)
    assert got.hidden_states is got.attentions is None
    with pytest.raises(AttributeError, match="pass return_dict=True to the call"):
        _ = got.last_hidden_state
    with pytest.raises(AttributeError, match="Features has no attribute 'nothing'"):
        _ = got.nothing


@pytest.mark.parametrize("grad", [True, False])
def test_saved_and_copied_features_are_plain(two: Pair, grad: bool) -> None:
    with torch.set_grad_enabled(grad):
        got = call(two.ours, "text", return_dict=True)
    file = io.BytesIO()
    torch.save({"features": got}, file)
    assert len(file.getvalue()) < 4000  # the states are not in the file
    file.seek(0)
    copies = [torch.load(file, weights_only=True)["features"], pickle.loads(pickle.dumps(got)), copy.deepcopy(got)]
    for each in copies:
        assert type(each) is Tensor
        assert torch.equal(each, got)


def test_features_as_a_parameter(two: Pair) -> None:
    head = nn.Linear(20, 2, bias=False)
    head.weight = nn.Parameter(call(two.ours, "text"))
    for each in (head, copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        assert [name for name, _ in each.named_parameters()] == ["weight"]
        each(torch.ones(1, 20)).sum().backward()
        assert each.weight.grad is not None


def test_compiled_exported_and_traced() -> None:
    assert printed("-c", TRACED).strip() == "done"


def test_every_family_returns_them() -> None:
    model = AutoModel.from_pretrained("moji")
    size = model.config.vision_config.image_size
    got = model.get_image_features(torch.rand(1, 3, size, size))
    assert torch.equal(got, got.pooler_output)
    assert torch.equal(got, got["pooler_output"])
    texts = model.get_text_features(torch.tensor([[5, 6, 7]]))
    assert texts.last_hidden_state.shape[:2] == (1, 3)
