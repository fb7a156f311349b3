"""Changes at published names reach the arithmetic: freezing, hooks, replaced modules, copies, devices and types."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import cjkclip.compat.transformers as compat
from cjkclip.errors import InputError
from support.compat_pairs import KINDS, Pair, furthest, ids, masks, pair, pixels

PATHS = {
    "clip": ("embeddings.token_embedding", "encoder.layers.{}.self_attn.q_proj", "encoder.layers.{}.mlp.fc1"),
    "chinese": ("embeddings.word_embeddings", "encoder.layer.{}.attention.self.query", "encoder.layer.{}.output.dense"),
}
BLOCKS = {"clip": "encoder.layers.0", "clip-legacy": "encoder.layers.0", "chinese": "encoder.layer.0"}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def two(kind: str, tmp_path: Path) -> Pair:
    return pair(kind, tmp_path)


def logits(model: Any) -> torch.Tensor:
    return model(ids(3), pixels(3)).logits_per_image


@pytest.mark.parametrize("layers", [1, 2])
def test_every_module_with_parameters_has_its_published_path(kind: str, layers: int, tmp_path: Path) -> None:
    two = pair(kind, tmp_path, text={"num_hidden_layers": layers}, vision={"num_hidden_layers": layers})
    ours, peer = (
        {n: set(m.state_dict()) for n, m in model.named_modules() if list(m.parameters())}
        for model in (two.ours, two.peer)
    )
    assert ours == peer
    shapes = ({n: p.shape for n, p in model.named_parameters()} for model in (two.ours, two.peer))
    assert next(shapes) == next(shapes)
    assert two.ours.num_parameters() == two.peer.num_parameters()


def test_freezing_a_part_freezes_it_alone(two: Pair) -> None:
    """Freezing by name, as in published fine-tuning code."""
    for parameter in two.ours.vision_model.parameters():
        parameter.requires_grad = False
    two.ours.text_model.encoder.requires_grad_(False)
    two.ours(ids(3), pixels(3), return_loss=True).loss.backward()
    trained = {name for name, parameter in two.ours.named_parameters() if parameter.grad is not None}
    assert trained == {name for name, p in two.ours.named_parameters() if p.requires_grad}
    assert {"visual_projection.weight", "text_projection.weight", "logit_scale"} < trained
    assert not any(name.startswith(("vision_model", "text_model.encoder")) for name in trained)


def test_a_step_of_training_is_the_same_step(two: Pair) -> None:
    for model in (two.ours, two.peer):
        optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
        for _ in range(3):
            optimiser.zero_grad()
            model(input_ids=ids(4), pixel_values=pixels(4), return_loss=True).loss.backward()
            optimiser.step()
    with torch.no_grad():
        assert furthest(logits(two.ours), logits(two.peer)) <= 1e-5


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("new", [False, True])
def test_hooks_on_published_blocks_are_called(kind: str, new: bool, layers: int, tmp_path: Path) -> None:
    model = pair(kind, tmp_path, text={"num_hidden_layers": layers}, vision={"num_hidden_layers": layers}).ours
    model = type(model)(model.config).eval() if new else model
    for tower, path in (("text_model", BLOCKS[kind]), ("vision_model", "encoder.layers.0")):
        block = getattr(model, tower).get_submodule(path)
        seen: list[torch.Tensor] = []
        hook = block.register_forward_hook(lambda _, __, output, seen=seen: seen.append(output))
        output = model(ids(3), pixels(3), output_hidden_states=True)
        assert torch.equal(seen[0], output[f"{tower}_output"].hidden_states[1])
        hook.remove()
        logits(model)
        assert len(seen) == 1


def test_a_hook_that_would_never_be_called_is_refused(two: Pair) -> None:
    for register in ("register_forward_hook", "register_forward_pre_hook"):
        with pytest.raises(InputError, match="nothing is computed under this name"):
            getattr(two.ours.vision_model.encoder, register)(lambda *_: None)
    with pytest.raises(InputError, match="nothing is computed here"):
        two.ours.vision_model.encoder(torch.zeros(1, 2, 32))


def test_a_module_put_in_a_place_computes_there(two: Pair, kind: str) -> None:
    """Wrap a layer at its published name, as adapters do."""

    class Doubled(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * self.inner(x)

    for path in PATHS["chinese" if kind == "chinese" else "clip"]:
        for model in (two.ours, two.peer):
            parent, _, name = path.format(1).rpartition(".")
            owner = model.text_model.get_submodule(parent)
            setattr(owner, name, Doubled(getattr(owner, name)))
        assert furthest(logits(two.ours), logits(two.peer)) <= 1e-5, path
    bigger = nn.Parameter(torch.ones(32))
    two.ours.vision_model.embeddings.class_embedding = bigger
    two.peer.vision_model.embeddings.class_embedding = bigger
    assert furthest(logits(two.ours), logits(two.peer)) <= 1e-5


def test_layers_left_out_are_left_out(two: Pair) -> None:
    for model in (two.ours, two.peer):
        model.vision_model.encoder.layers = model.vision_model.encoder.layers[:1]
    assert furthest(logits(two.ours), logits(two.peer)) <= 1e-5
    del two.ours.vision_model.encoder.layers[0], two.peer.vision_model.encoder.layers[0]
    assert furthest(logits(two.ours), logits(two.peer)) <= 1e-5


def test_copies_share_nothing(two: Pair) -> None:
    before = logits(two.ours).detach()
    for twin in (copy.deepcopy(two.ours), pickle.loads(pickle.dumps(two.ours))):
        assert torch.equal(logits(twin), before)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.add_(0.1)
        assert torch.equal(logits(two.ours), before)
        assert furthest(logits(twin), before) > 1e-2


def test_types_and_devices_reach_the_tower(two: Pair) -> None:
    assert two.ours.device == torch.device("cpu")
    two.ours.double()
    two.peer.double()
    assert two.ours.dtype == torch.float64
    got, want = (model(input_ids=ids(3), pixel_values=pixels(3).double()) for model in (two.ours, two.peer))
    assert furthest(got.logits_per_image, want.logits_per_image) <= 1e-12
    two.ours.half()
    assert two.ours.get_image_features(pixels(2)).dtype == torch.float16  # pixels follow the weights
    two.ours.to("meta")
    assert {p.device.type for p in two.ours.vision_model.part.parameters()} == {"meta"}
    state = two.peer.float().state_dict()
    two.ours.load_state_dict(state, assign=True)
    with torch.no_grad():
        assert furthest(logits(two.ours), logits(two.peer)) <= 1e-5


def test_training_mode_reaches_the_dropouts(tmp_path: Path) -> None:
    model = pair("chinese", tmp_path).ours
    inputs = (ids(2), masks(2)["right"])
    still = model.get_text_features(*inputs)
    assert torch.equal(model.get_text_features(*inputs), still)
    assert model.train() is model
    assert furthest(model.get_text_features(*inputs), still) > 1e-3
    model.text_model.eval()
    assert torch.equal(model.get_text_features(*inputs), still)


def test_random_weights_are_those_of_a_new_clip() -> None:
    torch.manual_seed(0)
    config = compat.CLIPConfig(logit_scale_init_value=1.5, text_config={"num_hidden_layers": 2, "vocab_size": 99})
    model = compat.CLIPModel(config).requires_grad_(False)
    assert float(model.logit_scale) == 1.5
    assert 0.018 < float(model.text_model.embeddings.token_embedding.weight.std()) < 0.022
    assert float(model.vision_model.post_layernorm.weight.std()) == 0
    assert 0.03 < float(model.text_projection.weight.std()) < 0.06
    assert not any(p.isnan().any() for p in model.parameters())
    again = compat.AutoModel.from_config(config, attn_implementation="eager")
    assert type(again) is compat.CLIPModel
    assert again.config._attn_implementation == "eager"


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no ids": ({"input_ids": None}, "input_ids is missing"),
    "no pixels": ({"pixel_values": None}, "pixel_values is missing"),
    "floats": ({"input_ids": torch.zeros(2, 5)}, "is of type torch.float32, expected whole numbers"),
    "long": ({"input_ids": torch.zeros(2, 13, dtype=torch.int64)}, "texts of 13 tokens, expected 1 to 12"),
    "empty": ({"input_ids": torch.zeros(2, 0, dtype=torch.int64)}, "texts of 0 tokens"),
    "vocabulary": ({"input_ids": torch.full((2, 5), 60)}, "runs from 60 to 60, expected 0 to 59"),
    "mask": ({"attention_mask": torch.ones(2, 5)}, r"attention_mask has shape \(2, 5\), expected \(3, 9\)"),
    "positions": ({"position_ids": torch.full((1, 9), 12)}, "position_ids runs from 12 to 12, expected 0 to 11"),
    "rows": ({"position_ids": torch.zeros(2, 9, dtype=torch.int64)}, r"position_ids has shape \(2, 9\)"),
    "size": ({"pixel_values": torch.zeros(3, 3, 24, 32)}, "24 x 32, expected 32 x 32.*interpolate_pos_enc"),
    "channels": ({"pixel_values": torch.zeros(3, 1, 32, 32)}, r"shape \(3, 1, 32, 32\).*expected \(n, 3, 32, 32\)"),
    "bytes": ({"pixel_values": torch.zeros(3, 3, 32, 32, dtype=torch.uint8)}, "torch.uint8, expected"),
    "loss": (
        {"pixel_values": torch.zeros(2, 3, 32, 32), "return_loss": True},
        "one text per image, got 3 texts and 2 images",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_an_input_that_does_not_fit_is_refused(two: Pair, case: str) -> None:
    bad, message = BAD[case]
    with pytest.raises(InputError, match=message):
        two.ours(**({"input_ids": ids(3), "pixel_values": pixels(3)} | bad))


def test_an_argument_that_is_not_known_is_refused(two: Pair) -> None:
    with pytest.raises(TypeError, match=r"unexpected arguments \['output_hidden_state'\]"):
        two.ours(ids(3), pixels(3), output_hidden_state=True)
    with pytest.raises(TypeError, match="unexpected arguments"):
        two.ours.get_image_features(pixels(3), atention_mask=None)
    with pytest.raises(TypeError, match="takes a "):
        type(two.ours)(two.ours.config.text_config)
