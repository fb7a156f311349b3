"""The way to a CUDA device, on a stand-in for it: parts, lanes, recordings and compiled blocks change no number.

Only a card can show that streams are in step and that it is fast: see test_cuda.py and `python -m bench.gpu`.
"""

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from cjkclip import engines
from cjkclip.engines.torch import TorchEngine, compiling, gpu
from cjkclip.engines.torch.towers import build as build_towers
from families import FAMILIES, Case
from support import fakecuda
from support.cases import READING, SEEING, difference, rows
from support.engines import MODELS, random_params
from support.gpu_towers import ATOL, ids, pixels, runner
from support.processes import printed
from support.sources import TESTS

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    fakecuda.stand_in(monkeypatch)


@pytest.mark.parametrize("count", [1, 3, 64, 65, 141])
@pytest.mark.parametrize("model", ["vit", "resnet"])
def test_any_number_of_rows_comes_back_in_its_order(model: str, count: int) -> None:
    fast, plain = runner(model, "image")
    for _ in range(4):  # plain, recorded, replayed, replayed
        seen = pixels(count, 64 if model == "resnet" else 32)
        seen.flags.writeable = False  # as pixels of a mapped file
        assert difference(fast(seen), plain.image(seen)) <= ATOL


@rows(FAMILIES)
def test_every_family_comes_by_this_way(case: Case) -> None:
    clip, expected = case.load(), case.expected()
    built = engines.build(clip.config, clip.params, engine="torch", precision="fp32", device="cpu")
    assert isinstance(built, TorchEngine)
    towers = build_towers(clip.config, built.towers.state_dict()).eval()
    if case in SEEING and towers.vision is not None:
        fast, seen = gpu.Runner(towers.vision, "fp32", "cpu"), expected["pixel_values"]
        assert max(difference(fast(seen), built.image(seen)) for _ in range(3)) <= ATOL
    if case in READING and towers.text is not None:
        fast, asked = gpu.Runner(towers.text, "fp32", "cpu"), (expected["input_ids"].astype(np.int64), case.mask)
        assert max(difference(fast(*asked), built.text(*asked)) for _ in range(3)) <= ATOL
    assert fakecuda.CUDAGraph.made == (case in SEEING) + (case in READING)


def test_a_shape_that_comes_again_is_recorded_and_no_more_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "KEPT", 2)
    fast, plain = runner("vit", "text")
    made: list[int] = []
    for count in (1, 1, 1, 2, 2, 4, 4, 4, 4, 2, 2, 1):
        asked = ids(count)
        assert difference(fast(asked, asked), plain.text(asked, asked)) <= ATOL
        made.append(fakecuda.CUDAGraph.made)
    # the fourth 4 comes twice as often as the 2, and all make room; the fourth 1 is no reason, since nothing is rarer
    assert made == [0, 1, 1, 1, 2, 2, 2, 2, 3, 4, 4, 4]


def test_shapes_that_come_seldom_are_recorded_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording costs as much as three calls: 56 shapes, each as often as its rank says."""
    made: list[int] = []

    def recorded(*_: Any) -> Any:
        made.append(1)
        return lambda inputs: inputs[0]

    monkeypatch.setattr(gpu, "Recorded", recorded)
    calls = gpu.Recordings(torch.nn.Identity(), "cpu")
    often = 1 / np.arange(1, 57)
    for rank in RNG.choice(56, size=6000, p=often / often.sum()):
        calls([torch.empty(int(rank) + 1)])
    assert gpu.KEPT <= len(made) < 100


@pytest.mark.parametrize("model", ["vit", "bert-project"])
def test_texts_of_a_like_length_share_a_recording(model: str) -> None:
    fast, plain = runner(model, "text")
    for length in (3, 8, 5, 7, 3):
        asked, mask = ids(3, length), np.ones((3, length), np.int64)
        mask[0, 2:] = 0
        assert difference(fast(asked, mask), plain.text(asked, mask)) <= ATOL
    assert fakecuda.CUDAGraph.made == 1
    asked = ids(3, 9)  # as long as the model reads: there is nothing to fill up to
    assert difference(fast(asked, np.ones_like(asked)), plain.text(asked, np.ones_like(asked))) <= ATOL


def test_threads_take_turns() -> None:
    fast, plain = runner("vit", "image")
    asked = [pixels(count) for count in (1, 5, 66, 5, 1, 66) * 4]
    want = [plain.image(one) for one in asked]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(fast, asked))
    assert max(map(difference, found, want)) <= ATOL


def test_towers_take_turns_in_being_recorded() -> None:
    towers = [runner("vit", tower) for tower in ("image", "text", "image", "text")]
    asked = [(pixels(3),) if number % 2 == 0 else (ids(3), ids(3)) for number in range(4)]
    want = [plain.image(*a) if len(a) == 1 else plain.text(*a) for (_, plain), a in zip(towers, asked, strict=True)]
    together = threading.Barrier(4)

    def call(number: int) -> float:
        together.wait(20)
        return max(difference(towers[number][0](*asked[number]), want[number]) for _ in range(3))

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(call, range(4))) <= ATOL
    assert fakecuda.CUDAGraph.made == 4


COMPILED = """
import numpy as np, torch
from support import fakecuda
from cjkclip.engines.torch import compiling, gpu
from support.cases import difference
from support.gpu_towers import ATOL, ids, pixels, runner

