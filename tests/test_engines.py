"""Engines: chosen by name, equal to each other, and torch's names equal to the list made from the config alone."""

import dataclasses
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import cjkclip
from cjkclip.config import Model, Vit
from cjkclip.engines import ENGINES, build, choose
from cjkclip.engines.functional import image_tower, text_tower
from cjkclip.engines.numpy import NumpyOps
from cjkclip.engines.openvino.ops import Compiled, OpenvinoEngine
from cjkclip.errors import EngineError, EngineWarning, MissingDependencyError
from cjkclip.parameters import shapes
from support.engines import MODELS, random_params
from support.processes import python

REINSTALL = "Reinstall it: pip install --force-reinstall openvino"
MASK = np.array([[1] * n + [0] * (9 - n) for n in (9, 4, 1, 7)])
BOTH = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


@BOTH
def test_torch_modules_have_the_canonical_names_and_shapes(model: Model) -> None:
    from cjkclip.engines.torch.towers import build as build_towers

    found = {name: tuple(tensor.shape) for name, tensor in build_towers(model).state_dict().items()}
    assert found == shapes(model)


@BOTH
@pytest.mark.parametrize("engine", sorted(set(ENGINES) - {"numpy"}))
def test_every_stage_equals_the_oracle(model: Model, engine: str) -> None:
    params, rng = random_params(model), np.random.default_rng(1)
    assert model.vision is not None
    pixels = rng.normal(size=(3, 3, model.vision.image_size, model.vision.image_size)).astype(np.float32)
    ids = rng.integers(0, 49, (4, 9))
    ids[[0, 1, 2], [3, 8, 0]] = 49  # the last text has no end token at all: every engine reads position 0
    ours, oracle = (build(model, params, engine=e, precision="fp32", device="cpu") for e in (engine, "numpy"))
    for got, want in (
        (ours.image_stages(pixels), oracle.image_stages(pixels)),
        (ours.text_stages(ids, MASK), oracle.text_stages(ids, MASK)),
    ):
        assert set(got) <= set(want)
        assert len(got) >= 4
        for name in got:
            scale = max(1.0, float(np.abs(want[name]).max()))
            assert np.abs(got[name] - want[name]).max() <= 4e-6 * scale, name
    for got, want in ((ours.image(pixels), oracle.image(pixels)), (ours.text(ids, MASK), oracle.text(ids, MASK))):
        assert np.abs(got - want).max() <= 4e-6 * max(1.0, float(np.abs(want).max()))


