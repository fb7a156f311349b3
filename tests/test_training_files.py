"""Files as training programs leave them: whatever is around the weights, the same model is read, and nothing is run."""

import argparse
import collections
import io
import json
import pathlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cjkclip
from cjkclip.checkpoints import weights
from cjkclip.checkpoints.hub import needed
from cjkclip.errors import CheckpointError, LayoutError, ModelNotFoundError, WeightsError
from families import FAMILIES, GOLDEN, Case
from support.peers import sentence_transformers

CASE = next(case for case in FAMILIES if case.name == "openai-vit")
CHINESE = next(case for case in FAMILIES if case.name == "cn-clip-vit")


def state(case: Case = CASE) -> dict[str, torch.Tensor]:
    tensors = weights.read(case.folder / case.weights)
    return {name.removeprefix("module."): torch.tensor(np.array(array)) for name, array in tensors.items()}


class Own:
    """A class of a training program."""

    def __init__(self) -> None:
        self.tensor = torch.ones(2)


def beside() -> dict[str, Any]:
    """Return objects that training programs put beside the weights."""
    optimizer = torch.optim.AdamW(torch.nn.Linear(2, 2).parameters())
    optimizer.param_groups[0]["lr"] = 0.5 * (1 + np.cos(0.1)) * 1e-5  # a numpy.float64, as cn_clip's schedule leaves it
    return {
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=1e-5, path=pathlib.Path("x")),
        "best": np.float32(0.7),
        "history": [np.arange(3), {1, 2}, frozenset("a"), slice(1), 1j, collections.Counter("ab"), bytearray(b"x")],
        "logs": collections.defaultdict(list, loss=[0.1]),
        "by pair": {(1, 2): 3, None: 4},
        "random": np.random.get_state(),
        "float8": torch.zeros(2).to(torch.float8_e4m3fn),
        "own": Own(),
        "epoch": 3,
    }


KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "ema", "weights", "params", "anything")
PREFIXES = (
    *("module.", "model.", "clip_model.", "clip.", "module.module.", "base_model.model.", "_orig_mod."),
    *("model._orig_mod.", "module.clip.", "a.b.c.d."),
)


def with_metadata() -> Any:
    ordered = collections.OrderedDict(state())
    ordered._metadata = {"": {"version": 1}}  # pyright: ignore[reportAttributeAccessIssue]
    return {"state_dict": ordered}


FORMS: dict[str, Any] = {
    **{f"under {key}": lambda key=key: {key: state()} | beside() for key in KEYS},
    **{f"after {prefix}": lambda prefix=prefix: {prefix + n: t for n, t in state().items()} for prefix in PREFIXES},
    "two keys": lambda: {"model": {"state_dict": {f"model.{n}": t for n, t in state().items()}}, "epoch": 1},
    "with its average": lambda: {
        "model": state(),
        "ema": {n: t + 1 for n, t in state().items() if t.is_floating_point()},
    },
    "ordered, with metadata": with_metadata,
}


def assert_same(clip: cjkclip.Clip, case: Case = CASE) -> None:
    want = case.load()
    assert {n: a.tobytes() for n, a in clip.params.items()} == {n: a.tobytes() for n, a in want.params.items()}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_model(form: str, zipped: bool, tmp_path: Path) -> None:
    torch.save(FORMS[form](), tmp_path / "last.ckpt", _use_new_zipfile_serialization=zipped)
    assert_same(cjkclip.load(tmp_path / "last.ckpt", facts=CASE.facts, engine="numpy"))
    (tmp_path / "rng_state_0.pth").write_bytes(b"-")
    (tmp_path / "optimizer.pt").write_bytes(b"-")
    assert_same(cjkclip.load(tmp_path, facts=CASE.facts, engine="numpy"))


def test_cn_clips_own_training_file(tmp_path: Path) -> None:
    file = {"epoch": 1, "state_dict": {f"module.{n}": t for n, t in state(CHINESE).items()}, **beside()}
    torch.save(file, tmp_path / "epoch_latest.pt")
    assert_same(cjkclip.load(tmp_path / "epoch_latest.pt", facts=CHINESE.facts, engine="numpy"), CHINESE)


