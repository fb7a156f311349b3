"""Compare configurations with transformers' own: defaults, files both ways, dropped functions of version 4, errors."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cjkclip
import cjkclip.compat.transformers as compat
from cjkclip.checkpoints.formats import chinese
from cjkclip.checkpoints.formats.transformers import read_both
from cjkclip.config import Model
from cjkclip.errors import FactsError, InputError, LayoutError
from families import GOLDEN
from support.peers import transformers

KINDS = (
    "CLIPConfig",
    "CLIPTextConfig",
    "CLIPVisionConfig",
    "ChineseCLIPConfig",
    "ChineseCLIPTextConfig",
    "ChineseCLIPVisionConfig",
)
WHOLE = ("CLIPConfig", "ChineseCLIPConfig")
VALUES = {
    "num_hidden_layers": 3,
    "hidden_size": 48,
    "num_attention_heads": 4,
    "layer_norm_eps": 1e-6,
    "hidden_act": "gelu",
    "intermediate_size": 7,
    "initializer_factor": 0.5,
}


def ours(name: str) -> Any:
    return getattr(compat, name)


def theirs(name: str) -> Any:
    return getattr(transformers(), name)


def alike(got: Any, want: Any) -> None:
    """Compare every field of the peer's that describes the model."""
    for name, value in want.to_dict().items():
        if isinstance(value, dict) and name.endswith("_config"):
            alike(getattr(got, name), getattr(want, name))
        elif name in got.defaults:
            assert getattr(got, name) == value, name
    assert got.model_type == want.model_type
    common = {"return_dict", "output_hidden_states", "output_attentions"}
    assert set(got.to_dict()) - common <= set(want.to_dict()) | {"output_attentions"}


@pytest.mark.parametrize("name", KINDS)
def test_defaults_are_theirs(name: str) -> None:
    alike(ours(name)(), theirs(name)())
    given = {n: v for n, v in VALUES.items() if n in ours(name).defaults}
    alike(ours(name)(**given), theirs(name)(**given))


@pytest.mark.parametrize("name", KINDS)
def test_files_both_ways(name: str, tmp_path: Path) -> None:
    given = {n: v for n, v in VALUES.items() if n in ours(name).defaults}
    theirs(name)(**given).save_pretrained(tmp_path / "theirs")
    read = ours(name).from_pretrained(tmp_path / "theirs")
    alike(read, theirs(name)(**given))
    read.save_pretrained(tmp_path / "ours")
    alike(read, theirs(name).from_pretrained(tmp_path / "ours"))
    assert ours(name).from_pretrained(tmp_path / "ours") == read
    assert ours(name).from_dict(json.loads(read.to_json_string())) == read
    assert type(compat.AutoConfig.from_pretrained(tmp_path / "ours")) is ours(name)


@pytest.mark.parametrize("name", WHOLE)
def test_from_text_vision_configs(name: str) -> None:
    """transformers 5 has dropped this function."""
    assert not hasattr(theirs(name), "from_text_vision_configs")
    text = ours(name.replace("Config", "TextConfig"))(hidden_size=48, num_attention_heads=4)
    vision = ours(name.replace("Config", "VisionConfig"))(image_size=64)
    config = ours(name).from_text_vision_configs(text, vision, projection_dim=16)
    assert (config.text_config, config.vision_config, config.projection_dim) == (text, vision, 16)
    config.text_config.hidden_size = 24
    assert text.hidden_size == 48
    assert config.to_model().embed == 16
    assert config.to_model().vision.image_size == 64


def test_a_towers_part_of_a_whole_file() -> None:
    folder = GOLDEN / "hf-clip-eos2"
    whole = compat.CLIPConfig.from_pretrained(folder)
    assert compat.CLIPTextConfig.from_pretrained(folder).to_dict() == whole.text_config.to_dict()
    assert compat.CLIPVisionConfig.from_pretrained(folder).to_dict() == whole.vision_config.to_dict()
    assert compat.ChineseCLIPTextConfig.from_pretrained(GOLDEN / "hf-chinese-clip").hidden_size == 24


@pytest.mark.parametrize("case", ["hf-clip-eos2", "hf-clip-gelu", "hf-chinese-clip", "open-clip", "koclip"])
def test_the_record_is_the_one_that_load_reads(case: str) -> None:
    """This includes files in other formats than transformers'."""
    facts = {"family": "koclip"} if case == "koclip" else {}
    want, got = cjkclip.load(GOLDEN / case, **facts).config, compat.AutoConfig.from_pretrained(GOLDEN / case).to_model()
    text = replace(want.text, eot=2) if getattr(want.text, "pool", None) == "largest-id" else want.text
    assert (got.vision, got.text, got.embed) == (want.vision, text, want.embed)


