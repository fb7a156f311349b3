"""int8 graphs as NNCF makes them for this processor: every layer but those kept, and no sum that overflows."""

import platform
from pathlib import Path

import numpy as np
import pytest

from cjkclip.engines.openvino import int8 as int8_openvino
from cjkclip.engines.openvino.runtime import core, ov
from cjkclip.machine import processor
from support.engines import random_params
from support.graphs import MODEL, SAMPLES, graph_of
from support.processes import printed
from support.sources import ROOT


def test_the_layer_that_adds_most_to_the_error_is_found() -> None:
    params, rough = random_params(MODEL), random_params(MODEL)
    rough["vision.blocks.0.mlp.fc2.weight"] *= np.float32(1.5)
    graphs = graph_of(params), graph_of(rough)
    assert int8_openvino.worst_layers(*graphs, SAMPLES, 1) == ["vision.blocks.0.mlp.fc2"]
    assert len(int8_openvino.worst_layers(*graphs, SAMPLES, 4)) == 4


def test_nncf_quantises_every_layer_but_those_that_are_kept() -> None:
    graph = graph_of(random_params(MODEL))
    exact = core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(SAMPLES[0])[0]
    for keep in ([], ["vision.blocks.0.mlp.fc2", "vision.blocks.1.attn.out"]):
        made = int8_openvino.quantise(graph, SAMPLES, keep)
        weights = {
            node.get_friendly_name(): node.input_value(1).get_node().get_type_name()
            for node in made.get_ordered_ops()
            if node.get_type_name() == "MatMul" and node.get_friendly_name().startswith("vision.blocks.")
        }
        assert len(weights) == 2 * 6
        assert [name for name, kind in weights.items() if kind == "Constant"] == keep, weights
        got = int8_openvino.Int8Engine(MODEL, {}, int8_openvino.Quantised(graphs={"image": made})).image(SAMPLES[0][0])
        assert 1e-5 < np.abs(got - exact).max() / np.abs(exact).max() < 0.1


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64") or not processor.cpu_text(), reason="no flags of x86")
def test_sums_overflow_where_an_x86_multiplies_no_bytes_at_once() -> None:
    assert int8_openvino.overflows() == (not set(processor.multiplies(processor.cpu_text())) - {"bf16", "no bf16"})


@pytest.mark.parametrize(("overflow", "most"), [(True, 64), (False, 128)])
def test_weights_keep_seven_bits_where_sums_overflow(
    overflow: bool, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_openvino, "overflows", lambda: overflow)
    made = int8_openvino.quantise(graph_of(random_params(MODEL)), SAMPLES)
    bytes_ = [node.get_data() for node in made.get_ordered_ops() if node.get_element_type() == ov.Type.i8]
    assert len(bytes_) >= 2 * 6
    largest = [int(np.abs(array.astype(int)).max()) for array in bytes_ if array.ndim == 2]
    assert max(largest) in range(most - 1, most + 1), largest


QUIET = """
import sys, threading
import numpy as np
import cjkclip
from cjkclip.engines.openvino import int8
from support.engines import random_params
from support.graphs import MODEL, SAMPLES, graph_of
from support.processes import printed
from support.sources import ROOT

out, lines = sys.stdout, []
done = threading.Event()

def talk():
    number = 0
    while not done.wait(0.001):
        number += 1
        print("line", number)
    lines.append(number)

before = set(sys.modules)
thread = threading.Thread(target=talk)
thread.start()
int8.quantise(graph_of(random_params(MODEL)), SAMPLES)
done.set()
thread.join()
assert sys.stdout is out
assert not [name for name in set(sys.modules) - before if name.partition(".")[0] in ("nncf", "torch", "sklearn")]
print("total", *lines)
"""


def test_quantising_loses_no_line_of_other_threads_and_imports_nothing() -> None:
    *lines, total = printed("-c", QUIET, path=[ROOT / "tests"]).splitlines()
    assert lines == [f"line {number}" for number in range(1, len(lines) + 1)]
    assert total == f"total {len(lines)}"
    assert len(lines) > 100


def test_quantising_runs_no_file_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nncf.py").write_text("raise SystemExit('a file of the working directory ran')")
    monkeypatch.chdir(tmp_path)
    int8_openvino.quantise(graph_of(random_params(MODEL)), SAMPLES)
