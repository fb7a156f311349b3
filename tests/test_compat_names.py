"""Every public class of cjkclip.compat.transformers with its fields, frozen: published code depends on them."""

import importlib
import inspect
import json
from typing import Any

import pytest

import cjkclip.compat.transformers as compat
from cjkclip.errors import MissingDependencyError
from support.processes import printed

TOWER = ("hidden_states", "attentions")
JOINT = ("loss", "logits_per_image", "logits_per_text", "text_embeds", "image_embeds")
JOINT += ("text_model_output", "vision_model_output")
OUTPUTS = {
    "BaseModelOutputWithPooling": ("last_hidden_state", "pooler_output", *TOWER),
    "CLIPTextModelOutput": ("text_embeds", "last_hidden_state", *TOWER),
    "CLIPVisionModelOutput": ("image_embeds", "last_hidden_state", *TOWER),
    "CLIPOutput": JOINT,
    "ChineseCLIPOutput": JOINT,
}
ENCODER = {"num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768, "intermediate_size": 3072}
INIT = {"initializer_range": 0.02, "initializer_factor": 1.0}
CLIP = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "projection_dim": 512, "attention_dropout": 0.0} | INIT
VISION = ENCODER | CLIP | {"num_channels": 3, "image_size": 224, "patch_size": 32}
BOTH = {"projection_dim": 512, "logit_scale_init_value": 2.6592, "initializer_factor": 1.0}
TEXT = ENCODER | CLIP | {"vocab_size": 49408, "hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
BERT = ENCODER | INIT | {"vocab_size": 30522, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "type_vocab_size": 2}
CONFIGS = {
    "CLIPTextConfig": TEXT
    | {"max_position_embeddings": 77, "pad_token_id": 1, "bos_token_id": 49406, "eos_token_id": 49407},
    "CLIPVisionConfig": VISION,
    "CLIPConfig": BOTH,
    "ChineseCLIPTextConfig": BERT
    | {"max_position_embeddings": 512, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    | {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": None},
    "ChineseCLIPVisionConfig": VISION,
    "ChineseCLIPConfig": BOTH | {"initializer_range": 0.02},
}
IDS, TYPED = (
    ("input_ids", "attention_mask", "position_ids"),
    (
        "input_ids",
        "attention_mask",
        "token_type_ids",
        "position_ids",
    ),
)
PIXELS = ("pixel_values", "interpolate_pos_encoding")
CLIP_CALL = ("input_ids", "pixel_values", "attention_mask", "position_ids", "return_loss", "interpolate_pos_encoding")
CHINESE_CALL = ("input_ids", "pixel_values", *TYPED[1:], "return_loss", "interpolate_pos_encoding")
METHODS: dict[str, dict[str, tuple[str, ...]]] = {
    "CLIPModel": {"forward": CLIP_CALL, "get_text_features": IDS, "get_image_features": PIXELS},
    "CLIPTextModel": {"forward": IDS},
    "CLIPTextModelWithProjection": {"forward": IDS},
    "CLIPVisionModel": {"forward": PIXELS},
    "CLIPVisionModelWithProjection": {"forward": PIXELS},
    "ChineseCLIPModel": {"forward": CHINESE_CALL, "get_text_features": TYPED, "get_image_features": PIXELS},
    "ChineseCLIPTextModel": {"forward": (*TYPED, "inputs_embeds")},
    "ChineseCLIPVisionModel": {"forward": PIXELS},
    "VisionTextModel": {"forward": CHINESE_CALL, "get_text_features": TYPED, "get_image_features": PIXELS},
}
OTHERS = (
    "AutoConfig",
    "AutoModel",
    "AutoModelForZeroShotImageClassification",
    "PreTrainedModel",
    "ModelOutput",
    "PretrainedConfig",
    "VisionTextConfig",
)
HERE = [*OUTPUTS, *CONFIGS, *METHODS, *OTHERS]
INPUTS = [  # from the modules tokenizers, images, processors, auto and pipelines
    *("CLIPTokenizer", "CLIPTokenizerFast", "CLIPProcessor", "ChineseCLIPProcessor"),
    *("CLIPFeatureExtractor", "CLIPImageProcessor", "CLIPImageProcessorFast"),
    *("ChineseCLIPFeatureExtractor", "ChineseCLIPImageProcessor", "ChineseCLIPImageProcessorFast"),
    *("AutoImageProcessor", "AutoProcessor", "AutoTokenizer", "pipeline"),
    "ZeroShotImageClassificationPipeline",
    *("BatchEncoding", "BatchFeature", "BertTokenizer", "BertTokenizerFast", "SentencePieceTokenizer"),
]
ALIASES = {
    "AutoFeatureExtractor": "AutoImageProcessor",
    "CLIPImageProcessorPil": "CLIPImageProcessor",
    "CLIPPreTrainedModel": "PreTrainedModel",
    "ChineseCLIPImageProcessorPil": "ChineseCLIPImageProcessor",
    "ChineseCLIPPreTrainedModel": "PreTrainedModel",
    "PreTrainedConfig": "PretrainedConfig",
    "VisionTextDualEncoderProcessor": "CLIPProcessor",
}


def test_the_names_are_frozen() -> None:
    assert dir(compat) == sorted([*HERE, *INPUTS, *ALIASES])
    assert sorted([*(name for names in compat.MODULES.values() for name in names), *ALIASES]) == dir(compat)
    for name, same in ALIASES.items():
        assert getattr(compat, name) is getattr(compat, same)
    for name in INPUTS:  # some names are aliases
        assert getattr(compat, name).__module__.startswith("cjkclip.compat.transformers.")
    for name in HERE:
        found = getattr(compat, name)
        assert found.__name__ == name
        assert found.__module__.startswith("cjkclip.compat.transformers.")
        assert found.__doc__


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'BertModel'; it has \['AutoConfig'"):
        _ = compat.BertModel


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_fields_of_outputs(name: str) -> None:
    output = getattr(compat, name)
    assert output.fields == OUTPUTS[name]
    made = output({OUTPUTS[name][1]: 1, OUTPUTS[name][0]: 2})
    assert list(made) == list(OUTPUTS[name][:2])
    assert made.to_tuple() == (2, 1) == (made[0], made[1]) == made[:2] == tuple(made.values())
    assert made[OUTPUTS[name][1]] == getattr(made, OUTPUTS[name][1]) == 1
    assert getattr(made, OUTPUTS[name][-1]) is None
    setattr(made, OUTPUTS[name][0], 5)
    assert made[0] == 5
    with pytest.raises(AttributeError, match="has no field 'loss_'"):
        _ = made.loss_
    with pytest.raises(TypeError, match=r"has no fields \['loss_'\]"):
        output(loss_=1)
    with pytest.raises(KeyError):
        _ = made["nothing"]


def test_outputs_inside_outputs_become_tuples() -> None:
    inner = compat.BaseModelOutputWithPooling(last_hidden_state=1)
    assert compat.CLIPOutput(text_model_output=inner, loss=3).to_tuple() == (3, (1,))


@pytest.mark.parametrize("name", CONFIGS)
def test_the_fields_of_configurations(name: str) -> None:
    assert dict(getattr(compat, name).defaults) == CONFIGS[name]
    made = getattr(compat, name)()
    assert {field: getattr(made, field) for field in CONFIGS[name]} == CONFIGS[name]


@pytest.mark.parametrize("name", METHODS)
def test_the_arguments_of_methods(name: str) -> None:
    for method, wanted in METHODS[name].items():
        taken = inspect.signature(inspect.unwrap(getattr(getattr(compat, name), method))).parameters
        assert tuple(taken)[1:-1] == wanted, method
        assert list(taken.values())[-1].kind is inspect.Parameter.VAR_KEYWORD
    for method in ("from_pretrained", "save_pretrained", "from_config", "to", "eval", "train", "half", "state_dict"):
        assert callable(getattr(getattr(compat, name), method))


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str, *_: Any) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingDependencyError, match=r"cjkclip\[torch\]"):
        _ = compat.CLIPModel


def test_the_package_itself_loads_nothing() -> None:
    code = "import cjkclip.compat.transformers, sys, json; print(json.dumps(sorted(sys.modules)))"
    assert not {"torch", "transformers", "numpy"} & set(json.loads(printed("-c", code)))
