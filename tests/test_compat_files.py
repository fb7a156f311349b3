"""Exchange files with transformers in both directions, and test AutoModel on every golden case."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cjkclip
import cjkclip.compat.transformers as compat
from cjkclip.compat.transformers.models.auto import class_for
from cjkclip.errors import FactsError, HubError, InputError, LayoutError
from families import FAMILIES, GOLDEN, Case
from support.compat_pairs import KINDS, SINGLES, furthest, ids, masks, pair, pixels, single
from support.peers import transformers

ATOL = 1e-5
CLASSES = {"hf-clip": "CLIPModel", "koclip": "CLIPModel", "openai-vit": "CLIPModel", "hf-chinese": "ChineseCLIPModel"}
CLASSES |= {"open-clip": "CLIPModel", "cn-clip-vit": "ChineseCLIPModel", "taiyi-clip": "ChineseCLIPModel"}
NAMED = [case for case in FAMILIES if not case.form]


def features(model: Any, text: torch.Tensor, mask: torch.Tensor, pictures: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the features of our model, or of the peer's, which wraps them in an object."""
    with torch.no_grad():
        found = (model.get_text_features(text, mask), model.get_image_features(pictures))
    return tuple(f if isinstance(f, torch.Tensor) else f.pooler_output for f in found)


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_transformers_loads_what_we_save(kind: str, safe: bool, tmp_path: Path) -> None:
    two = pair(kind, tmp_path / "theirs")
    two.ours.save_pretrained(tmp_path / "ours", safe_serialization=safe)
    again, report = type(two.peer).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values())
    inputs = (ids(3), masks(3)["right"], pixels(3))
    assert furthest(features(again.eval(), *inputs), features(two.peer, *inputs)) == 0.0
    assert again.config.to_diff_dict().keys() >= {"text_config", "vision_config"}
    ours = type(two.ours).from_pretrained(tmp_path / "ours")
    assert furthest(features(ours, *inputs), features(two.ours, *inputs)) == 0.0
    assert ours.config == type(ours.config).from_pretrained(tmp_path / "ours")


