"""Compare CLIPModel, ChineseCLIPModel and single towers with transformers' own: outputs, losses, gradients."""

from pathlib import Path
from typing import Any

import pytest
import torch

from cjkclip.compat.transformers.models.pretrained import attentions
from cjkclip.compat.transformers.models.tree import Branch
from support.compat_pairs import CONTEXT, KINDS, PAD, SINGLES, Pair, furthest, ids, masks, pair, pixels, single
from support.peers import transformers

ATOL = 1e-5
EVERY = ("logits_per_image", "logits_per_text", "text_embeds", "image_embeds")
RECORD = {"output_hidden_states": True, "output_attentions": True}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    return {kind: pair(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


def attend(two: Pair, how: str) -> None:
    two.peer.set_attn_implementation(how)
    two.ours.set_attn_implementation(how)


def compare(two: Pair, inputs: dict[str, Any]) -> None:
    """Compare every stage of both models, the loss, and the gradient of every parameter."""
    record = RECORD if two.peer.config._attn_implementation == "eager" else {"output_hidden_states": True}
    loss = len(inputs["input_ids"]) == len(inputs["pixel_values"])
    want = two.peer(**inputs, **record, return_loss=loss)
    got = two.ours(**inputs, **record, return_loss=loss)
    for tower in ("vision_model_output", "text_model_output"):
        for stage in ("hidden_states", "attentions", "last_hidden_state"):
            if want[tower].get(stage) is not None:
                assert furthest(got[tower][stage], want[tower][stage]) <= ATOL, (tower, stage)
    for name in EVERY:
        assert furthest(got[name], want[name]) <= ATOL, name
    if loss:
        assert furthest(got.loss, want.loss) <= ATOL
        assert got.loss.shape == ()
    if loss and len(inputs["input_ids"]) > 1:
        compare_gradients(two, got.loss, want.loss)
    else:  # the loss of one pair is always 0
        compare_gradients(two, got.logits_per_text.mean(), want.logits_per_text.mean())


def compare_gradients(two: Pair, got: torch.Tensor, want: torch.Tensor) -> None:
    two.peer.zero_grad()
    two.ours.zero_grad()
    want.backward()
    got.backward()
    ours = dict(two.ours.named_parameters())
    assert set(ours) == {name for name, _ in two.peer.named_parameters()}
    largest = 0.0
    for name, parameter in two.peer.named_parameters():
        if parameter.grad is None:
            assert ours[name].grad is None, name
        else:
            assert furthest(ours[name].grad, parameter.grad) <= ATOL, name
            largest = max(largest, float(parameter.grad.abs().max()))
    assert largest > 1e-2


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("mask", masks(1))
@pytest.mark.parametrize("how", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_stage_and_gradient(pairs: dict[str, Pair], kind: str, how: str, mask: str, batch: int) -> None:
    two = pairs[kind]
    attend(two, how)
    compare(two, {"input_ids": ids(batch), "pixel_values": pixels(batch), "attention_mask": masks(batch)[mask]})


@pytest.mark.parametrize("texts", [1, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_other_numbers_of_texts_than_of_pictures(pairs: dict[str, Pair], kind: str, texts: int) -> None:
    compare(pairs[kind], {"input_ids": ids(texts), "pixel_values": pixels(3)})
    assert pairs[kind].ours(ids(texts), pixels(3)).logits_per_image.shape == (3, texts)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_positions_and_token_types(pairs: dict[str, Pair], kind: str, rows: int) -> None:
    drawn = torch.Generator().manual_seed(2)
    more = {"position_ids": torch.randint(0, CONTEXT, (rows, 9), generator=drawn)}
    if kind == "chinese":
        more["token_type_ids"] = torch.randint(0, 2, (3, 9), generator=drawn)
    compare(pairs[kind], {"input_ids": ids(3), "pixel_values": pixels(3), **more})


def test_the_pad_of_a_bert_gets_no_gradient(pairs: dict[str, Pair]) -> None:
    """It gets none even where the tower reads it because no mask hides it."""
    texts = ids(3)
    texts[texts == PAD] = 0
    compare(pairs["chinese"], {"input_ids": texts, "pixel_values": pixels(3)})
    assert not pairs["chinese"].ours.text_model.embeddings.word_embeddings.weight.grad[0].any()


@pytest.mark.parametrize(
    ("text", "vision"),
    [
        ({"num_hidden_layers": 1}, {"num_hidden_layers": 1}),
        ({"num_attention_heads": 1, "hidden_act": "gelu"}, {"image_size": 64, "patch_size": 16, "hidden_act": "gelu"}),
        ({"hidden_act": "quick_gelu", "layer_norm_eps": 1e-3}, {"layer_norm_eps": 1e-3, "hidden_size": 40}),
        ({"max_position_embeddings": 9}, {"image_size": 30, "patch_size": 8}),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_other_sizes(kind: str, text: dict[str, Any], vision: dict[str, Any], tmp_path: Path) -> None:
    two = pair(kind, tmp_path, text=text, vision=vision)
    size = vision.get("image_size", 32)
    compare(two, {"input_ids": ids(3), "pixel_values": pixels(3, size, size)})


@pytest.mark.parametrize("size", [(32, 32), (48, 48), (24, 40), (64, 16), (35, 33)])
@pytest.mark.parametrize("kind", KINDS)
def test_pictures_of_other_sizes(pairs: dict[str, Pair], kind: str, size: tuple[int, int]) -> None:
    inputs = {"input_ids": ids(3), "pixel_values": pixels(3, *size), "interpolate_pos_encoding": True}
    compare(pairs[kind], inputs)


@pytest.mark.parametrize("record", [{}, RECORD, {"output_hidden_states": True}])
@pytest.mark.parametrize("loss", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_tuple_in_the_same_order(pairs: dict[str, Pair], kind: str, loss: bool, record: dict[str, bool]) -> None:
    """The towers' outputs agree too, except that the peer projects the pooled vectors (see below)."""
    two = pairs[kind]
    attend(two, "eager")
    inputs = {"input_ids": ids(3), "pixel_values": pixels(3), "return_loss": loss, **record}
    want, got = (model(**inputs, return_dict=False) for model in (two.peer, two.ours))
    assert isinstance(got, tuple)
    assert len(got) == len(want) == 6 + loss
    assert furthest(got[:-2], want[:-2]) <= ATOL
    for ours, theirs in zip(got[-2:], want[-2:], strict=True):
        assert furthest(ours[0], theirs[0]) <= ATOL
        assert isinstance(ours, tuple)
        recorded = tuple(part for part in theirs if isinstance(part, tuple))
        assert furthest(ours[len(ours) - len(record) :], recorded) <= ATOL if record else len(ours) <= 2


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_tensors_and_not_normalised(pairs: dict[str, Pair], kind: str) -> None:
    two = pairs[kind]
    attend(two, "sdpa")
    mask = masks(4)["right"]
    text, image = two.ours.get_text_features(ids(4), mask), two.ours.get_image_features(pixels(4))
    assert furthest(text, two.peer.get_text_features(ids(4), mask).pooler_output) <= ATOL
    assert furthest(image, two.peer.get_image_features(pixels(4)).pooler_output) <= ATOL
    assert (image.norm(dim=-1) - 1).abs().min() > 1e-3
    unit = image / image.norm(p=2, dim=-1, keepdim=True)  # the next lines of the published snippet
    torch.testing.assert_close(unit.norm(dim=-1), torch.ones(4))


@pytest.mark.parametrize("kind", KINDS)
def test_the_towers_own_outputs_are_those_of_the_towers(pairs: dict[str, Pair], kind: str) -> None:
    """transformers 5 stores the projected vector in text_model_output; version 4 and cjkclip the pooled one."""
    two = pairs[kind]
    got = two.ours(ids(3), pixels(3))
    want = two.peer.vision_model(pixels(3)).pooler_output
    assert furthest(got.vision_model_output.pooler_output, want) <= ATOL
    text = two.peer.text_model(ids(3)).pooler_output
    if kind == "chinese":
        assert text is None
        assert got.text_model_output.pooler_output is None
    else:
        assert furthest(got.text_model_output.pooler_output, text) <= ATOL


def call(name: str, model: Any, **flags: Any) -> Any:
    if "Text" not in name:
        return model(pixel_values=pixels(3), **flags)
    return model(input_ids=ids(3), attention_mask=masks(3)["holes"], **flags)


@pytest.mark.parametrize("how", ["eager", "sdpa"])
@pytest.mark.parametrize("name", SINGLES)
def test_a_tower_alone(name: str, how: str, tmp_path: Path) -> None:
    two = single(name, tmp_path)
    attend(two, how)
    record = RECORD if how == "eager" else {"output_hidden_states": True}
    want, got = (call(name, model, **record) for model in (two.peer, two.ours))
    assert list(got) == list(want)
    assert type(got).__name__ == type(want).__name__
    assert furthest(got.to_tuple(), want.to_tuple()) <= ATOL
    plain = call(name, two.ours, return_dict=False)
    assert furthest(plain, call(name, two.peer, return_dict=False)) <= ATOL
    compare_gradients(two, (got[0] ** 2).mean(), (want[0] ** 2).mean())


def test_a_bert_of_vectors_and_without_pooler(tmp_path: Path) -> None:
    two = single("ChineseCLIPTextModel", tmp_path)
    vectors = torch.randn(2, 5, 24, generator=torch.Generator().manual_seed(5))
    got, want = (model(inputs_embeds=vectors) for model in (two.ours, two.peer))
    assert furthest(got.to_tuple(), want.to_tuple()) <= ATOL
    bare = type(two.ours).from_pretrained(tmp_path, add_pooling_layer=False)
    assert bare.pooler is None
    assert list(bare(inputs_embeds=vectors)) == ["last_hidden_state"]
    assert not any("pooler" in name for name in bare.state_dict())
    assert type(two.ours)(two.ours.config, add_pooling_layer=False).pooler is None


@pytest.mark.parametrize("kind", KINDS)
def test_fused_attention_also_gives_probabilities(pairs: dict[str, Pair], kind: str) -> None:
    """transformers 4 uses eager attention for such a call; version 5 returns no attentions."""
    two = pairs[kind]
    attend(two, "eager")
    want = two.peer(ids(2), pixels(2), output_attentions=True)
    attend(two, "sdpa")
    got = two.ours(ids(2), pixels(2), output_attentions=True)
    assert furthest(got.text_model_output.attentions, want.text_model_output.attentions) <= ATOL
    assert furthest(got.vision_model_output.attentions, want.vision_model_output.attentions) <= ATOL
    assert two.ours(ids(2), pixels(2), output_hidden_states=True).text_model_output.attentions is None
    assert not any(attention.eager for attention in attentions(two.ours))  # the next call uses fused attention again
    parts = [module.part for module in two.ours.modules() if isinstance(module, Branch) and module.part is not None]
    assert not any(each._forward_hooks or each._forward_pre_hooks for part in parts for each in part.modules())


@pytest.mark.parametrize("kind", KINDS)
def test_training_drops_the_same_numbers(kind: str, tmp_path: Path) -> None:
    """Dropout draws the same random numbers in the same order."""
    drop = {"hidden_dropout_prob": 0.3, "attention_probs_dropout_prob": 0.2} if kind == "chinese" else {}
    two = pair(kind, tmp_path, text=drop or {"attention_dropout": 0.2}, vision={"attention_dropout": 0.1})
    attend(two, "eager")
    outputs = []
    for model in (two.peer.train(), two.ours.train()):
        torch.manual_seed(11)
        outputs.append((model.get_image_features(pixels(2)), model.get_text_features(ids(2))))
    for got, want in zip(outputs[1], outputs[0], strict=True):
        assert furthest(got, want.pooler_output) <= ATOL
    still = two.ours.eval().get_text_features(ids(2))
    assert furthest(still, two.peer.eval().get_text_features(ids(2)).pooler_output) <= ATOL
    assert furthest(still, outputs[1][1]) > 1e-3


def test_the_peer_is_the_version_whose_facts_are_written_down() -> None:
    assert transformers().__version__ == "5.23.0"