class Compiler:
    asked = 0

    def __call__(self, graph, _):
        self.asked += 1
        return graph.forward

gpu.cuda, gpu.PINNED = fakecuda, False
for model, tower in (("vit", "image"), ("vit", "text"), ("bert-project", "text")):
    torch.compiler.reset()
    fast, plain = runner(model, tower, 5)
    compiler = Compiler()
    compiling.compile_blocks(fast._tower, compiler)
    fast._compiled = True
    apart = []
    for count in (2, 3, 64, 2, 2):
        if tower == "image":
            seen = pixels(count)
            apart.append(difference(fast(seen), plain.image(seen)))
        else:
            asked = ids(count), np.ones((count, 9), np.int64)
            apart.append(difference(fast(*asked), plain.text(*asked)))
    print(model, tower, compiler.asked, max(apart) <= ATOL)

torch.compiler.reset()  # more towers than torch would compile of one kind by itself
asked = []
for width in range(6):
    fast, plain = runner("vit", "text", 3)
    compiler = Compiler()
    compiling.compile_blocks(fast._tower, compiler)
    fast._compiled = True
    for count in (2, 1):
        fast(ids(count), ids(count))
    asked.append(compiler.asked)
print("towers", min(asked), True)
"""


def test_blocks_are_alike_to_the_compiler() -> None:
    """One compilation serves every block and every number of rows. In a process without the checks of annotations."""
    found = [line.rsplit(" ", 2) for line in printed("-c", COMPILED, path=[TESTS]).splitlines()]
    assert [(name, near) for name, _, near in found] == [
        ("vit image", "True"),
        ("vit text", "True"),
        ("bert-project text", "True"),
        ("towers", "True"),
    ]
    asked = [int(asked) for _, asked, _ in found]
    assert asked[:3] == [1, 1, 1]
    assert asked[3] == 2  # one row, and more


def test_a_tower_is_compiled_once_it_has_worked_enough(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiling, "lacking", lambda: None)
    compiled: list[Any] = []
    monkeypatch.setattr(compiling, "compile_blocks", compiled.append)
    fast, plain = runner("vit", "image")
    seen = pixels(4)
    with caplog.at_level(logging.INFO, "cjkclip"):
        for after, compilations, recordings in ((60, 0, 0), (60, 0, 1), (0, 1, 2), (0, 1, 2)):  # recorded anew
            monkeypatch.setattr(gpu, "COMPILE_AFTER", after)
            assert difference(fast(seen), plain.image(seen)) <= ATOL
            assert (len(compiled), fakecuda.CUDAGraph.made) == (compilations, recordings)
    assert [record.getMessage() for record in caplog.records] == [
        "compiling the model for this GPU, once, which takes some seconds"
    ]


def test_a_machine_that_cannot_compile_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gpu, "COMPILE_AFTER", -1)
    monkeypatch.setattr(compiling, "find_spec", lambda _: "there")
    monkeypatch.setattr(compiling.shutil, "which", lambda _: None)
    fast, plain = runner("vit", "image")
    seen = pixels(2)
    with caplog.at_level(logging.INFO, "cjkclip"):
        assert difference(fast(seen), plain.image(seen)) <= ATOL
    assert caplog.records[0].getMessage() == "not compiling the model for this GPU: this machine has no C compiler"
    monkeypatch.setattr(compiling, "find_spec", lambda _: None)
    assert compiling.lacking() == "Triton"


def test_an_engine_on_such_a_device_encodes_by_this_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole engine, told that its CPU is a GPU; stages are still seen."""
    monkeypatch.setattr("cjkclip.engines.torch.kind", lambda _: "cuda")
    monkeypatch.setattr("cjkclip.engines.torch._resolved", lambda device: device)
    params = random_params(MODELS["vit"])
    fast = engines.build(MODELS["vit"], params, engine="torch", precision="fp32", device="cpu")
    exact = engines.build(MODELS["vit"], params, engine="numpy", precision="fp32", device="cpu")
    for _ in range(3):
        seen, asked = pixels(5), ids(5)
        assert difference(fast.image(seen), exact.image(seen)) <= ATOL
        assert difference(fast.text(asked, asked), exact.text(asked, asked)) <= ATOL
        for got, want in ((fast.image_stages(seen), exact.image_stages(seen)),):
            assert set(got) == set(want)
            assert max(difference(got[name], want[name]) for name in want) <= ATOL
    assert fakecuda.CUDAGraph.made == 2