class Counting(NumpyOps):
    """Counts the rows that go through linear layers."""

    def __init__(self) -> None:
        self.rows = 0

    def linear(self, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
        self.rows += x[..., 0].size
        return super().linear(x, weight, bias)


@BOTH
def test_without_a_tap_the_last_block_computes_one_token_and_features_stay(model: Model) -> None:
    params, rng = random_params(model), np.random.default_rng(4)
    assert model.vision is not None
    assert model.text is not None
    pixels = rng.normal(size=(2, 3, model.vision.image_size, model.vision.image_size)).astype(np.float32)
    ids = rng.integers(0, 49, (4, 9))
    ids[[0, 1, 2], [3, 8, 0]] = 49
    images, texts = (Counting(), Counting()), (Counting(), Counting())
    for ops, tower, args in (
        (images, image_tower, (params, model, pixels)),
        (texts, text_tower, (params, model.text, ids, MASK)),
    ):
        whole = tower(ops[0], *args, lambda *_: None)
        narrow = tower(ops[1], *args)
        assert np.abs(whole - narrow).max() <= 2e-6 * max(1.0, np.abs(whole).max())
    saved = 4 * (len(MASK) * MASK.shape[1] - len(MASK))  # q, out, fc1 and fc2 of all tokens but one
    assert texts[0].rows - texts[1].rows == saved
    tokens = (4 * 4 + 1) * len(pixels)
    assert images[0].rows - images[1].rows == (4 * (tokens - len(pixels)) if isinstance(model.vision, Vit) else 0)


def test_the_first_of_several_end_tokens_is_read() -> None:
    params, rng = random_params(MODELS["vit"]), np.random.default_rng(1)
    ids = rng.integers(0, 40, (1, 9))
    ids[0, 4:] = 49
    other = ids.copy()
    other[0, 5:] = 7  # what follows the first end token cannot matter
    for engine in ENGINES:
        built = build(MODELS["vit"], params, engine=engine, precision="fp32", device="cpu")
        np.testing.assert_allclose(built.text(ids, ids), built.text(other, ids), atol=1e-6)


def test_shorter_rows_of_ids_give_the_same_features() -> None:
    params = random_params(MODELS["vit"])
    ids = np.array([[48, 3, 5, 49, 0, 0, 0, 0, 0]])
    for engine in ENGINES:
        built = build(MODELS["vit"], params, engine=engine, precision="fp32", device="cpu")
        np.testing.assert_allclose(built.text(ids[:, :4], ids[:, :4]), built.text(ids, ids), atol=1e-6)


def test_bf16_is_close_and_not_equal() -> None:
    params, rng = random_params(MODELS["vit"]), np.random.default_rng(2)
    pixels = rng.normal(size=(2, 3, 32, 32)).astype(np.float32)
    exact = build(MODELS["vit"], params, engine="torch", precision="fp32", device="cpu").image(pixels)
    rough = build(MODELS["vit"], params, engine="torch", precision="bf16", device="cpu").image(pixels)
    assert 1e-5 < np.abs(exact - rough).max() / np.abs(exact).max() < 0.05


def test_a_fresh_model_starts_as_clip_does() -> None:
    from cjkclip.engines.torch.towers import build as build_towers

    state = build_towers(MODELS["resnet"]).state_dict()
    assert state["logit_scale"].item() == pytest.approx(np.log(1 / 0.07))
    assert state["text.token.weight"].std().item() == pytest.approx(0.02, rel=0.2)
    assert not state["vision.stage1.0.expand.bn.weight"].any()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"engine": "onnx"}, "engine 'onnx' does not exist: use engine='auto' or one of"),
        ({"engine": "numpy", "precision": "bf16"}, "does not support precision 'bf16': use precision='auto' or one of"),
        ({"engine": "openvino", "device": "cuda"}, "does not support device 'cuda': use device='auto' or one of"),
        ({"precision": "int3"}, "does not support precision 'int3'"),
    ],
)
def test_what_does_not_exist_is_refused(asked: dict[str, str], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        choose(**asked)


def test_a_gpu_that_is_not_there_is_refused() -> None:
    import torch

    if torch.cuda.is_available():
        assert choose(device="cuda")[2] == "cuda"
    else:
        with pytest.raises(EngineError, match="finds no CUDA device"):
            build(MODELS["vit"], random_params(MODELS["vit"]), engine="torch", precision="fp32", device="cuda")


def test_without_openvino_another_engine_is_chosen_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"torch"}
    monkeypatch.setattr("cjkclip.engines.here.lacking", lambda _: None)
    monkeypatch.setattr("cjkclip.engines.here.find_spec", lambda name: name if name in there else None)
    monkeypatch.setattr("cjkclip.engines.here._driver", lambda: False)
    with pytest.warns(EngineWarning, match=r"pip install 'cjkclip\[openvino\]'\. .* uses torch"):
        assert choose() == ("torch", "fp32", "cpu")
    there.clear()
    with pytest.warns(EngineWarning, match=r"pip install 'cjkclip\[openvino\]'\. .* uses numpy"):
        assert choose(device="cpu") == ("numpy", "fp32", "cpu")
    with pytest.raises(MissingDependencyError, match=r"not installed\. Install it: pip install 'cjkclip\[torch\]'"):
        choose("torch")
    assert choose("numpy")[0] == "numpy"


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError, AttributeError])
def test_a_package_that_does_not_start_is_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def broken(_: str) -> None:
        raise error("built for another NumPy\nand so on")

    monkeypatch.setattr("cjkclip.engines.here.importlib.import_module", broken)
    with pytest.raises(EngineError, match=rf"cannot be imported \(built for another NumPy\)\. {REINSTALL}"):
        build(MODELS["vit"], random_params(MODELS["vit"]), engine="openvino", precision="fp32", device="cpu")
    with pytest.warns(EngineWarning, match="cannot be imported"):
        assert choose(device="cpu")[0] == "torch"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_whoever_is_stopped_while_a_package_starts_stops(
    monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    causes = [stop(), None]

    def halved(_: str) -> None:
        raise ImportError("initialization failed") from causes.pop(0)  # as pybind11 says it

    monkeypatch.setattr("cjkclip.engines.here._STOPPED", set[str]())
    monkeypatch.setattr("cjkclip.engines.here.importlib.import_module", halved)
    with pytest.raises(stop):
        choose(device="cpu")
    with pytest.warns(EngineWarning, match="interrupted: restart Python"):
        choose(device="cpu")


def test_a_package_that_was_interrupted_inside_its_code_is_not_imported_again(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = [SystemError("bad call flags"), AssertionError("imported again")]

    def halved(_: str) -> None:
        raise errors.pop(0)

    monkeypatch.setattr("cjkclip.engines.here._STOPPED", set[str]())
    monkeypatch.setattr("cjkclip.engines.here.importlib.import_module", halved)
    monkeypatch.delitem(sys.modules, ENGINES["openvino"][0], raising=False)
    for _ in range(2):
        with pytest.raises(EngineError, match=r"interrupted.*restart Python"):
            build(MODELS["vit"], random_params(MODELS["vit"]), engine="openvino", precision="fp32", device="cpu")


def test_an_openvino_that_lacks_a_library(tmp_path: Path) -> None:
    """One line says so, and another engine answers; asked for by name it is an error, without a traceback."""
    (tmp_path / "openvino").mkdir()
    said = "libopenvino.so.2620: cannot open shared object file"
    (tmp_path / "openvino" / "__init__.py").write_text(f"raise ImportError({said!r})", "utf-8")

    def embed(*words: str) -> "subprocess.CompletedProcess[str]":
        return python("-m", "cjkclip", "embed", "猫", "--out", tmp_path / "v.npy", *words, path=[tmp_path])

    auto = embed()
    whole = f"engine 'openvino' is installed but cannot be imported ({said}). {REINSTALL}"
    assert auto.stderr == f"cjkclip: note: {whole}. Until then cjkclip uses torch, which is slower\n"
    assert (auto.returncode, len(np.load(tmp_path / "v.npy"))) == (0, 1)
    named = embed("--engine", "openvino")
    assert (named.returncode, named.stdout, named.stderr) == (5, "", f"cjkclip: error: {whole}\n")


def test_both_towers_are_compiled_at_once_and_only_once(monkeypatch: pytest.MonkeyPatch) -> None:
    params, rng = random_params(MODELS["vit"]), np.random.default_rng(3)
    pixels, ids = rng.normal(size=(2, 3, 32, 32)).astype(np.float32), rng.integers(1, 40, (2, 9))
    plain, ready = (OpenvinoEngine(MODELS["vit"], params, "fp32") for _ in range(2))
    made, compiled = list[str](), type(ready).compiled

    def counted(engine: OpenvinoEngine, tower: str, *, stages: bool) -> Compiled:
        made.append(tower)
        return compiled(engine, tower, stages=stages)

    monkeypatch.setattr(OpenvinoEngine, "compiled", counted)
    for _ in range(2):
        ready.prepare()
        assert sorted(made) == ["image", "text"]
    np.testing.assert_array_equal(ready.image(pixels), plain.image(pixels))
    np.testing.assert_array_equal(ready.text(ids, ids), plain.text(ids, ids))
    alone = dataclasses.replace(MODELS["vit"], text=None)
    single = OpenvinoEngine(alone, params, "fp32")
    single.prepare()  # one tower can wait until it is asked for
    assert sorted(made) == ["image", "image", "text", "text"]


def test_stages_of_torch_are_right_beside_other_threads() -> None:
    clip = cjkclip.load("moji", engine="torch")
    one, other = clip.tokenize(["cat"]), clip.tokenize(["panda"])
    expected, stop = clip.engine.text_stages(one.ids, one.mask), threading.Event()

    def work() -> None:
        while not stop.is_set():
            clip.engine.text(other.ids, other.mask)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(30):
            stages = clip.engine.text_stages(one.ids, one.mask)
            assert all(np.allclose(stages[name], value, atol=1e-5) for name, value in expected.items())
    finally:
        stop.set()
        thread.join()