def test_a_whole_module_is_read_by_its_parts(tmp_path: Path) -> None:
    module = torch.nn.Module()
    for name, tensor in state().items():
        *path, leaf = name.split(".")
        place = module
        for part in path:
            if part not in place._modules:
                place.add_module(part, torch.nn.Module())
            place = place.get_submodule(part)
        if tensor.is_floating_point():
            place.register_parameter(leaf, torch.nn.Parameter(tensor))
        else:
            place.register_buffer(leaf, tensor)
    for number, whole in enumerate((module, {"model": module, "epoch": 1})):
        torch.save(whole, tmp_path / f"{number}.pt")
        assert_same(cjkclip.load(tmp_path / f"{number}.pt", facts=CASE.facts, engine="numpy"))


def test_two_models_in_one_file_are_told(tmp_path: Path) -> None:
    torch.save({"first": state(), "second": state()}, tmp_path / "x.pt")
    with pytest.raises(
        WeightsError, match=r"several state dicts: first, second\. .*torch.save\(torch.load\(file.*\['first'\]"
    ):
        cjkclip.load(tmp_path / "x.pt", facts=CASE.facts)


@pytest.mark.parametrize("value", [Own(), np.float64(1), torch.zeros(2).to(torch.float8_e4m3fn)])
def test_what_is_no_tensor_among_the_weights_is_refused(value: object, tmp_path: Path) -> None:
    torch.save({"state_dict": state() | {"ln_final.weight": value}}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="not a tensor with a name"):
        cjkclip.load(tmp_path / "x.pt", facts=CASE.facts)


def test_other_weights_beside_the_models_are_not_dropped_in_silence(tmp_path: Path) -> None:
    torch.save({f"model.{n}": t for n, t in state().items()} | {"head.weight": torch.ones(2)}, tmp_path / "x.pt")
    with pytest.raises(LayoutError, match=r"its tensors have the prefix 'model\.'"):
        cjkclip.load(tmp_path / "x.pt", facts=CASE.facts)


def test_both_towers_of_taiyi_in_a_file_of_lightning(tmp_path: Path) -> None:
    source = GOLDEN / "taiyi-clip-model"
    shutil.copytree(source, tmp_path / "model", ignore=shutil.ignore_patterns("*.bin", "images", "*.npz"))
    tensors = {f"model.{n}": torch.tensor(np.array(a)) for n, a in weights.read(source / "pytorch_model.bin").items()}
    torch.save(
        {"state_dict": tensors, "pytorch-lightning_version": "2.5", **beside()}, tmp_path / "model" / "last.ckpt"
    )
    case = next(case for case in FAMILIES if case.name == "taiyi-clip-model")
    assert_same(cjkclip.load(tmp_path / "model", facts=case.facts, engine="numpy"), case)


def test_an_open_file(tmp_path: Path) -> None:
    content = (CASE.folder / CASE.weights).read_bytes()
    assert_same(cjkclip.load(io.BytesIO(content), facts=CASE.facts, engine="numpy"))
    with (CASE.folder / CASE.weights).open("rb") as file:
        clip = cjkclip.load(file, facts=CASE.facts, engine="openvino")
    assert_same(clip)
    assert_same(cjkclip.load(clip.save(tmp_path / "saved"), engine="numpy"))
    stored = io.BytesIO((tmp_path / "saved" / "model.safetensors").read_bytes())
    assert weights.read_file(stored, "x").keys() == clip.params.keys()
    with pytest.raises(WeightsError, match="BytesIO: expected an open binary file"):
        cjkclip.load(io.BytesIO())


