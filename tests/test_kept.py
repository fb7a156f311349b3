"""Graphs kept on disk: the same numbers as without, and nothing stale, damaged or another model's is believed."""

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import cjkclip
from cjkclip import fingerprint
from cjkclip.checkpoints import weights
from cjkclip.engines import ROUNDED
from cjkclip.engines.floats import Floats
from cjkclip.engines.openvino import kept as kept_openvino
from cjkclip.engines.openvino.kept import CachedGraph
from cjkclip.engines.openvino.ops import OpenvinoEngine
from cjkclip.machine.mapped import MappedFile, offset, root
from families import FAMILIES, GOLDEN, Case

HF = GOLDEN / "hf-chinese-clip"
ROWS = [
    c for c in FAMILIES if c.weights.endswith((".safetensors", ".bin", ".pt")) and c.towers == "both" and not c.image
]
Answers = dict[str, np.ndarray]
Started = Callable[..., tuple[Answers, list[str]]]


def answers(engine: OpenvinoEngine) -> Answers:
    """Both towers' features of fixed inputs."""
    vision, text = engine._config.vision, engine._config.text
    found: Answers = {}
    if vision is not None:
        found["image"] = engine.image(
            np.linspace(-1, 1, 6 * vision.image_size**2, dtype=np.float32).reshape(2, 3, vision.image_size, -1)
        )
    if text is not None:
        ids = np.arange(10, dtype=np.int64).reshape(2, 5) % text.vocab
        found["text"] = engine.text(ids, np.ones_like(ids))
    return found


