"""Weight files that are what they say: each container against the package that wrote it, and writing back."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from ml_dtypes import bfloat16

from cjkclip.checkpoints import weights
from cjkclip.checkpoints.weights import Tensors, find, read, write
from cjkclip.errors import ModelNotFoundError, WeightsError
from families import GOLDEN
from support.processes import printed

SAFETENSORS = [
    "hf-clip-eos2/model.safetensors",
    "hf-clip-gelu/model.safetensors",
    "hf-clip-trueeos/model.safetensors",
    "open-clip/open_clip_model.safetensors",
    "open-clip-customtext/open_clip_model.safetensors",
]
W = torch.arange(12, dtype=torch.float32).view(3, 4).t()
STATE = {
    "transposed": W,
    "tied": W,
    "window": W[1:3, 1:],
    "bf16": torch.tensor([1.0, -3.140625, 1e30]).bfloat16(),
    "half": torch.tensor([[1.5, -2.0]]).half(),
    "double": torch.ones(2).double(),
    "scalar": torch.tensor(2.659),
    "long": torch.arange(3),
    "int": torch.tensor([7]).int(),
    "short": torch.tensor([-7]).short(),
    "char": torch.tensor([-1]).char(),
    "byte": torch.tensor([255]).byte(),
    "u16": torch.tensor([60000], dtype=torch.uint16),
    "bool": torch.tensor([True, False]),
    "empty": torch.zeros(0, 3),
    "expanded": torch.arange(4).expand(1, -1),
    "parameter": torch.nn.Parameter(torch.ones(2)),
    "名前.重み": torch.ones(1),
}


class Net(torch.nn.Module):
    """Something for TorchScript: modules in modules, buffers, and attributes that are no tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
        self.sizes, self.name, self.rates = [1, 2], "net", [0.5]
        self.register_buffer("bf16", torch.ones(2).bfloat16())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) * self.sizes[1] * self.rates[0]


def assert_same(ours: Tensors, theirs: dict[str, torch.Tensor]) -> None:
    """Names, order, element types and every bit."""
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        half = tensor.dtype == torch.bfloat16
        expected = (tensor.float() if half else tensor).detach().numpy()
        assert ours[name].dtype == (bfloat16 if half else expected.dtype), name
        np.testing.assert_array_equal(ours[name].astype(expected.dtype), expected, err_msg=name)


@pytest.mark.parametrize("file", SAFETENSORS)
def test_safetensors_are_mapped_read_only_and_written_back_bit_for_bit(file, tmp_path):
    ours, theirs = read(GOLDEN / file), safetensors.numpy.load_file(GOLDEN / file)
    assert set(ours) == set(theirs)
    for name, array in theirs.items():
        np.testing.assert_array_equal(ours[name], array, strict=True)
        assert not ours[name].flags.owndata  # a view of the file
        assert not ours[name].flags.writeable
    write(tmp_path / "again.safetensors", ours)
    assert (tmp_path / "again.safetensors").read_bytes() == (GOLDEN / file).read_bytes()


@pytest.mark.parametrize("case", ["openai-vit", "openai-rn"])
def test_openai_state_dicts_are_views_of_the_zip(case):
    ours = read(GOLDEN / case / "model.pt")
    assert_same(ours, torch.load(GOLDEN / case / "model.pt", weights_only=True))
    assert not any(array.flags.owndata or array.flags.writeable for array in ours.values())
    assert ours.metadata == {"format": "pt"}


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_openai_torchscript_archives_give_their_state_dict():
    file = GOLDEN / "openai-vit-torchscript/model.pt"
    ours = read(file)
    assert_same(ours, dict(torch.jit.load(file).state_dict()))
    assert int(ours["context_length"]) == 77  # the three numbers beside the weights are returned as they are
    assert {"input_resolution", "vocab_size", "visual.conv1.weight"} < set(ours)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_files_of_torch_save(tmp_path, zipped, protocol):
    file = tmp_path / "epoch=3-loss:0.1.pt"
    torch.save(STATE, file, _use_new_zipfile_serialization=zipped, pickle_protocol=protocol)
    ours = read(file)
    assert_same(ours, STATE)
    assert not any(array.flags.writeable for array in ours.values())
    assert np.shares_memory(ours["transposed"], ours["tied"])  # even where the old form lays them at odd addresses


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_training_file_gives_its_state_dict(tmp_path, zipped):
    net = Net()
    moments = {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(2)}}
    optimizer = {"state": moments, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.98), "params": [0]}]}
    file = tmp_path / "epoch_latest.pt"
    state = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    odd = {"dtype": torch.float16, "device": torch.device("cpu"), "size": torch.Size([1, 2]), "big": 1 << 60}
    kept = {"epoch": 3, "step": 1e5, "name": "clip", "state_dict": state, "optimizer": optimizer, **odd}
    torch.save(kept, file, _use_new_zipfile_serialization=zipped)
    assert_same(read(file), state)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_torchscript_gives_the_state_dict_of_its_module(tmp_path):
    net = torch.jit.script(Net())
    net.save(str(tmp_path / "net.pt"))
    ours, theirs = read(tmp_path / "net.pt"), net.state_dict()
    assert_same(Tensors({n: ours[n] for n in theirs}), theirs)
    assert len(ours) == len(theirs)