@pytest.mark.parametrize("name", SINGLES)
def test_a_tower_alone_both_ways(name: str, tmp_path: Path) -> None:
    two = single(name, tmp_path / "theirs")
    two.ours.save_pretrained(tmp_path / "ours")
    again, report = type(two.peer).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(report.values())
    for saved, read in ((two.peer, again), (two.ours, type(two.ours).from_pretrained(tmp_path / "ours"))):
        theirs, ours = saved.state_dict(), read.state_dict()
        assert list(theirs) == list(ours)
        if read is again and name == "ChineseCLIPTextModel":  # transformers 5 reads the padding row as zeros
            words = "embeddings.word_embeddings.weight"
            theirs[words], ours[words] = theirs[words][1:], ours[words][1:]
        assert all(torch.equal(theirs[n], ours[n]) for n in theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_the_state_has_their_names_and_loads_both_ways(kind: str, tmp_path: Path) -> None:
    two = pair(kind, tmp_path)
    theirs = {name: tensor + 0.01 for name, tensor in two.peer.state_dict().items()}
    two.ours.load_state_dict(theirs)
    two.peer.load_state_dict(two.ours.state_dict())
    inputs = (ids(3), masks(3)["none"], pixels(3))
    assert furthest(features(two.ours, *inputs), features(two.peer, *inputs)) <= ATOL


@pytest.mark.parametrize("name", ["CLIPTextModel", "CLIPTextModelWithProjection", "CLIPVisionModel"])
def test_a_tower_of_a_whole_checkpoint(name: str) -> None:
    ours = getattr(compat, name).from_pretrained(GOLDEN / "hf-clip-trueeos")
    peer = getattr(transformers(), name).from_pretrained(GOLDEN / "hf-clip-trueeos").eval()
    with np.load(GOLDEN / "hf-clip-trueeos" / "expected.npz") as expected:
        text, seen = torch.tensor(expected["input_ids"]), torch.tensor(expected["pixel_values"])
    inputs = text if "Text" in name else seen
    assert furthest(ours(inputs).to_tuple(), peer(inputs).to_tuple()) <= ATOL


def test_a_chinese_text_tower_of_a_whole_checkpoint_has_no_pooler() -> None:
    """transformers creates a pooler of random numbers."""
    ours = compat.ChineseCLIPTextModel.from_pretrained(GOLDEN / "hf-chinese-clip")
    with np.load(GOLDEN / "hf-chinese-clip" / "expected.npz") as expected:
        mask = torch.tensor(expected["attention_mask"])
        output = ours(torch.tensor(expected["input_ids"]), mask)
        want = torch.tensor(expected["text_block_1"])
    assert output.pooler_output is None
    kept = mask[: len(want)].bool()
    assert furthest(output.last_hidden_state[: len(want)][kept], want[kept]) <= ATOL
    with pytest.raises(LayoutError, match="contains no pooler"):
        compat.ChineseCLIPTextModel.from_pretrained(GOLDEN / "hf-chinese-clip", add_pooling_layer=True)


@pytest.mark.parametrize("case", NAMED, ids=lambda c: c.name)
def test_auto_model_loads_every_family(case: Case, tmp_path: Path) -> None:
    """The class that fits gives the originals' features, and the same bits after a round trip."""
    path = case.folder / case.weights if case.facts or case.image else case.folder
    more = {"image_tower": case.folder / case.image} if case.image else {}
    model, expected = compat.AutoModel.from_pretrained(path, facts=case.facts, **more, **case.asked), case.expected()
    single = {"text": "CLIPTextModel", "vision": "CLIPVisionModel"}.get(case.towers)
    whole = next((name for start, name in CLASSES.items() if case.name.startswith(start)), "VisionTextModel")
    assert type(model).__name__ == (single or whole)
    if path == case.folder and not case.asked:
        assert type(model.config) is type(compat.AutoConfig.from_pretrained(path))
    if case.towers != "both":
        return
    text, mask, seen = (torch.tensor(a) for a in (expected["input_ids"], case.mask, expected["pixel_values"]))
    got = features(model, text, mask, seen)
    for ours, name in zip(got, ("text_features", "image_features"), strict=True):
        want = expected[name]
        assert np.abs(ours.numpy() - want).max() <= 2e-6 * max(1.0, float(np.abs(want).max()))
    output = model(input_ids=text, attention_mask=mask, pixel_values=seen)
    unit = [torch.nn.functional.normalize(f, dim=1) for f in got]
    want = case.load().logit_scale * unit[1] @ unit[0].T
    assert furthest(output.logits_per_image, want) <= 1e-4
    model.save_pretrained(tmp_path)
    assert furthest(features(compat.AutoModel.from_pretrained(tmp_path), text, mask, seen), got) == 0.0


def test_auto_model_loads_the_bundled_model_by_name(tmp_path: Path) -> None:
    model, clip = compat.AutoModel.from_pretrained("moji"), cjkclip.load("moji", engine="torch")
    tokens = clip.tokenize(["猫", "消防车", "고양이", "ねこ"])
    got = model.get_text_features(torch.tensor(tokens.ids), torch.tensor(tokens.mask))
    want = clip.encode_tokens(tokens, normalize=False)
    assert np.abs(got.detach().numpy() - want).max() <= ATOL * float(np.abs(want).max())
    model.save_pretrained(tmp_path)
    assert np.abs(cjkclip.load(tmp_path).encode_text(["猫"]) - clip.encode_text(["猫"])).max() <= ATOL
    assert model.config.vision_config.image_size == clip.config.vision.image_size
    assert compat.AutoConfig.from_pretrained("moji") == model.config
    with torch.no_grad():
        model.logit_scale.fill_(0.5)  # the trained value must be saved
    model.save_pretrained(tmp_path)
    assert abs(cjkclip.load(tmp_path).logit_scale - np.exp(0.5)) < 1e-6


def test_a_scale_that_is_no_parameter_fits_none_of_their_classes() -> None:
    towers = compat.CLIPConfig().to_model()
    assert class_for(towers) is compat.CLIPModel
    assert class_for(replace(towers, scale=30.0)) is compat.VisionTextModel


def test_types() -> None:
    folder = GOLDEN / "hf-clip-eos2-realvocab"  # stored in float16
    assert compat.CLIPModel.from_pretrained(folder).dtype == torch.float32
    for dtype in ("auto", "float16", "torch.float16", torch.float16):
        assert compat.CLIPModel.from_pretrained(folder, dtype=dtype).dtype == torch.float16
    model = compat.CLIPModel.from_pretrained(folder, torch_dtype=torch.bfloat16)
    assert model.get_image_features(torch.zeros(1, 3, 32, 32)).dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_saved_as_halves(dtype: torch.dtype, tmp_path: Path) -> None:
    pair("clip", tmp_path / "theirs").ours.to(dtype).save_pretrained(tmp_path / "ours")
    again = transformers().CLIPModel.from_pretrained(tmp_path / "ours")
    assert again.dtype == dtype
    assert compat.CLIPModel.from_pretrained(tmp_path / "ours", dtype="auto").dtype == dtype


BAD_OPTIONS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "unknown": ({"revison": "main"}, TypeError, r"got \['revison'\], neither options"),
    "attention": ({"attn_implementation": "flash_attention_2"}, InputError, r"expected one of \['sdpa', 'eager'\]"),
    "dtype": ({"dtype": "int8"}, InputError, "dtype is 'int8', expected"),
}


