"""Loading maps files: what it hands out are views of them, copied by an engine alone, and once."""

import mmap
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from ml_dtypes import bfloat16

import cjkclip
from cjkclip.checkpoints import saving, weights
from cjkclip.config import Vit
from cjkclip.machine.mapped import MappedFile, let_go_of, root
from cjkclip.parameters import shapes
from families import FAMILIES, GOLDEN, Case
from support.processes import printed

MAPPED = [case for case in FAMILIES if not case.image]


@pytest.mark.parametrize("case", MAPPED, ids=lambda case: case.name)
def test_the_parameters_of_a_loaded_model_are_views_of_its_file(case: Case):
    clip = case.load()
    copied = [name for name, array in clip.params.items() if not isinstance(root(array), mmap.mmap)]
    assert copied == []


@pytest.mark.parametrize("form", ["legacy", "flax", "npz", "safetensors"])
@pytest.mark.parametrize("shift", range(4))
def test_numbers_at_odd_addresses_are_not_copied_and_right(tmp_path, form, shift):
    values = {"a" * (1 + shift): np.arange(7, dtype=np.float32), "b": np.arange(6, dtype=np.float64).reshape(2, 3)}
    file = tmp_path / {"legacy": "w.pt", "flax": "w.msgpack", "npz": "w.npz", "safetensors": "w.safetensors"}[form]
    if form == "legacy":
        tensors = {name: torch.tensor(array) for name, array in values.items()}
        torch.save(tensors, file, _use_new_zipfile_serialization=False)
    elif form == "npz":
        np.savez(file, **values)
    else:
        weights.write(file, values)
    found = weights.read(file)
    assert all(isinstance(root(array), mmap.mmap) for array in found.values())
    assert all(np.array_equal(found[name], array) for name, array in values.items())


def test_a_bfloat16_number_without_axes_is_read(tmp_path):
    weights.write(tmp_path / "w.safetensors", {"logit_scale": np.array(4.5, bfloat16)})
    found = weights.read(tmp_path / "w.safetensors")["logit_scale"]
    assert (found.shape, found.dtype, float(found)) == ((), bfloat16, 4.5)


@pytest.mark.parametrize("engine", ["numpy", "openvino", "torch"])
def test_every_engine_takes_numbers_at_odd_addresses(tmp_path, engine):
    folder = GOLDEN / "hf-clip-eos2"
    shutil.copytree(
        folder, tmp_path / "odd", ignore=shutil.ignore_patterns("*.safetensors", "*.h5", "*.npz", "*.msgpack")
    )
    state = {name: torch.tensor(array) for name, array in weights.read(folder / "model.safetensors").items()}
    for pad in range(4):  # where numbers begin depends on how many digits torch's numbers for tensors have
        around = {"state_dict": state, "note": "x" * pad}
        torch.save(around, tmp_path / "odd" / "model.pt", _use_new_zipfile_serialization=False)
        odd = cjkclip.load(tmp_path / "odd", engine=engine)
        if not all(array.flags.aligned for array in odd.params.values()):
            break
    else:
        raise AssertionError("no file had numbers at odd addresses")
    even = cjkclip.load(folder, engine=engine)
    assert np.array_equal(odd.encode_text(["a cat", "猫"]), even.encode_text(["a cat", "猫"]))
    picture = np.arange(300, dtype=np.uint8).reshape(10, 10, 3)
    assert np.array_equal(odd.encode_image(picture), even.encode_image(picture))


