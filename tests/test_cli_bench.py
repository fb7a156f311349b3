"""`cjkclip bench`: what it measures, that table and JSON say the same, and that a file is whole or not there."""

import json
import re
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import cjkclip
from cjkclip import engines
from cjkclip.errors import EngineError
from cjkclip.machine import processor
from cjkclip.speed import jobs, work
from families import GOLDEN
from support.cli import answer, bad_run, run

EOS2 = GOLDEN / "hf-clip-eos2"
TOWERS = ["1 picture", "8 pictures", "32 pictures", "1 query", "128 captions"]
PLAIN = ["tokenise 1,024", "JPEG, 2 MP, exact", "JPEG, 2 MP, fast"]


@pytest.fixture
def clockless(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every job is done once and takes as many milliseconds as its name has letters; the names that were measured."""
    done: list[str] = []

    def timed(job: jobs.Job, _: jobs.Pace) -> jobs.BenchRow:
        job.call()
        done.append(job.name)
        seconds = len(job.name) / 1000
        return jobs.BenchRow(kind=job.kind, name=job.name, items=job.items, seconds=seconds, flops=job.flops)

    monkeypatch.setattr(jobs, "timed", timed)
    monkeypatch.setattr("cjkclip.cli.bench.matrix_rate", lambda **_: 2.0)
    return done


def names(rows: list[dict[str, Any]]) -> list[str]:
    return [row["name"] for row in rows]


def test_the_bundled_model_is_measured_and_written(tmp_path: Path) -> None:
    """The one run here with a real clock."""
    out = tmp_path / "speed.json"
    data = answer("bench", "--quick", "--engine", "openvino", "--out", out)
    assert json.loads(out.read_text("utf-8")) == data
    assert list(tmp_path.iterdir()) == [out]
    assert data["default"] == {"engine": "openvino", "precision": "fp32", "device": "cpu"}
    assert data["quick"] is True
    assert names(data["plain"]) == PLAIN
    clip = cjkclip.load("moji")
    for setting in data["settings"]:
        assert setting["engine"] == "openvino"
        assert names(setting["rows"]) == TOWERS
        assert setting["rows"][1]["flops"] == 8 * work.image(clip.config)
        assert set(setting["distances"]) == {"image", "text"}
        for row in setting["rows"]:
            assert row["rate"] == pytest.approx(row["items"] / row["seconds"])
            assert row["gflops"] == pytest.approx(row["flops"] / row["seconds"] / 1e9)
            assert row["share"] == pytest.approx(row["gflops"] / setting["limit_gflops"])
    assert data["settings"][0]["distances"]["image"]["difference"] == 0
    assert any("cjkclip.load('moji'" in line for line in data["advice"])


def test_the_table_and_the_json_agree(clockless: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "fast", lambda *_: "bf16")
    options = ("bench", "-m", EOS2, "--engine", "torch")  # which has bf16 everywhere
    data, shown = answer(*options), run(*options)
    assert shown.exit_code == 0
    assert f"{EOS2.name} on {processor.sentence(data['machine'])}" in " ".join(shown.stdout.split())
    settings = [f"{one['engine']} {one['precision']}" for one in data["settings"]]
    assert settings == ["openvino fp32", "torch fp32", "torch bf16"]
    exact, other, half = (one["distances"]["image"]["difference"] for one in data["settings"])
    assert exact == 0 < other < half
    wanted: list[list[str]] = []
    for number, setting in enumerate(data["settings"]):
        wanted.append([f"{setting['engine']} {setting['precision']}", "2", "limit"])
        for row in setting["rows"]:
            apart = setting["distances"][row["kind"]]
            cells = [row["name"], f"{row['rate']:,.1f}", f"{row['seconds'] * 1000:.2f}", f"{row['gflops']:,.0f}"]
            off = [f"{apart['difference']:.0e}", f"{apart['cosine']:.5f}"] if number else []
            wanted.append([*cells, f"{row['share']:.0%}", *off])
    wanted.append(["without an engine"])
    wanted += [[row["name"], f"{row['rate']:,.1f}", f"{row['seconds'] * 1000:.2f}"] for row in data["plain"]]
    lines = shown.stdout.splitlines()
    start = next(at for at, line in enumerate(lines) if line.startswith("openvino fp32"))
    assert [re.split(r"\s{2,}", line.strip()) for line in lines[start : start + len(wanted)]] == wanted
    assert " ".join(lines[start + len(wanted) :]).split() == " ".join(data["advice"]).split()
    assert clockless[: len(PLAIN + TOWERS)] == PLAIN + TOWERS


def without(*files: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        return Path(shutil.copytree(EOS2, folder, ignore=shutil.ignore_patterns("images", "expected.npz", *files)))

    return make


@pytest.mark.parametrize(
    ("model", "towers", "plain"),
    [
        (without("tokenizer*", "vocab*", "merges*"), TOWERS, PLAIN[1:]),
        (without("preprocessor_config.json"), TOWERS, PLAIN[:1]),
        (lambda _: GOLDEN / "hf-clip-text-projection", TOWERS[3:], None),
        (lambda _: GOLDEN / "hf-clip-vision-projection", TOWERS[:3], None),
    ],
    ids=["no tokenizer", "no preprocessing", "text alone", "pictures alone"],
)
def test_a_model_gets_the_rows_that_it_can_have(
    model: Callable[[Path], Path], towers: list[str], plain: list[str] | None, tmp_path: Path, clockless: list[str]
) -> None:
    data = answer("bench", "-m", model(tmp_path / "m"), "--engine", "openvino")
    for setting in data["settings"]:
        assert names(setting["rows"]) == towers
        assert set(setting["distances"]) == {row["kind"] for row in setting["rows"]}
    assert plain is None or names(data["plain"]) == plain
    assert data["advice"]


def test_facts_and_a_second_source_are_part_of_the_advice(clockless: list[str]) -> None:
    text, image = (GOLDEN / "taiyi-pooler-gelu" / part for part in ("text", "image"))
    data = answer("bench", "-m", text, "--image-tower", image, "--engine", "openvino")
    assert names(data["settings"][0]["rows"]) == TOWERS
    assert f"image_tower={str(image)!r}" in data["advice"][1]


def test_two_engines_of_a_model_are_never_held_at_once(clockless: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "fast", lambda *_: "bf16")
    load, loaded = cjkclip.load, list[weakref.ref[cjkclip.Clip]]()

    def watched(*args: Any, **asked: Any) -> cjkclip.Clip:
        assert not [clip for clip in loaded if clip() is not None]
        clip = load(*args, **asked)
        loaded.append(weakref.ref(clip))
        return clip

    monkeypatch.setattr(cjkclip, "load", watched)
    assert len(answer("bench", "-m", EOS2, "--engine", "torch")["settings"]) == 3
    assert len(loaded) == 4


def test_what_cannot_be_asked(tmp_path: Path, clockless: list[str]) -> None:
    bad_run("bench", "--out", tmp_path / "speed.txt", code=2)
    bad_run("bench", "--engine", "numpy", code=2)
    said = bad_run("bench", "--out", tmp_path / "none" / "speed.json", code=4).stderr
    assert "create" in said
    (tmp_path / "folder.json").mkdir()
    bad_run("bench", "--out", tmp_path / "folder.json", code=4)
    assert "Did you mean 'moji'?" in bad_run("bench", "-m", "mojj", "--out", tmp_path / "x.json", code=3).stderr
    assert clockless == []
    assert [path.name for path in tmp_path.iterdir()] == ["folder.json"]


@pytest.mark.parametrize(
    ("where", "error", "code"),
    [
        ("cjkclip.speed.jobs.timed", KeyboardInterrupt(), 130),
        ("os.fsync", KeyboardInterrupt(), 130),
        ("os.fsync", OSError("disk full"), 4),
    ],
)
def test_an_interrupted_run_leaves_no_file(
    where: str, error: BaseException, code: int, tmp_path: Path, clockless: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "speed.json"
    out.write_text("yesterday's", "utf-8")

    def stop(*_: object) -> None:
        raise error

    monkeypatch.setattr(where, stop)
    bad_run("bench", "-m", EOS2, "--engine", "openvino", "--out", out, code=code)
    assert [path.name for path in tmp_path.iterdir()] == ["speed.json"]
    assert out.read_text("utf-8") == "yesterday's"


def test_int8_is_measured_when_asked_for_and_a_refusal_is_told(
    clockless: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def refuse(*_: object) -> None:
        raise EngineError("int8 changes this model too much")

    monkeypatch.setattr("cjkclip.precision.int8.engine", refuse)
    data = answer("bench", "-m", EOS2, "--engine", "openvino", "--int8")
    assert "int8" not in {setting["precision"] for setting in data["settings"]}
    assert data["notes"] == ["openvino int8: int8 changes this model too much"]