def test_bfloat16_is_read_exactly_and_written_back_bit_for_bit(tmp_path):
    plain, again = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    state = {name: tensor.detach().clone().contiguous() for name, tensor in STATE.items()}
    safetensors.torch.save_file(state, plain, metadata={"format": "pt"})
    ours = read(plain)
    assert_same(Tensors({name: ours[name] for name in state}), state)
    write(again, ours)
    assert again.read_bytes() == plain.read_bytes()  # every element type, in the library's order


@pytest.mark.parametrize("metadata", [None, {}, {"format": "np", "説明": '\t"x" \x7f'}])
def test_written_files_are_those_of_the_library(tmp_path, metadata):
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    kinds = ("?", "u1", "i1", "<i2", "<u2", "<f2", "<i4", "<u4", "<f4", "<f8", "<i8", "<u8")
    arrays = {
        **{f"z.{kind}": np.ones((2, 1), kind) for kind in kinds},
        "turned": base.transpose(2, 0, 1),
        "stepped": base[:, ::2, ::-1],
        "scalar": np.array(3, np.float32),
        "empty": np.zeros((0, 2), np.float16),
        '名前\n"重み"\\/': np.ones(3, np.float16),
    }
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    tensors = Tensors(arrays, metadata=metadata)
    write(ours, Tensors({**tensors, "big": base.astype(">f4")}, metadata=metadata))
    contiguous = {n: a.copy(order="C") for n, a in arrays.items()}
    safetensors.numpy.save_file({**contiguous, "big": base}, theirs, metadata=metadata)
    if metadata is None or len(metadata) < 2:  # the library shuffles more than one
        assert ours.read_bytes() == theirs.read_bytes()
    assert read(ours).metadata == metadata
    for name, array in safetensors.numpy.load_file(ours).items():
        np.testing.assert_array_equal(array, base if name == "big" else arrays[name])


def test_metadata_is_torch_s_unless_it_is_given(tmp_path):
    write(tmp_path / "w.safetensors", {"w": np.ones(1)})
    assert read(tmp_path / "w.safetensors").metadata == {"format": "pt"}  # what transformers asks for
    write(tmp_path / "w.safetensors", read(tmp_path / "w.safetensors"), {"made": "here"})
    assert read(tmp_path / "w.safetensors").metadata == {"made": "here"}


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "w.safetensors"
    write(file, {"w": np.ones(3, np.float32)})
    before, opened = file.read_bytes(), read(file)
    with pytest.raises(WeightsError, match="cannot be stored"):
        write(file, {"a": np.float64([1]), "w": np.complex64([1])})
    assert file.read_bytes() == before
    write(file, {"w": np.zeros(3, np.float32)})
    assert opened["w"].tolist() == [1, 1, 1]  # the mapped file lives on under the new one
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
    with pytest.raises(WeightsError, match="cannot be written"):
        write(tmp_path / "nowhere" / "w.safetensors", {"w": np.ones(1)})
    for bad in (np.ones(1, np.complex64), np.array(["text"]), np.array([None])):
        with pytest.raises(WeightsError, match="cannot be stored"):
            write(file, {"w": bad})
    with pytest.raises(WeightsError, match="cannot be stored"):
        write(file, {"__metadata__": np.ones(1)})