LOADS = """
import sys, cjkclip
from pathlib import Path
def status(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))
cjkclip.load("moji", engine="numpy")
Path("/proc/self/clear_refs").write_text("5")
before = status("VmRSS")
clip = cjkclip.load(sys.argv[1], engine="numpy")
exec(sys.argv[2])
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("kind", [bfloat16, np.float32], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("layout", ["transformers", "flax"])
@pytest.mark.parametrize("then", ["", "clip.fingerprint"])
def test_loading_takes_a_small_part_of_the_size_of_the_file(tmp_path, layout, kind, then):
    """A 200 MB model, and its fingerprint: its towers as they are, its vocabulary padded with rows of zeros."""
    small = cjkclip.load(GOLDEN / "hf-clip-eos2", engine="numpy")
    width, found = small.params["text.token.weight"].shape[1], small._found
    wide = 200_000_000 // (np.dtype(kind).itemsize * width)
    text = found.config.text
    assert text is not None
    big = found.params | {"text.token.weight": np.zeros((wide, width), kind)}
    config = replace(found.config, text=replace(text, vocab=wide, pool="largest-id", eot=wide - 1))
    saving.write(replace(found, config=config, params=big, tokenizer=None), tmp_path, layout)
    size = weights.find(tmp_path).stat().st_size
    assert size > 190_000_000
    assert int(printed("-c", LOADS, tmp_path, then)) < 0.2 * size


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_pages_of_our_own_mapping_are_handed_back(tmp_path: Path):
    path = tmp_path / "a name with spaces"
    path.write_bytes(b"7" * (4 << 20))
    mine, other = MappedFile.of(path), np.memmap(path, np.uint8, "r")
    held = np.ndarray((4 << 20,), np.uint8, mine)
    assert (held.sum(), other.sum()) == (ord("7") * held.size,) * 2

    def resident() -> list[int]:
        maps, found = Path("/proc/self/smaps").read_text().split("VmFlags"), []
        for part in maps:
            if str(path) in part:
                found += [int(line.split()[1]) for line in part.splitlines() if line.startswith("Rss:")]
        return sorted(found)

    assert resident() == [4096] * 2
    let_go_of(other)  # not ours
    assert resident() == [4096] * 2
    let_go_of(held[mmap.PAGESIZE : -mmap.PAGESIZE])
    [left, others] = resident()
    assert left <= 2 * mmap.PAGESIZE // 1024  # less, where the system took huge pages as a whole
    assert others == 4096
    assert (held[5], held[2 << 20], other[5]) == (ord("7"),) * 3


OWN = """
import sys, threading, numpy as np, cjkclip
from pathlib import Path
def own():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))
def watch():
    while not done.wait(0.003):
        seen.append(own())
cjkclip.load("moji", engine=sys.argv[2]).encode_pixels(np.zeros((1, 3, 96, 96), np.float32))
clip = cjkclip.load(sys.argv[1], engine=sys.argv[2], precision="fp32")
done, seen, before = threading.Event(), [], own()
watcher = threading.Thread(target=watch)
watcher.start()
clip.encode_pixels(np.zeros((1, 3, 32, 32), np.float32))
done.set()
watcher.join()
once = own()
for _ in range(5):
    clip.encode_pixels(np.zeros((1, 3, 32, 32), np.float32))
print(max(seen) - before, own() - once)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("kind", [np.float16, bfloat16, np.float32], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_one_copy_of_each_weight_is_in_memory(engine: str, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A start that makes a graph and one that reads it: the process's own memory, at most and after more calls."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    small = cjkclip.load(GOLDEN / "hf-chinese-clip")._found
    assert isinstance(small.config.vision, Vit)
    vision = replace(small.config.vision, mlp=600_000)
    config = replace(small.config, vision=vision, text=None, scale=None)
    rng = np.random.default_rng(0)
    params = {n: (rng.random(s, np.float32) * 0.01).astype(kind) for n, s in shapes(config).items()}
    saving.write(replace(small, config=config, params=params, tokenizer=None), tmp_path / "model", "cjkclip")
    wide = 4 * sum(array.size for array in params.values())
    assert wide > 290_000_000
    for graphs in (0, 1) if engine == "openvino" else (0,):
        assert len(list((tmp_path / "cache").rglob("*.blob"))) == graphs
        most, grown = map(int, printed("-c", OWN, tmp_path / "model", engine).split())
        assert 0.9 * wide < most < 1.7 * wide, graphs
        assert grown < 0.05 * wide, graphs
