"""Layout rows: read and write are each other's inverse; leftovers, gaps and wrong shapes are named."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import cjkclip
from cjkclip import parameters
from cjkclip.checkpoints import layouts, weights
from cjkclip.checkpoints.families import REGISTRY, families, family
from cjkclip.checkpoints.formats import settle
from cjkclip.checkpoints.layouts import Layout, Row
from cjkclip.checkpoints.matching import find_layout
from cjkclip.errors import FactsError, LayoutError
from families import GOLDEN

LAYOUT = Layout(
    name="toy",
    rows=(
        Row("a.{i}.q.{p}", "x.{i}.in_proj_{p}", "q"),
        Row("a.{i}.k.{p}", "x.{i}.in_proj_{p}", "k"),
        Row("a.{i}.v.{p}", "x.{i}.in_proj_{p}", "v"),
        Row("proj.weight", "projection", "transpose"),
    ),
    marks=("projection",),
    harmless=("*.position_ids",),
)
TENSORS = {
    "x.0.in_proj_weight": np.arange(12.0).reshape(6, 2),
    "x.0.in_proj_bias": np.arange(6.0),
    "projection": np.arange(6.0).reshape(2, 3),
}


def test_reading_and_writing_are_inverse() -> None:
    params = layouts.read(LAYOUT, TENSORS, "toy.pt")
    assert sorted(params) == ["a.0.k.bias", "a.0.k.weight", "a.0.q.bias", "a.0.q.weight", "a.0.v.bias", "a.0.v.weight",
                              "proj.weight"]  # fmt: skip
    np.testing.assert_array_equal(params["a.0.k.weight"], [[4, 5], [6, 7]])
    assert params["proj.weight"].shape == (3, 2)
    back = layouts.write(LAYOUT, params)
    assert set(back) == set(TENSORS)
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(back[name], tensor)


def test_a_tensor_without_a_place_is_an_error_and_a_harmless_one_is_not() -> None:
    layouts.read(LAYOUT, {**TENSORS, "text.position_ids": np.arange(3)}, "toy.pt")
    with pytest.raises(LayoutError, match=r"toy\.pt: 1 tensors have no place in layout 'toy' \(extra\)"):
        layouts.read(LAYOUT, {**TENSORS, "extra": np.zeros(1)}, "toy.pt")


def test_names_are_matched_whole() -> None:
    with pytest.raises(LayoutError, match="no place"):
        layouts.read(LAYOUT, {**TENSORS, "module.projection": np.zeros((2, 3))}, "toy.pt")
    with pytest.raises(LayoutError, match="no place"):
        layouts.read(LAYOUT, {**TENSORS, "xx0.in_proj_bias": np.zeros(6)}, "toy.pt")


def test_a_parameter_without_a_place_is_an_error() -> None:
    with pytest.raises(LayoutError, match=r"no place for 1 parameters \(b\.weight\)"):
        layouts.write(LAYOUT, {"b.weight": np.zeros(1)})


def test_a_fused_tensor_that_is_no_multiple_of_three_is_an_error() -> None:
    with pytest.raises(LayoutError, match="multiple of 3"):
        layouts.read(LAYOUT, {"x.0.in_proj_bias": np.arange(7.0)}, "toy.pt")


def test_check_names_both_lists_and_shapes() -> None:
    expected = {"a": (2,), "b": (3,), "scale": ()}
    good = {"a": np.zeros(2), "b": np.zeros(3), "scale": np.zeros(())}
    parameters.check(good, expected, "f")
    with pytest.raises(LayoutError, match=r"1 parameters that the file lacks \(b\); the file has 1 .* \(c\)"):
        parameters.check({"a": np.zeros(2), "c": np.zeros(3), "scale": np.zeros(())}, expected, "f")
    with pytest.raises(LayoutError, match=r"b has shape \(4,\), the config needs \(3,\)"):
        parameters.check({**good, "b": np.zeros(4)}, expected, "f")


def test_every_row_of_every_layout_is_unambiguous() -> None:
    """One published name has one meaning, unless it is fused; one canonical name has one home."""
    for each in families():
        for form in each.formats:
            rows = form.layout.rows
            assert len({row.canonical for row in rows}) == len(rows), form.layout.name
            whole = [row.published for row in rows if row.op in ("same", "transpose")]
            assert len(set(whole)) == len(whole), form.layout.name


def test_registry_and_layout_names() -> None:
    assert [each.name for each in families()] == list(REGISTRY)
    with pytest.raises(LookupError, match="family 'klingon' does not exist"):
        family("klingon")
    with pytest.raises(LayoutError, match="layout 'onnx' does not exist"):
        find_layout("onnx", [])


def copied(folder: Path, case: str, tensors: dict[str, np.ndarray]) -> Path:
    """The side files of a golden checkpoint beside other tensors."""
    shutil.copytree(GOLDEN / case, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.npz", "image", "text"))
    weights.write(folder / "model.safetensors", tensors)
    return folder


@pytest.mark.parametrize(
    ("case", "wrong", "layout", "right"),
    [
        ("hf-chinese-clip", "openai", "transformers_chinese", "chinese"),
        ("hf-clip-eos2", "chinese", "transformers", "openai"),
        ("taiyi-clip-model", "rinna", "taiyi", "taiyi"),
    ],
)
def test_a_file_of_another_family_says_which(case: str, wrong: str, layout: str, right: str) -> None:
    told = f"do not fit family '{wrong}'. They fit layout '{layout}' of family '{right}': load(..., family=\"{right}\")"
    with pytest.raises(LayoutError, match=re.escape(told)):
        cjkclip.load(GOLDEN / case, family=wrong)
    assert cjkclip.load(GOLDEN / case, family=right).family.name == right


@pytest.mark.parametrize("prefix", ["model.", "clip_model.", "base_model.model."])
def test_a_prefix_before_every_name_is_told(prefix: str, tmp_path: Path) -> None:
    """The dictionary of the message is the way out: pasted, it gives a file that loads."""
    tensors = weights.read(GOLDEN / "hf-clip-eos2/model.safetensors")
    state_dict = {prefix + name: tensor for name, tensor in tensors.items()} | {"criterion.weight": np.zeros(3)}
    folder = copied(tmp_path / "m", "hf-clip-eos2", state_dict)
    with pytest.raises(
        LayoutError, match=f"have the prefix '{prefix}'. Without it they fit layout 'transformers'"
    ) as error:
        cjkclip.load(folder)
    renamed = eval(str(error.value).partition("load that: ")[2], {"state_dict": state_dict})
    (folder / "model.safetensors").unlink()
    weights.write(folder / "model.safetensors", renamed)
    assert cjkclip.load(folder).fingerprint == cjkclip.load(GOLDEN / "hf-clip-eos2").fingerprint


def test_an_unknown_layout_lists_each_known_one_once_and_the_nearest(tmp_path: Path) -> None:
    tensors = weights.read(GOLDEN / "hf-clip-eos2/model.safetensors")
    left = {name: tensor for name, tensor in tensors.items() if name != "logit_scale" and "_layrnorm" not in name}
    left = {name.replace("final_layer_norm", "norm").replace("_projection", ""): left[name] for name in left}
    folder = copied(tmp_path / "m", "hf-clip-eos2", left)
    with pytest.raises(LayoutError, match=f"{len(left)} tensors of no known layout") as error:
        cjkclip.load(folder)
    listed = re.search(r"Known layouts: (.*?)\.", str(error.value))
    assert listed is not None
    names = listed[1].split(", ")
    assert names == sorted({form.layout.name for each in families() for form in each.formats})
    assert f"Nearest: 'transformers', with a place for {len(left) - 4} of them" in str(error.value)
    with pytest.raises(LayoutError, match=r"family 'taiyi': taiyi, taiyi_logits, taiyi_pooler\. Nearest: 'taiyi'"):
        cjkclip.load(folder, family="taiyi")


def test_nothing_is_near_a_file_of_another_kind(tmp_path: Path) -> None:
    weights.write(tmp_path / "model.safetensors", {"wte": np.zeros(3)})
    with pytest.raises(LayoutError, match=r"1 tensors of no known layout .first: .'wte'..") as error:
        cjkclip.load(tmp_path)
    assert "Nearest" not in str(error.value)


def test_facts_are_laid_over_a_record_and_leave_it_alone() -> None:
    record = {"vision": {"act": "gelu"}, "embed": 3}
    assert settle(record, {"vision.act": "quick_gelu", "embed": 4}) == {"vision": {"act": "quick_gelu"}, "embed": 4}
    assert record == {"vision": {"act": "gelu"}, "embed": 3}
    with pytest.raises(FactsError, match="vision"):
        settle({"vision": None}, {"vision.act": "gelu"})
