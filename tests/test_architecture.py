"""The rules of the house, checked: what imports what, how long things may be, which names are frozen.

docs/architecture.md says why. The import contracts themselves stand in pyproject.toml, for import-linter.
"""

import ast
import dataclasses
import json
import socket
import tomllib
from pathlib import Path

import jaxtyping
import numpy as np
import pytest
import torch

import cjkclip
from cjkclip import parameters
from cjkclip.checkpoints.families import REGISTRY
from cjkclip.config import Image, Model, ResNet, Text, Vit
from cjkclip.engines.torch.blocks import Attention
from cjkclip.engines.torch.towers import build
from support.processes import printed
from support.sources import OURS, ROOT, SOURCES, SRC, nodes, where

NAMES = ROOT / "tests" / "golden" / "names"

FRAMEWORKS = {"torch", "jax", "tensorflow", "openvino", "onnx", "onnxruntime", "transformers"}
SLOW = FRAMEWORKS | {
    "tokenizers",
    "sentencepiece",
    "ftfy",
    "h5py",
    "huggingface_hub",
    "safetensors",
    "typer",
    "rich",
    "PIL",
}
HOMES = {  # the only places of src that may import a package, those of planned features included
    "torch": ("engines/torch/", "engines/here.py", "train/", "tasks/", "compat/"),
    "openvino": ("engines/openvino/",),
    "nncf": ("engines/openvino/",),
    "jax": ("engines/jax.py", "compat/flax.py"),
    "tensorflow": ("engines/tensorflow.py", "compat/tensorflow.py"),
    "onnx": ("engines/onnx.py",),
    "onnxruntime": ("engines/onnx.py",),
    "transformers": (),
    "tokenizers": ("text/", "train/tokenizer.py", "compat/transformers/inputs/"),
    "sentencepiece": ("text/",),
    "ftfy": ("text/",),
    "h5py": ("checkpoints/weights/",),
    "safetensors": (),
    "huggingface_hub": ("checkpoints/hub/", "cli/checks.py"),
    "typer": ("cli/",),
    "rich": ("cli/", "evals/report.py"),
    "ray": ("scale/",),
    "fastapi": ("serve/",),
    "starlette": ("serve/",),
    "uvicorn": ("serve/",),
    "sqlite3": ("gallery/",),
    "faiss": ("gallery/",),
}
OWN = {  # the files that are about one package, and that others import only when it is wanted
    "torch": ("engines/torch/", "train/", "compat/transformers/"),
    "openvino": ("engines/openvino/runtime.py",),
    "typer": ("cli/",),
    "rich": ("cli/",),
    "huggingface_hub": ("checkpoints/hub/",),
}
PUBLIC = ["Clip", "Gallery", "Prediction", "Tokens", "errors", "load", "moji", "verify"]
TEXT = Text(
    width=8,
    depth=2,
    heads=2,
    mlp=16,
    act="gelu",
    eps=1e-5,
    vocab=12,
    context=6,
    pool="largest-id",
    eot=11,
    project=True,
)
VIT = Vit(
    width=8,
    depth=2,
    heads=2,
    mlp=16,
    act="quick_gelu",
    eps=1e-5,
    image_size=8,
    patch=4,
    patch_bias=False,
    pre_norm=True,
    project=True,
)
RESNET = ResNet(image_size=32, width=4, stages=(1, 2, 1, 1), heads=2)
CONFIGS = {
    "vit": Model(vision=VIT, text=TEXT, image=None, embed=4, scale=None),
    "resnet": Model(vision=RESNET, text=TEXT, image=None, embed=4, scale=None),
}


def imported(node: ast.AST) -> set[str]:
    """Top-level packages that a node imports, by statement or by need()."""
    if isinstance(node, ast.Import):
        found = {name.name for name in node.names}
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        found = {node.module or ""}
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
        "need",
        "importlib.import_module",
        "import_module",
    ):
        found = {a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)}
    else:
        found = set()
    return {name.partition(".")[0] for name in found}


def test_nothing_is_swallowed() -> None:
    """No bare or catch-all except, no load that ignores what does not fit, no postponed annotations."""
    bad: list[str] = []
    for path, node in nodes(SOURCES):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.walk(node.type) if node.type else [ast.Name("BaseException")]
            named = {n.id for n in caught if isinstance(n, ast.Name)}
            bad += [where(path, node)] if named & {"Exception", "BaseException"} else []
        elif isinstance(node, ast.keyword) and node.arg == "strict" and path in OURS:
            loose = isinstance(node.value, ast.Constant) and node.value.value is False
            bad += [where(path, node.value)] if loose else []
        elif isinstance(node, ast.ImportFrom) and node.module == "__future__":
            bad.append(where(path, node))  # jaxtyping needs annotations that are evaluated
    assert not bad


def test_heavy_packages_are_imported_in_one_folder_each() -> None:
    strays: list[str] = []
    for path, node in nodes(OURS):
        inside = path.relative_to(SRC).as_posix()
        strays += [f"{where(path, node)} {f}" for f in imported(node) & set(HOMES) if not inside.startswith(HOMES[f])]
    assert not strays


def test_heavy_packages_are_imported_at_the_point_of_use() -> None:
    """At the top of a module they would slow every command. An engine's own file is itself imported late."""
    early: list[str] = []
    for path in OURS:
        inside = path.relative_to(SRC).as_posix()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            heavy = {name for name in imported(node) & (SLOW - {"PIL"}) if not inside.startswith(OWN.get(name, ()))}
            early += [f"{where(path, node)} {name}" for name in heavy]
    assert not early