@pytest.mark.parametrize("case", BAD_OPTIONS)
def test_an_option_that_is_not_read_is_refused(case: str) -> None:
    options, error, message = BAD_OPTIONS[case]
    for kind in (compat.CLIPModel, compat.AutoModel):
        with pytest.raises(error, match=message):
            kind.from_pretrained(GOLDEN / "hf-clip-eos2", **options)


def test_local_files_and_another_cache(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="only local files were requested") as told:
        compat.CLIPModel.from_pretrained("nobody/nothing", local_files_only=True, cache_dir=tmp_path)
    assert str(tmp_path) in str(told.value)


def test_stated_facts_win_over_the_file() -> None:
    model = compat.CLIPModel.from_pretrained(GOLDEN / "hf-clip-eos2", facts={"vision.act": "gelu"})
    assert model.config.vision_config.hidden_act == "gelu"
    assert model.config.text_config.hidden_act == "quick_gelu"


def test_a_snapshot_in_another_cache_is_found(tmp_path: Path) -> None:
    repository = tmp_path / "models--some--clip"
    shutil.copytree(GOLDEN / "hf-clip-eos2", repository / "snapshots" / ("a" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    where = {"cache_dir": tmp_path, "local_files_only": True}
    here = compat.CLIPModel.from_pretrained(GOLDEN / "hf-clip-eos2")
    for options in (where, where | {"revision": "main"}):
        model = compat.AutoModel.from_pretrained("some/clip", **options)
        assert all(torch.equal(a, b) for a, b in zip(model.parameters(), here.parameters(), strict=True))
    assert compat.CLIPConfig.from_pretrained("some/clip", **where) == here.config
    with pytest.raises(HubError, match="revision other"):
        compat.CLIPModel.from_pretrained("some/clip", **where, revision="other")


@pytest.mark.parametrize(
    ("kind", "case", "message"),
    [
        ("CLIPModel", "hf-chinese-clip", "needs a ViT and a causal text tower"),
        ("ChineseCLIPModel", "hf-clip-eos2", "needs a ViT and a BERT"),
        ("CLIPModel", "rinna-clip", "needs a ViT and a causal text tower"),
        ("CLIPTextModel", "hf-chinese-clip", "no causal text tower"),
        ("CLIPVisionModel", "hf-clip-text-projection", "no ViT image tower"),
        ("CLIPTextModelWithProjection", "hf-clip-v5-unprefixed/text", "text.proj.weight"),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused(kind: str, case: str, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        getattr(compat, kind).from_pretrained(GOLDEN / case)


def test_a_configuration_that_does_not_fit_the_weights_is_refused() -> None:
    config = compat.CLIPConfig.from_pretrained(GOLDEN / "hf-clip-eos2")
    config.text_config.num_hidden_layers = 1
    with pytest.raises(LayoutError, match="hf-clip-eos2 as CLIPModel"):
        compat.CLIPModel.from_pretrained(GOLDEN / "hf-clip-eos2", config=config)
    config.text_config.num_hidden_layers, config.text_config.hidden_act = 2, "silu"
    with pytest.raises(FactsError, match=r"text\.act is 'silu'"):
        compat.CLIPModel.from_pretrained(GOLDEN / "hf-clip-eos2", config=config)


def test_a_file_without_a_tensor_is_refused(tmp_path: Path) -> None:
    two = pair("clip", tmp_path)
    state = two.ours.state_dict()
    state.pop("visual_projection.weight")
    with pytest.raises(RuntimeError, match=r"visual_projection\.weight"):
        two.ours.load_state_dict(state)
    cjkclip.checkpoints.weights.write(tmp_path / "model.safetensors", {n: t.numpy() for n, t in state.items()})
    with pytest.raises(LayoutError, match=r"vision\.proj\.weight"):
        compat.CLIPModel.from_pretrained(tmp_path)


def test_a_legacy_configuration_is_read(tmp_path: Path) -> None:
    """The first files have the towers also in text_config_dict and vision_config_dict, which override."""
    two = pair("clip", tmp_path)
    record = json.loads((tmp_path / "config.json").read_text("utf-8"))
    record |= {"text_config_dict": record["text_config"], "vision_config_dict": record["vision_config"]}
    record |= {"text_config": {"hidden_size": 48}, "vision_config": None}
    (tmp_path / "config.json").write_text(json.dumps(record), "utf-8")
    again = compat.CLIPModel.from_pretrained(tmp_path)
    assert again.config.text_config.hidden_size == 24
    inputs = (ids(3), masks(3)["none"], pixels(3))
    assert furthest(features(again, *inputs), features(two.ours, *inputs)) == 0.0
