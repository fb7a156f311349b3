"""Options and parameter names of transformers' loaders: harmless values are accepted, others done or refused."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelInfo

import cjkclip.compat.transformers as compat
from cjkclip.checkpoints.hub import Where, huggingface
from cjkclip.compat import sources
from cjkclip.errors import ModelNotFoundError, OptionError
from families import GOLDEN
from support.compat_pairs import furthest, ids, single
from support.peers import transformers

CLIP = GOLDEN / "hf-clip-eos2"
MODELS = ("CLIPModel", "ChineseCLIPModel", "CLIPTextModel", "CLIPVisionModel", "ChineseCLIPTextModel")
CONFIGS = ("CLIPConfig", "ChineseCLIPConfig", "CLIPTextConfig", "AutoConfig")
HARMLESS: dict[str, Any] = {
    "token": None,
    "use_auth_token": None,
    "force_download": False,
    "proxies": None,
    "subfolder": "",
    "variant": None,
    "revision": "main",
    "cache_dir": None,
    "local_files_only": False,
    "trust_remote_code": False,
    "from_tf": False,
    "from_flax": False,
}
OF_MODELS = {
    "ignore_mismatched_sizes": False,
    "output_loading_info": False,
    "state_dict": None,
    "quantization_config": None,
    "low_cpu_mem_usage": True,
    "use_safetensors": True,
    "device_map": None,
    "offload_folder": None,
    "max_memory": None,
}


@pytest.mark.parametrize("name", ["CLIPModel", "AutoModel", "CLIPConfig", "AutoConfig"])
def test_options_that_change_nothing(name: str) -> None:
    kind, options = getattr(compat, name), HARMLESS | (OF_MODELS if name.endswith("Model") else {})
    config = kind.from_pretrained(pretrained_model_name_or_path=CLIP, **options)
    assert getattr(config, "config", config).to_dict() == compat.CLIPConfig.from_pretrained(CLIP).to_dict()


REFUSED = {"force_download": True, "subfolder": "part", "variant": "fp16", "from_tf": True, "proxies": {"http": "x"}}
REFUSED |= {"ignore_mismatched_sizes": True, "output_loading_info": True, "state_dict": {"weight": torch.ones(1)}}
REFUSED |= {"quantization_config": {"load_in_4bit": True}, "load_in_8bit": True, "max_memory": {0: "1GB"}}


@pytest.mark.parametrize("name", REFUSED)
def test_options_that_would_change_something(name: str) -> None:
    for kind in (compat.CLIPModel, compat.AutoModel):
        with pytest.raises(OptionError, match=f"from_pretrained supports {name} only as .*: leave it out"):
            kind.from_pretrained(CLIP, **{name: REFUSED[name]})


@pytest.mark.parametrize(
    "value", ["auto", "balanced", "cpu", {"": "cpu"}, {"": torch.device("cpu")}, torch.device("cpu")]
)
def test_one_device(value: Any) -> None:
    assert compat.AutoModel.from_pretrained(CLIP, device_map=value).device.type == "cpu"


@pytest.mark.parametrize("value", [{}, {"text_model": "cpu", "vision_model": "cuda:0"}])
def test_several_devices_are_refused(value: Any) -> None:
    with pytest.raises(OptionError, match=f"names {len(value)} devices, expected one"):
        compat.CLIPModel.from_pretrained("nobody/nothing", device_map=value)  # before anything is downloaded


def test_an_unknown_device_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OptionError, match="device_map is 0, but torch finds no CUDA device"):
        compat.CLIPModel.from_pretrained("nobody/nothing", device_map=0)
    with pytest.raises(OptionError, match="device_map is 'disk', expected a device such as 'cpu'"):
        compat.CLIPModel.from_pretrained("nobody/nothing", device_map="disk")


@pytest.mark.parametrize(
    "kind", ["CLIPModel", "AutoModel", "CLIPConfig", "AutoConfig", "CLIPProcessor", "AutoTokenizer"]
)
@pytest.mark.parametrize("option", ["token", "use_auth_token"])
def test_the_token_reaches_the_hub(kind: str, option: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens: list[Any] = []

    def resolve(name: str, where: Where, *, family: str | None = None) -> Path:
        del family
        tokens.append(where.token)
        assert "secret" not in repr(where)
        raise ModelNotFoundError(name)

    monkeypatch.setattr(sources.checkpoints, "resolve", resolve)
    with pytest.raises(ModelNotFoundError):
        getattr(compat, kind).from_pretrained("org/name", **{option: "secret"})
    assert tokens == ["secret"]


def test_the_hub_client_gets_the_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tokens: list[Any] = []

    class Api:
        def model_info(self, *_: Any, token: Any, **__: Any) -> Any:
            tokens.append(token)
            return ModelInfo(id="org/name", sha="a" * 40, siblings=[{"rfilename": "config.json"}], tags=[])

    def download(*_: Any, token: Any, **__: Any) -> str:
        tokens.append(token)
        return str(tmp_path)

    monkeypatch.setattr(huggingface, "HfApi", Api)
    monkeypatch.setattr(huggingface, "snapshot_download", download)
    huggingface.fetch("org/name", Where(token="secret", small=True, cache=str(tmp_path)), "")
    assert tokens == ["secret"] * 3


@pytest.mark.parametrize("name", [*MODELS, *CONFIGS])
def test_first_parameters_have_the_originals_names(name: str) -> None:
    ours, theirs = getattr(compat, name), getattr(transformers(), name)
    for method in ("from_pretrained", "save_pretrained", "from_dict", "set_attn_implementation", "num_parameters"):
        if hasattr(ours, method) and hasattr(theirs, method):
            mine, peers = (list(inspect.signature(getattr(each, method)).parameters) for each in (ours, theirs))
            mine, peers = (names[1:] if names[0] == "self" else names for names in (mine, peers))
            assert mine[0] == peers[0], method


def test_a_chinese_text_tower_without_pooler_comes_back(tmp_path: Path) -> None:
    whole = compat.ChineseCLIPTextModel.from_pretrained(GOLDEN / "hf-chinese-clip")
    whole.save_pretrained(tmp_path)
    for kind in (compat.ChineseCLIPTextModel, compat.AutoModel):
        again = kind.from_pretrained(tmp_path)
        assert type(again) is compat.ChineseCLIPTextModel
        assert again.pooler is None
        assert again.state_dict().keys() == whole.state_dict().keys()
        assert furthest(again(ids(2)).last_hidden_state, whole(ids(2)).last_hidden_state) == 0.0
    peer = transformers().ChineseCLIPTextModel.from_pretrained(tmp_path, add_pooling_layer=False).eval()
    texts = ids(2).clamp(min=1)
    assert furthest(whole(texts).last_hidden_state, peer(texts).last_hidden_state) < 1e-5


@pytest.mark.parametrize("name", ["ChineseCLIPVisionModel", "ChineseCLIPTextModel", "CLIPVisionModel", "CLIPTextModel"])
def test_auto_model_of_a_tower_gives_its_class(name: str, tmp_path: Path) -> None:
    two = single(name, tmp_path / "theirs")
    two.ours.save_pretrained(tmp_path / "ours")
    for folder in ("theirs", "ours"):
        assert type(compat.AutoModel.from_pretrained(tmp_path / folder)) is getattr(compat, name)