def shards(folder: Path, suffix: str = "safetensors") -> dict[str, str]:
    """Two shards in `folder`; returns the map that belongs into their index."""
    parts = {f"model-{i}-of-2.{suffix}": {f"layer.{i}.w": torch.full((2,), i).bfloat16()} for i in (1, 2)}
    for name, state in parts.items():
        if suffix == "bin":
            torch.save(state, folder / name)
        else:
            safetensors.torch.save_file(state, folder / name)
    return {tensor: name for name, state in parts.items() for tensor in state}


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_sharded_checkpoint_is_one_dict(tmp_path, suffix):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 8}, "weight_map": shards(tmp_path, suffix)}))
    ours = read(find(tmp_path))
    assert {name: array.tolist() for name, array in ours.items()} == {"layer.1.w": [1, 1], "layer.2.w": [2, 2]}
    assert {array.dtype for array in ours.values()} == {np.dtype(bfloat16)}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer.2.w": "model-3-of-2.safetensors"}, "'model-3-of-2.safetensors' is missing"),
        ({"layer.2.w": "model-1-of-2.safetensors"}, "does not contain the tensors"),
        ({"layer.3.w": "model-2-of-2.safetensors"}, "does not contain the tensors"),
        ({"layer.2.w": "../secret.safetensors"}, "not a file in the same directory"),
        ({"layer.2.w": "/etc/passwd"}, "not a file in the same directory"),
        ({"layer.2.w": "empty"}, "empty: the file is empty"),
        ({"layer.2.w": "index"}, "shard 'index': this looks like no known file type"),
        ({"layer.2.w": None}, "is missing"),
    ],
)
def test_an_index_that_does_not_fit_its_shards(tmp_path, change, words):
    (tmp_path / "empty").touch()
    index = tmp_path / "index"
    index.write_text(json.dumps({"weight_map": {**shards(tmp_path), **change}}))
    with pytest.raises(WeightsError, match=words):
        read(index)


def test_find_follows_the_documented_order(tmp_path):
    for name in reversed(weights.FILES):
        (tmp_path / name).touch()
        (tmp_path / "other.pt").touch()
        assert find(tmp_path).name == name
    assert weights.FILES[0] == "model.safetensors"


def test_find_takes_the_only_file_and_asks_when_there_are_two(tmp_path):
    with pytest.raises(ModelNotFoundError, match=r"contains no weight file\. Expected model"):
        find(tmp_path)
    for name in ("clip_cn_vit-b-16.pt", "optimizer.pt", "training_args.bin", "config.json"):
        (tmp_path / name).touch()
    assert find(tmp_path).name == "clip_cn_vit-b-16.pt"
    (tmp_path / "b.pth").touch()
    with pytest.raises(
        WeightsError, match=r"several weight files \(b.pth, clip_cn_vit-b-16.pt\)\. Pass .*: load\(.*b\.pth'\)"
    ):
        find(tmp_path)
    with pytest.raises(ModelNotFoundError, match="is not a directory"):
        find(tmp_path / "b.pth")


@pytest.mark.parametrize("call", ["iterdir", "is_file", "is_dir"])
def test_a_folder_that_may_not_be_read_is_said_to_be_so(call, tmp_path, monkeypatch):
    """Tests may run as root, whom nothing is forbidden."""

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, call, refuse)
    with pytest.raises(WeightsError, match="cannot be read: Permission denied"):
        find(tmp_path)


def test_find_looks_for_other_frameworks_files_last(tmp_path):
    """Arrays of all kinds are kept in .npz and .h5 beside a model."""
    (tmp_path / "features.npz").touch()
    assert find(tmp_path).name == "features.npz"
    (tmp_path / "own.h5").touch()
    with pytest.raises(WeightsError, match=r"several weight files \(features.npz, own.h5\)"):
        find(tmp_path)
    (tmp_path / "own.pt").touch()
    assert find(tmp_path).name == "own.pt"


def test_folders_and_absent_files_are_no_weight_files(tmp_path):
    with pytest.raises(WeightsError, match=r"is a directory, expected a weight file. Use read\(find\(folder\)\)"):
        read(tmp_path)
    with pytest.raises(ModelNotFoundError, match="no weight file"):
        read(tmp_path / "model.safetensors")


def test_reading_needs_neither_torch_nor_safetensors():
    code = (
        "import sys; from pathlib import Path; from cjkclip.checkpoints.weights import read; "
        f"assert len(read(Path({str(GOLDEN / 'openai-vit/model.pt')!r}))) == 62; "
        "print(sorted({'torch', 'safetensors'} & set(sys.modules)))"
    )
    assert printed("-c", code).strip() == "[]"
