"""CLIPModel in Flax's and TensorFlow's files: transformers' own, and conversions of golden models made here.

tests/golden/hf-clip-eos2 holds the same model three times: flax_model.msgpack and tf_model.h5 were written by
transformers 4.57.6 with flax 0.7.0 and TensorFlow 2.15.1, whose own features are within 2e-7 of expected.npz.
"""

import re
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np
import pytest

import cjkclip
from cjkclip.checkpoints import layouts, weights
from cjkclip.checkpoints.families import families
from cjkclip.checkpoints.layouts import Layout, Row
from cjkclip.checkpoints.matching import find_layout
from cjkclip.errors import LayoutError
from families import GOLDEN

EOS2 = GOLDEN / "hf-clip-eos2"
FILES = {"flax": "flax_model.msgpack", "tensorflow": "tf_model.h5"}
CASES = ("hf-clip-eos2", "hf-clip-trueeos", "koclip")


def renamed(name: str, words: Mapping[str, str]) -> str:
    """A name of CLIPModel in torch, as the other frameworks call it."""
    path, _, leaf = name.rpartition(".")
    last = path.rpartition(".")[2]
    if leaf in ("weight", "bias"):
        kind = "norm" if "norm" in last else last if "_embedding" in last and "patch" not in last else "linear"
        leaf = words.get(f"{kind} {leaf}", leaf)
    return re.sub(r"layers/(\d+)", words["layers"], "/".join(filter(None, [*path.split("."), leaf])))


def turned(name: str, array: np.ndarray) -> np.ndarray:
    """Kernels as (in, out), those of the patches as (height, width, in, out)."""
    if array.ndim == 4:
        return np.moveaxis(array, (0, 1), (3, 2))
    return array.T if name.endswith("kernel") else array


FLAX = {
    "norm weight": "scale",
    "linear weight": "kernel",
    "token_embedding weight": "embedding",
    "layers": r"layers/\1",
}
FLAX |= {"position_embedding weight": "embedding"}
TF = {"norm weight": "gamma", "norm bias": "beta", "linear weight": "kernel", "position_embedding weight": "embeddings"}
TF |= {"layers": r"layers_._\1"}


def as_flax(tensors: Mapping[str, np.ndarray]) -> bytes:
    """A tree of tables in msgpack, as flax makes it of a model's parameters, in the longest form of each length."""
    tree: dict[str, object] = {}
    for name, array in tensors.items():
        *steps, last = renamed(name, FLAX).split("/")
        table = tree
        for step in steps:
            table = table.setdefault(step, {})
        table[last] = turned(last, array)

    def pack(value: object) -> bytes:
        if isinstance(value, dict):
            inner = b"".join(pack(key) + pack(item) for key, item in value.items())
            return b"\xdf" + struct.pack(">I", len(value)) + inner
        if isinstance(value, np.ndarray):
            sides = (
                b"\xdd" + struct.pack(">I", value.ndim) + b"".join(b"\xce" + struct.pack(">I", n) for n in value.shape)
            )
            inner = (
                b"\x93" + sides + pack(value.dtype.name) + b"\xc6" + struct.pack(">I", value.nbytes) + value.tobytes()
            )
            return b"\xc9" + struct.pack(">I", len(inner)) + b"\x01" + inner
        return b"\xdb" + struct.pack(">I", len(str(value).encode())) + str(value).encode()

    return pack(tree)


def convert(case: str, form: str, folder: Path) -> Path:
    """A golden CLIPModel with its weights in another framework's file; the other files stay."""
    for file in (GOLDEN / case).iterdir():
        if file.is_file() and file.suffix in (".json", ".txt"):
            shutil.copy(file, folder)
    tensors = weights.read(GOLDEN / case / "model.safetensors")
    if form == "flax":
        (folder / FILES[form]).write_bytes(as_flax(tensors))
        return folder
    with h5py.File(folder / FILES[form], "w") as made:
        for name, array in tensors.items():
            path = renamed(name, TF)
            made[f"clip/tf_clip_model_3/clip/{path}:0"] = turned(path, np.atleast_1d(array))
        made.create_group("top_level_model_weights")
    return folder


