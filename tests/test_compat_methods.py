"""Methods that transformers' models have besides their calls: embeddings, gradient checkpointing, sizes, upload."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import cjkclip.compat.transformers as compat
from cjkclip.checkpoints.hub import huggingface
from cjkclip.compat.transformers import AutoModel
from cjkclip.errors import InputError, OptionError
from families import GOLDEN
from support.compat_pairs import KINDS, SINGLES, VOCAB, Pair, furthest, ids, pair, pixels, single


@pytest.fixture(scope="module", params=KINDS)
def two(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair(request.param, tmp_path_factory.mktemp("pair"))


def test_sizes_and_names(two: Pair) -> None:
    ours, peer = two.ours, two.peer
    for trainable in (True, False):
        assert ours.num_parameters(trainable) == peer.num_parameters(only_trainable=trainable)
    assert ours.num_parameters(exclude_embeddings=True) == peer.num_parameters(exclude_embeddings=True)
    assert ours.get_memory_footprint(return_buffers=False) == peer.get_memory_footprint(return_buffers=False)
    assert (ours.base_model_prefix, ours.main_input_name) == (peer.base_model_prefix, peer.main_input_name)
    assert ours.base_model is ours
    assert ours.name_or_path == ours.config.name_or_path == str(two.folder)
    assert ours.can_generate() is peer.can_generate() is False
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    ours.init_weights()
    ours.tie_weights()
    assert all(torch.equal(tensor, before[name]) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize("name", SINGLES)
def test_input_embeddings_of_towers(name: str, tmp_path: Path) -> None:
    two = single(name, tmp_path)
    got, want = two.ours.get_input_embeddings(), two.peer.get_input_embeddings()
    assert torch.equal(got.weight, want.weight)
    assert two.ours.main_input_name == two.peer.main_input_name
    replaced = copy.deepcopy(got)
    nn.init.constant_(replaced.weight, 0.5)
    for model in (two.ours, two.peer):
        model.set_input_embeddings(replaced)
    assert two.ours.get_input_embeddings() is replaced
    inputs = ids(2) if "Text" in name else pixels(2)
    assert furthest(two.ours(inputs).last_hidden_state, two.peer(inputs).last_hidden_state) <= 1e-5


@pytest.mark.parametrize("size", [VOCAB + 3, 60, 59])
@pytest.mark.parametrize("kind", ["clip", "chinese"])
def test_another_number_of_tokens(kind: str, size: int, tmp_path: Path) -> None:
    model = pair(kind, tmp_path / "theirs").ours
    texts = ids(2).clamp(max=58)
    before, old = model.get_text_features(texts).detach(), model.get_input_embeddings().weight.detach().clone()
    table = model.resize_token_embeddings(size)
    assert table is model.get_input_embeddings()
    assert table.weight.shape == (size, 24)
    assert torch.allclose(table.weight[VOCAB:], old.mean(0).expand(max(size - VOCAB, 0), -1))
    assert model.config.text_config.vocab_size == size
    if kind == "chinese":
        assert furthest(model.get_text_features(texts), before) == 0.0
    if size > VOCAB:
        model.get_text_features(torch.full((1, 4), size - 1))  # the new ids are accepted
    model.save_pretrained(tmp_path / "ours")
    again = AutoModel.from_pretrained(tmp_path / "ours")
    assert torch.equal(again.get_input_embeddings().weight, table.weight)


def test_numbers_of_tokens_that_cannot_be() -> None:
    model = AutoModel.from_pretrained(GOLDEN / "hf-clip-eos2")
    size = model.get_input_embeddings().num_embeddings
    assert model.resize_token_embeddings() is model.resize_token_embeddings(size) is model.get_input_embeddings()
    assert model.resize_token_embeddings(size + 1, pad_to_multiple_of=8, mean_resizing=False).num_embeddings % 8 == 0
    with pytest.raises(InputError, match="new_num_tokens is 0, expected at least 1"):
        model.resize_token_embeddings(0)
    with pytest.raises(InputError, match="CLIPVisionModel has no table of tokens"):
        model.vision_model.resize_token_embeddings(5)


def gradients(model: Any) -> dict[str, torch.Tensor]:
    model.zero_grad()
    torch.manual_seed(3)  # for the dropouts
    model(ids(3), pixels(3), return_loss=True).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_gradient_checkpointing_gives_the_same_gradients(two: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    model, runs = copy.deepcopy(two.ours).train(), []
    want = gradients(model)
    run = torch.utils.checkpoint.checkpoint
    monkeypatch.setattr(torch.utils.checkpoint, "checkpoint", lambda *a, **k: runs.append(k) or run(*a, **k))
    model.gradient_checkpointing_enable()
    assert model.is_gradient_checkpointing
    for each in (model, copy.deepcopy(model)):
        got = gradients(each)
        assert got.keys() == want.keys()
        assert all(furthest(got[name], want[name]) < 1e-6 for name in want)
    assert runs == [{"use_reentrant": False}] * 8  # two towers of two blocks, twice
    output = model(ids(3), pixels(3), output_attentions=True)
    assert output.logits_per_image.sum().backward() is None
    assert len(output.text_model_output.attentions) == 2
    assert model.is_gradient_checkpointing
    assert len(model(ids(1), pixels(1), output_hidden_states=True).vision_model_output.hidden_states) == 3
    runs.clear()
    model.eval()(ids(1), pixels(1))
    model.train().gradient_checkpointing_disable()
    assert not model.is_gradient_checkpointing
    assert gradients(model).keys() == want.keys()
    assert not runs


def test_inputs_of_frozen_models_get_gradients() -> None:
    model = AutoModel.from_pretrained(GOLDEN / "hf-chinese-clip").requires_grad_(False)
    assert not model.get_text_features(torch.tensor([[2, 3]])).requires_grad
    model.enable_input_require_grads()
    assert model.get_text_features(torch.tensor([[2, 3]])).requires_grad
    model.disable_input_require_grads()
    assert not model.get_text_features(torch.tensor([[2, 3]])).requires_grad


def test_every_family_has_them() -> None:
    model = AutoModel.from_pretrained("moji")
    size = model.get_input_embeddings().num_embeddings
    model.resize_token_embeddings(size + 2)
    assert model.config.to_model().text.vocab == size + 2
    model.get_text_features(torch.tensor([[size + 1, 5]]))
    model.train().gradient_checkpointing_enable()
    model.get_text_features(torch.tensor([[5, 6]])).sum().backward()


def test_options_of_save_pretrained(tmp_path: Path) -> None:
    model = AutoModel.from_pretrained(GOLDEN / "hf-clip-eos2")
    state = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    model.save_pretrained(save_directory=tmp_path / "other", is_main_process=False)
    assert not (tmp_path / "other").exists()
    model.save_pretrained(tmp_path, state_dict=state, max_shard_size="5GB", push_to_hub=False, variant=None)
    again = AutoModel.from_pretrained(tmp_path)
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())
    with pytest.raises(OptionError, match="save_pretrained supports variant only as None, got 'fp16'"):
        model.save_pretrained(tmp_path, variant="fp16")
    with pytest.raises(OptionError, match="has no option 'vriant'"):
        model.save_pretrained(tmp_path, vriant=None)


def test_upload(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Any] = []

    class Api:
        def __init__(self, token: Any) -> None:
            calls.append(token)

        def create_repo(self, name: str, **options: Any) -> Any:
            calls.append((name, options))
            return type("Url", (), {"repo_id": f"me/{name}"})

        def upload_folder(self, *, folder_path: Path, **options: Any) -> Any:
            calls.append((options, sorted(each.name for each in folder_path.iterdir())))
            return type("Commit", (), {"commit_url": "https://hub/commit"})

    monkeypatch.setattr(huggingface, "HfApi", Api)
    model = AutoModel.from_pretrained(GOLDEN / "hf-clip-eos2")
    assert model.push_to_hub("clip", token="t", private=True, create_pr=True) == "https://hub/commit"
    files = ["config.json", "model.safetensors"]
    commit = {"repo_id": "me/clip", "commit_message": "Upload CLIPModel", "create_pr": True}
    assert calls == ["t", ("clip", {"private": True, "exist_ok": True}), (commit, files)]
    calls.clear()
    model.config.push_to_hub("clip", commit_message="new")
    assert calls[-1] == ({"repo_id": "me/clip", "commit_message": "new"}, ["config.json"])
    model.save_pretrained(tmp_path / "mine", push_to_hub=True)
    assert calls[-1][0]["repo_id"] == "me/mine"
    with pytest.raises(OptionError, match="push_to_hub has no option 'organization'"):
        model.push_to_hub("clip", organization="x")


def test_configurations_keep_what_they_do_not_know(tmp_path: Path) -> None:
    config = compat.ChineseCLIPTextConfig(is_decoder=False, my_field={"a": 1}, attn_implementation="eager")
    config.update({"classifier_dropout": 0.1})
    config.to_json_file(tmp_path / "config.json")
    again = compat.ChineseCLIPTextConfig.from_json_file(tmp_path / "config.json")
    assert again.to_dict() == config.to_dict()
    assert (again.my_field, again.classifier_dropout, again.use_return_dict) == ({"a": 1}, 0.1, True)
    assert config._attn_implementation == "eager"
    found, rest = compat.ChineseCLIPTextConfig.get_config_dict(tmp_path, hidden_size=3, token=None)
    assert (found["my_field"], rest) == ({"a": 1}, {"hidden_size": 3})
    diff = {
        "model_type": "chinese_clip_text_model",
        "is_decoder": False,
        "my_field": {"a": 1},
        "classifier_dropout": 0.1,
    }
    assert again.to_diff_dict() == diff
    assert compat.CLIPConfig().to_diff_dict().keys() == {"model_type", "text_config", "vision_config"}
    assert (
        compat.ChineseCLIPTextConfig.from_dict(config_dict={"hidden_size": 24}, num_attention_heads=2).hidden_size == 24
    )


def test_labels_of_configurations(tmp_path: Path) -> None:
    config = compat.CLIPVisionConfig(num_labels=3)
    assert config.num_labels == 3
    assert config.id2label[2] == "LABEL_2"
    config.id2label, config.label2id = {0: "猫", 1: "犬"}, {"猫": 0, "犬": 1}
    config.save_pretrained(save_directory=tmp_path)
    again = compat.CLIPVisionConfig.from_pretrained(tmp_path, num_labels=2)
    assert (again.id2label, again.label2id, again.num_labels) == (config.id2label, config.label2id, 2)
    assert compat.CLIPConfig().id2label == {0: "LABEL_0", 1: "LABEL_1"}
    assert compat.CLIPConfig().problem_type is None


def test_parts_of_configurations() -> None:
    whole = compat.CLIPConfig(attn_implementation="eager")
    assert whole.get_text_config() is whole.text_config
    assert whole.text_config.get_text_config(decoder=True) is whole.text_config
    assert (
        compat.CLIPModel.from_pretrained(
            GOLDEN / "hf-clip-eos2", attn_implementation="eager"
        ).config._attn_implementation
        == "eager"
    )
    made = compat.AutoConfig.for_model("chinese_clip", projection_dim=9)
    assert (type(made), made.projection_dim) == (compat.ChineseCLIPConfig, 9)
    with pytest.raises(InputError, match="model_type is 'bert', expected one of"):
        compat.AutoConfig.for_model("bert")