def engine_of(clip: cjkclip.Clip) -> OpenvinoEngine:
    return OpenvinoEngine(clip.config, clip.params, "fp32")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Started:
    """Return the features of a new engine, and whether it "read" or "kept" each tower's graph, or neither."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(kept_openvino, "LEAST", 1)
    did: list[str] = []
    read, compiled = CachedGraph.read, CachedGraph.compiled

    def reading(kept: CachedGraph) -> object:
        found = read(kept)
        did.extend(["read"] if found is not None else [])
        return found

    def compiling(kept: CachedGraph, graph: object) -> object:
        did.append("kept")
        return compiled(kept, graph)

    monkeypatch.setattr(CachedGraph, "read", reading)
    monkeypatch.setattr(CachedGraph, "compiled", compiling)

    def start(source: cjkclip.Clip | Path | str) -> tuple[Answers, list[str]]:
        did.clear()
        clip = source if isinstance(source, cjkclip.Clip) else cjkclip.load(source, engine="openvino", precision="fp32")
        return answers(engine_of(clip)), list(did)

    return start


def same(a: Answers, b: Answers, bound: float = 0.0) -> bool:
    return all(float(np.abs(a[tower] - b[tower]).max()) <= bound for tower in {*a, *b})


def copied(tmp_path: Path, name: str = "copy") -> Path:
    shutil.copytree(HF, tmp_path / name)
    return tmp_path / name


def rewritten(folder: Path, change: Callable[[str, np.ndarray], np.ndarray]) -> None:
    """The folder's weights, each as `change` makes it, in the same places of a new file."""
    tensors = weights.read(folder / "model.safetensors")
    for name, array in list(tensors.items()):
        tensors[name] = change(name, array.copy()) if array.ndim else array
    weights.write(folder / "model.safetensors", tensors)


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.name)
def test_a_kept_graph_answers_like_a_new_one(case: Case, started: Started, monkeypatch: pytest.MonkeyPatch):
    clip = case.load("openvino")
    first, made = started(clip)
    second, found = started(clip)
    monkeypatch.setattr(kept_openvino, "LEAST", 1 << 60)
    plain, nothing = started(clip)
    assert "kept" in made
    assert found == ["read"] * len(made)
    assert nothing == []
    assert same(first, second)
    half = any(array.dtype == np.float16 for array in clip.params.values())
    assert same(first, plain, 2e-6 if half else 0.0)


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.name)
def test_no_weight_is_part_of_what_is_kept(
    case: Case, started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Another file with the same places and the same small parameters may take the graph: it has its own weights."""
    monkeypatch.setattr(fingerprint, "ENDS", 0)
    clip = case.load("openvino")
    original, _ = started(clip)
    mapped = root(clip.params["text.token.weight"])
    assert isinstance(mapped, MappedFile)
    content = bytearray(mapped.path.read_bytes())
    shelf = [CachedGraph.of(clip.config, Floats(clip.params), tower, "fp32") for tower in original]
    stored = [array for kept in shelf if kept for array in kept.weights.values()]
    assert len(stored) > 10
    for array in stored:
        place = offset(array, mapped)
        content[place : place + array.nbytes] = (array * array.dtype.type(0.5)).tobytes()
    (tmp_path / "other").write_bytes(content)
    other = MappedFile.of(tmp_path / "other")
    params = {
        name: np.ndarray(a.shape, a.dtype, other, offset(a, mapped), a.strides) if root(a) is mapped else a
        for name, a in clip.params.items()
    }
    kept = set((tmp_path / "cache/cjkclip/graphs").iterdir())
    got = answers(OpenvinoEngine(clip.config, params, "fp32"))
    assert set((tmp_path / "cache/cjkclip/graphs").iterdir()) == kept  # they were taken: none was made
    monkeypatch.setattr(kept_openvino, "LEAST", 1 << 60)
    want = answers(OpenvinoEngine(clip.config, params, "fp32"))
    assert same(got, want, 2e-6)
    assert not same(got, original, 1e-3)


@pytest.mark.parametrize("spoil", ["a byte", "its end", "nothing in it", "another graph"])
def test_a_damaged_graph_is_made_again(spoil: str, started: Started, tmp_path: Path):
    want, _ = started(HF)
    image, _ = sorted((tmp_path / "cache/cjkclip/graphs").iterdir(), key=lambda path: path.stat().st_size)
    content = image.read_bytes()
    middle = len(content) // 2
    bad = {
        "a byte": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "its end": content[:-1],
        "nothing in it": b"",
        "another graph": hashlib.sha256(b"not a graph" * 100).digest() + b"not a graph" * 100,
    }
    image.write_bytes(bad[spoil])
    got, did = started(HF)
    assert sorted(did) == ["kept", "read"]
    assert same(got, want)
    assert started(HF)[1] == ["read", "read"]


def test_another_model_has_another_graph(started: Started, tmp_path: Path):
    """One number of a bias, which lies in the graph; the middle of a matrix, which lies in the file."""
    folder = copied(tmp_path)
    want, _ = started(folder)
    for part, kept in (("fc1.bias", ["kept"]), ("q_proj.weight", ["read"])):

        def change(name: str, array: np.ndarray, part: str = part) -> np.ndarray:
            if name.startswith("vision") and name.endswith(f"layers.0.mlp.{part}") | name.endswith(f"attn.{part}"):
                array.flat[array.size // 2] += 1
            return array

        rewritten(folder, change)
        got, did = started(folder)
        assert sorted(did) == sorted([*kept, "read"]), part
        assert same({"text": got["text"]}, {"text": want["text"]})
        assert not same({"image": got["image"]}, {"image": want["image"]}, 1e-4)
        want = got


def test_the_same_weights_at_other_places_have_another_graph(started: Started, tmp_path: Path):
    folder = copied(tmp_path)
    want, _ = started(folder)
    for _ in range(2):
        weights.write(folder / "model.safetensors", weights.read(folder / "model.safetensors"), {"note": "x" * 80})
        got, did = started(folder)
        assert same(got, want)
    assert did == ["read", "read"]
    assert len(list((tmp_path / "cache/cjkclip/graphs").iterdir())) == 4


def test_a_file_that_was_replaced_is_not_read(started: Started, tmp_path: Path):
    """The loaded model keeps the numbers that it was loaded with."""
    folder = copied(tmp_path)
    want, _ = started(folder)
    clip = cjkclip.load(folder, engine="openvino")
    rewritten(folder, lambda _, array: array * np.float32(0.5))
    got, did = started(clip)
    assert did == ["kept", "kept"]
    assert same(got, want)
    (folder / "model.safetensors").unlink()
    assert same(started(clip)[0], want)


def test_a_change_of_the_code_makes_graphs_anew(started: Started, monkeypatch: pytest.MonkeyPatch):
    started(HF)
    assert started(HF)[1] == ["read", "read"]
    monkeypatch.setattr(kept_openvino, "_sources", lambda: "another version")
    assert started(HF)[1] == ["kept", "kept"]
    monkeypatch.undo()
    assert len(kept_openvino._sources()) == 64
    code = [kept_openvino.pkgutil.get_data("cjkclip.engines", name) for name in kept_openvino._SOURCES]
    assert all(code)


def test_old_graphs_are_forgotten(started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kept_openvino, "MOST_GRAPHS", 3)
    started(HF)
    graphs = tmp_path / "cache/cjkclip/graphs"
    mine = set(graphs.iterdir())
    for age, path in enumerate(mine):
        os.utime(path, (age, age))
    assert started(HF)[1] == ["read", "read"]  # which makes them young
    for name in ("old.blob", "older.blob", ".of a program that was killed.blob.77"):
        (graphs / name).write_bytes(b"")
        os.utime(graphs / name, (9, 9))
    started(GOLDEN / "koclip")
    assert len(list(graphs.iterdir())) == 3
    assert len(mine & set(graphs.iterdir())) == 1


@pytest.mark.parametrize("place", ["a file", "no folder"])
def test_a_cache_that_cannot_be_written_costs_time_alone(place: str, started: Started, tmp_path: Path):
    if place == "a file":
        (tmp_path / "cache").write_text("not a folder", "utf-8")
    else:
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache" / "cjkclip").symlink_to(tmp_path / "cache" / "cjkclip")
    want, did = started(HF)
    assert did == ["kept", "kept"]
    got, again = started(HF)
    assert again == ["kept", "kept"]
    assert same(got, want)


def test_folders_of_any_name_and_paths_that_lead_elsewhere(
    started: Started, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = copied(tmp_path, "模型 이름 1")
    real = folder / "blob"
    (folder / "model.safetensors").rename(real)
    (folder / "model.safetensors").symlink_to(real)
    monkeypatch.chdir(tmp_path)
    want, _ = started(Path("模型 이름 1"))
    got, did = started(Path("模型 이름 1"))
    assert did == ["read", "read"]
    assert same(got, want)


def test_what_is_not_in_one_file_is_not_kept(started: Started, tmp_path: Path):
    clip = cjkclip.load(HF)
    other = cjkclip.load(copied(tmp_path))
    odd = "vision.blocks.0.attn.q.weight"
    mixed = dataclasses.replace(clip._found, params={**clip.params, odd: other.params[odd]})
    assert started(cjkclip.Clip(mixed, ("openvino", "fp32", "cpu")))[1] == ["kept"]  # the text tower
    own = dataclasses.replace(clip._found, params={name: array.copy() for name, array in clip.params.items()})
    assert started(cjkclip.Clip(own, ("openvino", "fp32", "cpu")))[1] == []


def test_instruction_sets_are_part_of_the_key(started: Started, monkeypatch: pytest.MonkeyPatch):
    """NumPy leaves out what is empty: on some processors there is nothing to name."""
    started(HF)
    monkeypatch.setattr(np, "show_config", lambda mode: {"Compilers": mode})
    assert started(HF)[1] == ["kept", "kept"]
    assert started(HF)[1] == ["read", "read"]


def test_small_and_rounded_models_and_stages_are_not_kept(started: Started, monkeypatch: pytest.MonkeyPatch):
    clip = cjkclip.load(HF, engine="openvino", precision=ROUNDED)
    clip.encode_text(["猫"])
    engine_of(clip).text_stages(np.zeros((1, 4), np.int64), np.ones((1, 4), np.int64))
    monkeypatch.setattr(kept_openvino, "LEAST", 4 << 20)
    assert started(HF)[1] == []
    monkeypatch.setattr(kept_openvino, "LEAST", 1)
    monkeypatch.setattr(kept_openvino, "MOST", 0)
    assert started(HF)[1] == []


def test_threads_are_bound_to_no_core(started: Started):
    """Bound, graphs that are made at once wait for each other; OpenVINO binds them unless it is told not to."""
    started(HF)
    clip = cjkclip.load(HF, engine="openvino", precision="fp32")
    for stages in (False, True):  # the kept graph, and one that is never kept
        compiled, _ = engine_of(clip).compiled("image", stages=stages)
        assert compiled.get_property("ENABLE_CPU_PINNING") is False