def test_a_process_imports_the_tree_that_the_tests_lie_in(tmp_path: Path) -> None:
    """An installed cjkclip may be another version."""
    code = "import cjkclip; print(cjkclip.__file__)"
    assert Path(printed("-c", code, cwd=tmp_path).strip()) == SRC / "__init__.py"


def test_import_cjkclip_loads_no_framework() -> None:
    loaded = json.loads(printed("-c", "import cjkclip, json, sys; print(json.dumps(list(sys.modules)))"))
    assert "cjkclip" in loaded
    assert not {name.partition(".")[0] for name in loaded} & (SLOW | {"beartype"})


def test_import_cjkclip_is_quick() -> None:
    """CPU seconds above `import numpy`, the best of three: the one test that looks at a clock."""
    code = "import numpy, time; t = time.process_time(); import cjkclip; print(time.process_time() - t)"
    assert min(float(printed("-c", code)) for _ in range(3)) < 0.15


def test_an_engine_writes_nothing_into_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """openvino would: its import starts telemetry, which leaves an identifier there and calls home."""
    monkeypatch.delenv("CI", raising=False)  # there it keeps quiet by itself
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    code = "import cjkclip; print(cjkclip.load('moji', engine='openvino').encode_text(['猫']).shape[0])"
    assert printed("-c", code) == "1\n"
    assert not list(tmp_path.iterdir())


def test_public_names_are_frozen() -> None:
    assert sorted(cjkclip.__all__) == PUBLIC
    assert set(PUBLIC) <= set(dir(cjkclip))
    for name in PUBLIC:
        value = getattr(cjkclip, name)
        assert getattr(value, "__module__", value.__name__).startswith("cjkclip"), name


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = cjkclip.no_such_name  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("name", CONFIGS)
def test_canonical_parameter_names_are_frozen(name: str) -> None:
    """Saved models depend on them: tests/golden/names holds the list, in the order of the towers."""
    listed = [f"{k} {'x'.join(map(str, v))}".strip() for k, v in parameters.shapes(CONFIGS[name]).items()]
    assert listed == (NAMES / f"{name}.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", CONFIGS)
def test_the_torch_modules_have_the_canonical_parameters(name: str) -> None:
    state = {k: tuple(v.shape) for k, v in build(CONFIGS[name]).state_dict().items()}
    assert state == parameters.shapes(CONFIGS[name])


def test_families_files_registry_and_test_table_agree() -> None:
    from families import FAMILIES

    files = {p.stem for p in (SRC / "checkpoints" / "families").glob("*.py")} - {"__init__"}
    assert set(REGISTRY) == files
    assert {case.family for case in FAMILIES} == files


def test_a_family_is_a_record() -> None:
    """Code that reads or writes files belongs to a format, which several families may share."""
    files = [p for p in (SRC / "checkpoints" / "families").glob("*.py") if p.name != "__init__.py"]
    defined = {where(p, n) for p, n in nodes(files) if isinstance(n, ast.FunctionDef | ast.ClassDef | ast.Lambda)}
    releases = {where(p, n) for p, n in nodes(files) if isinstance(n, ast.FunctionDef) and n.name == "_release"}
    assert releases
    assert not defined - releases


def test_array_shapes_are_checked() -> None:
    """The import hook of conftest.py works: a wrong rank, dtype or type is refused where it comes in."""
    attention = Attention(8, 2)
    assert attention(torch.zeros(1, 3, 8), False).shape == (1, 3, 8)
    for wrong in (torch.zeros(3, 8), torch.zeros(1, 3, 8, dtype=torch.int64), np.zeros((1, 3, 8))):
        with pytest.raises(jaxtyping.TypeCheckError):
            attention(wrong, False)


def test_a_start_does_not_wait_for_what_only_the_tests_use() -> None:
    asked = "cjkclip.load('moji').classify(np.zeros((9, 9, 3), np.uint8), ['猫', '犬'])"
    loaded = set(printed("-c", f"import cjkclip, sys, numpy as np; {asked}; print(*sys.modules)").split())
    assert "cjkclip.arrays" in loaded
    masked = {"numpy.ma"} if np.__version__ >= "2" else set[str]()  # older NumPy imports it by itself
    assert not ({"jaxtyping", "beartype", "torch", "transformers"} | masked) & loaded
    plain = printed(
        "-c", "import numpy as np; from cjkclip.arrays import Int64; print(Int64[np.ndarray, 'n L'] is np.ndarray)"
    )
    assert plain.strip() == "True"


def test_code_for_transformers_loads_no_trainer() -> None:
    """The loss that `CLIPModel` returns lies beside the towers."""
    code = "import sys; from cjkclip.compat.transformers import CLIPModel; print(*sys.modules)"
    loaded = set(printed("-c", code).split())
    assert "cjkclip.engines.torch.loss" in loaded
    assert not {name for name in loaded if name.startswith("cjkclip.train")}


def test_config_has_no_defaults() -> None:
    """A family must state every value in which families differ."""
    for kind in (Vit, ResNet, Text, Image, Model):
        every = dataclasses.fields(kind)
        assert every
        assert all(f.default is f.default_factory is dataclasses.MISSING for f in every), kind


def test_an_offline_test_cannot_reach_the_network() -> None:
    with socket.socket() as outside, pytest.raises(AssertionError, match="mark it `hub`"):
        outside.connect(("192.0.2.1", 80))  # an address for documentation, nobody's


def test_the_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert cjkclip.__version__ == project["version"]