@pytest.mark.parametrize("form", FILES)
@pytest.mark.parametrize("case", CASES)
def test_a_converted_model_is_the_same_model(tmp_path, case, form):
    named = {"family": "koclip"} if case == "koclip" else {}
    clip = cjkclip.load(convert(case, form, tmp_path), engine="numpy", **named)
    original = cjkclip.load(GOLDEN / case, engine="numpy", **named)
    assert clip.config == original.config
    assert clip.fingerprint == original.fingerprint  # every parameter, bit for bit
    assert {name: array.shape for name, array in clip.params.items()} == {
        name: array.shape for name, array in original.params.items()
    }
    with np.load(GOLDEN / case / "expected.npz") as expected:
        np.testing.assert_array_equal(clip.tokenizer.decode([5, 6]), original.tokenizer.decode([5, 6]))
        for got, name in (
            (clip.encode_pixels(expected["pixel_values"]), "image_features_norm"),
            (clip.engine.text(expected["input_ids"], np.ones_like(expected["input_ids"])), "text_features"),
        ):
            assert np.abs(got - expected[name]).max() <= 2e-6 * max(1.0, float(np.abs(expected[name]).max()))


@pytest.mark.parametrize("form", FILES)
def test_files_of_transformers_are_the_same_model(form):
    clip, original = cjkclip.load(EOS2 / FILES[form], engine="numpy"), cjkclip.load(EOS2, engine="numpy")
    assert clip.config == original.config
    assert clip.fingerprint == original.fingerprint
    assert clip.family.name == "openai"


@pytest.mark.parametrize("source", ["model.safetensors", "flax_model.msgpack", "tf_model.h5"])
def test_what_we_save_for_flax_equals_transformers_file_byte_for_byte(tmp_path, source):
    cjkclip.load(EOS2 / source).save(tmp_path, layout="flax")
    assert (tmp_path / FILES["flax"]).read_bytes() == (EOS2 / FILES["flax"]).read_bytes()
    assert weights.find(tmp_path).name == FILES["flax"]
    assert cjkclip.load(tmp_path).fingerprint == cjkclip.load(EOS2).fingerprint


def test_flax_keeps_half_precision(tmp_path):
    source = GOLDEN / "hf-clip-eos2-realvocab"
    original = cjkclip.load(source)
    assert any(array.dtype == np.float16 for array in original.params.values())
    original.save(tmp_path, layout="flax")
    assert cjkclip.load(tmp_path).fingerprint == original.fingerprint


def test_tensorflow_is_read_only(tmp_path):
    with pytest.raises(
        LayoutError,
        match=r"layout 'tensorflow' can be read but not written\. Use save\(folder, layout=.transformers.\)",
    ):
        cjkclip.load(EOS2).save(tmp_path, layout="tensorflow")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("form", FILES)
def test_a_file_without_its_config_says_what_is_missing(tmp_path, form):
    shutil.copy(EOS2 / FILES[form], tmp_path)
    with pytest.raises(
        LayoutError, match=f"the tensors have layout '{form}', but no fitting config.json is beside them"
    ):
        cjkclip.load(tmp_path)


def test_a_variable_that_is_not_its_layer_s_is_no_keras_name(tmp_path):
    convert("hf-clip-eos2", "tensorflow", tmp_path)
    with h5py.File(tmp_path / FILES["tensorflow"], "a") as made:
        made["clip/tf_clip_model_3/other/bias:0"] = np.ones(1)
    with pytest.raises(
        LayoutError, match=r"79 tensors of no known layout .first: .'clip/tf_clip_model_3/clip/logit_scale:0"
    ):
        cjkclip.load(tmp_path)


def test_every_parameter_has_the_same_home_in_both_trees():
    params = cjkclip.load(EOS2).params
    for form in FILES:
        tensors = layouts.write(find_layout(form, params).layout, params)
        assert len(tensors) == len(params) == 78
        again = layouts.read(find_layout(form, params).layout, tensors, form)
        assert all(np.array_equal(again[name], params[name]) for name in params)
    assert {form for each in families() for form in (f.layout.name for f in each.formats)} >= set(FILES)


def test_kernels_and_scalars_of_other_shapes_are_refused():
    rows = (Row("k", "kernel", "hwio"), Row("s", "scale", "scalar"))
    toy = Layout(name="toy", rows=rows, marks=(), harmless=())
    tensors = {"kernel": np.arange(24.0).reshape(2, 3, 1, 4), "scale": np.ones(1)}
    params = layouts.read(toy, tensors, "toy.h5")
    assert params["k"].shape == (4, 1, 2, 3)
    assert params["k"][3, 0, 1, 2] == tensors["kernel"][1, 2, 0, 3]
    assert params["s"].shape == ()
    back = layouts.write(toy, params)
    assert back["scale"].shape == (1,)
    np.testing.assert_array_equal(back["kernel"], tensors["kernel"])
    for name, shape, wanted in (
        ("kernel", (2, 3, 4), "four axes"),
        ("scale", (), r"\(1,\)"),
        ("scale", (2,), r"\(1,\)"),
    ):
        with pytest.raises(LayoutError, match=f"toy.h5: {name} has shape .* expected {wanted}"):
            layouts.read(toy, tensors | {name: np.ones(shape)}, "toy.h5")
