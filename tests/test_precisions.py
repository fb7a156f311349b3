"""Below float32: how far each precision is off, measured on every golden case; and what no setting may change.

`difference` is the largest absolute one, as a share of the largest value where that is above one.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import cjkclip
from cjkclip.engines import build
from cjkclip.engines.openvino import ops as ops_openvino
from cjkclip.errors import EngineError
from families import ENGINES, FAMILIES, Case
from support.cases import READING, SEEING, difference, rows, unit
from support.precisions import BOUNDS
from support.processes import printed

ALONE = ("fp32", "bf16") if ops_openvino.computes_bf16() else ("fp32",)
ATOL = 2e-6  # of a batch of one, and of other thread counts. Measured: 0


def both(case: Case, engine: str, precision: str) -> dict[str, np.ndarray]:
    """Unit features of the case's own pixels and ids."""
    clip, expected, found = case.load(), case.expected(), {}
    built = build(clip.config, clip.params, engine=engine, precision=precision, device="cpu")
    if case in SEEING:
        found["image"] = unit(built.image(expected["pixel_values"]))
    if case in READING:
        found["text"] = unit(built.text(expected["input_ids"].astype(np.int64), case.mask.astype(np.int64)))
    return found


@rows(FAMILIES)
@pytest.mark.parametrize(("engine", "precision"), BOUNDS)
def test_half_precision_stays_within_its_measured_bound(case: Case, engine: str, precision: str) -> None:
    exact, rough = both(case, engine, "fp32"), both(case, engine, precision)
    for tower, want in exact.items():
        assert difference(rough[tower], want) <= BOUNDS[engine, precision]


@rows(FAMILIES)
@pytest.mark.parametrize("precision", ALONE)
def test_a_batch_of_one_equals_the_item_in_a_batch(case: Case, precision: str) -> None:
    clip, expected = case.load(), case.expected()
    built = build(clip.config, clip.params, engine="openvino", precision=precision, device="cpu")
    if case in SEEING:
        pixels = expected["pixel_values"]
        alone = np.concatenate([built.image(row[None]) for row in pixels])
        assert difference(unit(alone), unit(built.image(pixels))) <= ATOL
    if case in READING:
        ids, mask = expected["input_ids"].astype(np.int64), case.mask.astype(np.int64)
        alone = np.concatenate([built.text(ids[i : i + 1], mask[i : i + 1]) for i in range(len(ids))])
        assert difference(unit(alone), unit(built.text(ids, mask))) <= ATOL


@pytest.mark.parametrize("engine", ENGINES)
def test_threads_that_share_a_model_get_their_own_answers(engine: str) -> None:
    clip = cjkclip.load("moji", engine=engine, precision="fp32")
    names = [concept.names["ja"] for concept in cjkclip.moji.concepts()[:60]]
    want = clip.encode_text(names)

    def ask(start: int) -> float:
        part = slice(start % 50, start % 50 + 3)
        return difference(clip.encode_text(names[part]), want[part])

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(ask, range(0, 300, 7))) <= ATOL


def test_bf16_is_refused_where_openvino_would_stay_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = cjkclip.load("moji", engine="openvino", precision="bf16")
    if ops_openvino.computes_bf16():
        assert clip.engine.precision == "bf16"
        monkeypatch.setattr(ops_openvino, "computes_bf16", lambda: False)
        clip = cjkclip.load("moji", engine="openvino", precision="bf16")
    with pytest.raises(EngineError, match=r"compute in float32 instead\. Use load\(\.\.\., precision='auto'\)"):
        clip.encode_text(["cat"])


THREADS = """
import os, sys
import numpy as np
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])
import cjkclip
clip = cjkclip.load("moji", precision=sys.argv[2])
pictures = [picture for _, picture in cjkclip.moji.gallery("noto")[:9]]
names = [concept.names["ja"] for concept, _ in cjkclip.moji.gallery("noto")[:9]]
np.save(sys.argv[3], np.stack([clip.encode_image(pictures), clip.encode_text(names)]))
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs Linux to give a process fewer cores")
@pytest.mark.parametrize("precision", ALONE)
def test_results_do_not_depend_on_the_number_of_threads(precision: str, tmp_path: Path) -> None:
    found: list[np.ndarray] = []
    for cores in ("1", "2"):
        file = tmp_path / f"{cores}.npy"
        printed("-c", THREADS, cores, precision, file, timeout=120)
        found.append(np.load(file))
    assert difference(found[0], found[1]) <= ATOL