@pytest.mark.parametrize("rest", [(), ("rng_state.pth", "optimizer.pt", "scheduler.pt", "training_args.bin")])
def test_an_adapter_names_its_base(rest: tuple[str, ...], tmp_path: Path) -> None:
    name = "base_model.model.text_model.encoder.layer.0.attention.self.query.lora_"
    weights.write(
        tmp_path / "adapter_model.safetensors",
        {f"{name}A.weight": np.ones((2, 16), np.float32), f"{name}B.weight": np.ones((16, 2), np.float32)},
    )
    record = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "base_model_name_or_path": "org/base"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(record), "utf-8")
    for file in rest:
        (tmp_path / file).write_bytes(b"-")
    for path in (tmp_path, tmp_path / "adapter_model.safetensors"):
        with pytest.raises(LayoutError, match=r"a LORA adapter of 'org/base'.*merge_and_unload\(\)"):
            cjkclip.load(path)


@pytest.mark.parametrize("kind", ["bert", "siglip", "blip", "chinese_clip"])
def test_the_model_type_outranks_the_tensors(kind: str, tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "hf-clip-gelu", tmp_path / "model")
    record = json.loads((tmp_path / "model" / "config.json").read_text("utf-8"))
    (tmp_path / "model" / "config.json").write_text(json.dumps(record | {"model_type": kind}), "utf-8")
    with pytest.raises(LayoutError, match=f"config.json has model_type '{kind}', but the tensors have layout"):
        cjkclip.load(tmp_path / "model")


def write_modules(folder: Path, *modules: tuple[str, str]) -> None:
    rows = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(rows), "utf-8")


OLD = "sentence_transformers.models.CLIPModel"


def test_a_directory_of_sentence_transformers_leads_to_its_clip(tmp_path: Path) -> None:
    ignored = shutil.ignore_patterns("images", "*.h5", "*.msgpack", "*.npz")
    shutil.copytree(GOLDEN / "hf-clip-eos2", tmp_path / "st" / "0_CLIPModel", ignore=ignored)
    write_modules(tmp_path / "st", ("0_CLIPModel", OLD), ("1_Normalize", "sentence_transformers.models.Normalize"))
    want = cjkclip.load(GOLDEN / "hf-clip-eos2", engine="numpy")
    clip = cjkclip.load(tmp_path / "st", engine="numpy")
    assert clip.fingerprint == want.fingerprint
    assert clip.tokenize(["a cat"]).ids.tolist() == want.tokenize(["a cat"]).ids.tolist()
    new = sentence_transformers().SentenceTransformer(str(tmp_path / "st" / "0_CLIPModel"))
    new.save(str(tmp_path / "new"))
    assert cjkclip.load(tmp_path / "new", engine="numpy").fingerprint == want.fingerprint


def test_the_files_of_sentence_transformers_on_a_hub() -> None:
    files = ["README.md", "modules.json", "0_CLIPModel/config.json", "0_CLIPModel/model.safetensors", "1_X/config.json"]
    files += ["0_CLIPModel/merges.txt", "0_CLIPModel/vocab.json", "0_CLIPModel/onnx/model.onnx"]
    inside = ["config.json", "merges.txt", "model.safetensors", "vocab.json"]
    assert needed(files) == [*(f"0_CLIPModel/{name}" for name in inside), "modules.json"]


@pytest.mark.parametrize(
    ("modules", "why"),
    [
        (
            [("0", "x.Transformer"), ("1", "x.Pooling"), ("2", "x.Dense")],
            "the modules .'Dense', 'Pooling', 'Transformer'",
        ),
        ([("../x", OLD)], "expected a directory beside it"),
        ([("/etc", OLD)], "expected a directory beside it"),
        ([], "the modules ..., not a CLIP"),
    ],
)
def test_what_is_no_clip_of_sentence_transformers(modules: list[tuple[str, str]], why: str, tmp_path: Path) -> None:
    write_modules(tmp_path, *modules)
    with pytest.raises(ModelNotFoundError, match=why.replace("the modules ...", r"the modules \[\]")):
        cjkclip.load(tmp_path)
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(ModelNotFoundError, match="is damaged"):
        cjkclip.load(tmp_path)