def test_fields_are_set_while_reading() -> None:
    config = compat.AutoConfig.from_pretrained(GOLDEN / "hf-clip-eos2", output_hidden_states=True)
    assert config.output_hidden_states
    model = compat.CLIPModel.from_pretrained(GOLDEN / "hf-clip-eos2", config=config)
    import torch

    output = model(torch.full((1, 3), 5), torch.zeros(1, 3, 32, 32))
    assert len(output.text_model_output.hidden_states) == config.text_config.num_hidden_layers + 1
    model.config.return_dict = False
    assert config.return_dict  # the caller's configuration is unchanged
    assert isinstance(model(torch.full((1, 3), 5), torch.zeros(1, 3, 32, 32)), tuple)


@pytest.mark.parametrize("kind", ["CLIPConfig", "AutoConfig", "CLIPModel", "AutoModel"])
def test_code_is_never_run_whatever_is_said(kind: str) -> None:
    for said in (True, False):
        getattr(compat, kind).from_pretrained(GOLDEN / "hf-clip-eos2", trust_remote_code=said)


def test_what_is_not_known_is_refused() -> None:
    with pytest.raises(TypeError, match="CLIPTextConfig has no field 'hiden_size': did you mean 'hidden_size'"):
        compat.CLIPTextConfig(hiden_size=3)
    with pytest.raises(TypeError, match="no field 'patchsize'"):
        compat.CLIPConfig(vision_config={"patchsize": 3})
    with pytest.raises(TypeError, match=r"got \['outputs'\], neither options of from_pretrained nor fields of"):
        compat.AutoConfig.from_pretrained(GOLDEN / "hf-clip-eos2", outputs=True)
    with pytest.raises(InputError, match="hidden_size 50 is not a multiple of num_attention_heads 8"):
        compat.CLIPTextConfig(hidden_size=50)
    with pytest.raises(AttributeError, match="has no field 'hidden_sizes'"):
        _ = compat.CLIPTextConfig().hidden_sizes
    with pytest.raises(LayoutError, match="needs a ViT and a BERT"):
        compat.ChineseCLIPConfig.from_pretrained(GOLDEN / "hf-clip-eos2")
    with pytest.raises(FactsError, match="num_channels is 1, expected 3"):
        compat.CLIPVisionConfig(num_channels=1).to_model()
    for made in (compat.AutoConfig, compat.AutoModel):
        with pytest.raises(TypeError, match=r"cannot be called: use Auto.*\.from_pretrained"):
            made()
    with pytest.raises(InputError, match="no model has a PretrainedConfig"):
        compat.AutoModel.from_config(compat.PretrainedConfig())


OLDER = ({"hidden_size": 24, "num_attention_heads": 3}, {"num_hidden_layers": 3}, {}, None)


@pytest.mark.parametrize("older", OLDER, ids=str)
@pytest.mark.parametrize("part", ["text_config", "vision_config"])
@pytest.mark.parametrize("name", WHOLE)
def test_the_older_form_of_a_tower_is_completed_before_it_counts(
    name: str, part: str, older: dict[str, Any] | None, tmp_path: Path
) -> None:
    """The class's defaults complete it, as in transformers: an older form, even empty, replaces the newer values."""
    record = {"text_config": {"hidden_act": "gelu", "eos_token_id": 2}, "vision_config": {"hidden_act": "gelu"}}
    record |= {"model_type": theirs(name).model_type, f"{part}_dict": older}
    (tmp_path / "config.json").write_text(json.dumps(record), "utf-8")
    want, got = theirs(name).from_pretrained(tmp_path), ours(name).from_pretrained(tmp_path)
    alike(got, want)
    alike(ours(name)(**record), theirs(name)(**json.loads(json.dumps(record))))
    both = chinese.read_both if name.startswith("Chinese") else read_both
    assert Model.from_dict(both(record)) == got.to_model()
    kind = name.replace("Config", "TextConfig" if part == "text_config" else "VisionConfig")
    # the config class of a single tower never reads the older form
    alike(ours(kind).from_pretrained(tmp_path), theirs(kind).from_pretrained(tmp_path))
