"""Spoilt files of every kind through `cjkclip.load`: a model or a typed error, in bounded time and memory.

Loads run in a child (support/fuzz_worker.py), so that a crash or a hang is the failure of one file. `make test` takes
a few hundred files, `make test-nightly` more than 20,000. docs/safety.md says how to repeat one.
"""

import collections
import json
import re
import selectors
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import fuzz_cases, fuzz_worker
from support.processes import environment, printed
from support.sources import TESTS

WORKER = TESTS / "support" / "fuzz_worker.py"
PATIENCE = 60  # seconds without an answer: the child hangs; a busy machine may be slow
QUICK, NIGHTLY = 12, 800  # files per case; containers get twice as many by night
CASES = list(fuzz_cases.CASES.values())
Answers = Iterator[tuple[int, int, dict[str, Any]]]


class Child:
    """The process that loads; a new one after each crash."""

    def __init__(self, corpus: Path, work: Path) -> None:
        self.work = work
        command = [sys.executable, "-W", "error", "-P", "-X", "faulthandler", str(WORKER), corpus, work]
        env = environment(TESTS, OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1")
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True, bufsize=1, cwd=work.parent
        )
        assert self.answer() == "ready\n"

    def answer(self) -> str:
        """The next line; empty if the child died or does not answer."""
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as ready:
            ready.register(self.process.stdout, selectors.EVENT_READ)
            return self.process.stdout.readline() if ready.select(PATIENCE) else ""

    def load(self, case: int, seed: int) -> dict[str, Any]:
        """Return the result of loading one damaged file."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{case} {seed}\n")
        line = self.answer()
        if line:
            return json.loads(line)
        try:
            what = f"the process died (status {self.process.wait(timeout=5)})"
        except subprocess.TimeoutExpired:
            what = f"no answer in {PATIENCE} s"
        self.close()
        said = (self.work.parent / "noise").read_bytes()[-2000:].decode(errors="replace")
        return {"outcome": "failed", "wrong": [f"{what}\n{said}"], "seconds": 0.0, "grown": 0, "file": ""}

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


def loaded(corpus: Path, folder: Path, counts: dict[int, int]) -> Answers:
    """(case, seed, answer) for so many seeds of each case."""
    work = folder / "work" / "a" / "b"
    work.parent.mkdir(parents=True)
    child = Child(corpus, work)
    try:
        for number, count in counts.items():
            for seed in range(count):
                answer = child.load(number, seed)
                if not answer["file"]:
                    child = Child(corpus, work)
                yield number, seed, answer
    finally:
        child.close()


def hold(corpus: Path, folder: Path, counts: dict[int, int]) -> dict[int, collections.Counter[str]]:
    """Load them all; the outcomes of each case. Fails with the first dozen files that broke a promise."""
    outcomes: dict[int, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    bad: list[str] = []
    slowest = most = 0.0
    for number, seed, answer in loaded(corpus, folder, counts):
        case = CASES[number]
        outcomes[number][answer["outcome"]] += 1
        slowest, most = max(slowest, answer["seconds"]), max(most, answer["grown"])
        if answer["wrong"]:
            kept = folder / "failures" / f"{number}-{seed}"
            file = fuzz_worker.spoil(case, corpus / str(number), kept, seed)
            bad.append(f"case {number} ({case.name}), seed {seed}: {file}\n" + "\n".join(answer["wrong"]))
    total = sum((counter for counter in outcomes.values()), collections.Counter[str]())
    print(f"\n{total.total()} files: {dict(total)}; slowest {slowest:.2f} s, most memory {most / 2**20:.0f} MiB")
    for number, counter in outcomes.items():
        print(f"| {CASES[number].name} | {counter.total()} | {counter['accepted']} | {counter['refused']} |")
    assert not bad, f"{len(bad)} files broke a promise\n" + "\n\n".join(bad[:12])
    strange = {p.relative_to(folder).as_posix() for p in (folder / "work").rglob("*")} - {"work/a", "work/a/noise"}
    assert {name for name in strange if not name.startswith("work/a/b")} == set(), "a load made a file"
    return outcomes


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The sound folders."""
    folder = tmp_path_factory.mktemp("corpus")
    fuzz_cases.build(folder)
    yield folder
    shutil.rmtree(folder)


linux = pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")


@linux
def test_a_few_hundred_spoilt_files_load_or_are_refused(corpus, tmp_path):
    outcomes = hold(corpus, tmp_path, dict.fromkeys(range(len(CASES)), QUICK))
    assert all(counter["refused"] for counter in outcomes.values())


@linux
@pytest.mark.nightly
def test_twenty_thousand_spoilt_files_load_or_are_refused(corpus, tmp_path):
    counts = {i: NIGHTLY * (1 + (case in fuzz_cases.WEIGHTS)) for i, case in enumerate(CASES)}
    assert sum(counts.values()) >= 20_000
    outcomes = hold(corpus, tmp_path, counts)
    for number, case in enumerate(CASES):  # a lie that is always or never seen through tests nothing
        assert outcomes[number]["refused"] > counts[number] // 10, case.name
        assert (outcomes[number]["accepted"] > 0) is case.sound, case.name


ENDS = ("os._exit(3)", "ctypes.string_at(0)", "time.sleep(60)")
DEEDS = (
    "open('made', 'w')",
    "os.mkdir('made')",
    "os.remove('none')",
    "os.system('true')",
    "subprocess.run(['true'])",
    "socket.create_connection(('127.0.0.1', 1))",
    "exec('1')",
    "__import__('wave')",
    "pickle.loads(b'cos\\nsystem\\n.')",
    "ctypes.CDLL(None)",
)


@linux
@pytest.mark.parametrize("deed", DEEDS)
def test_the_watch_sees_what_a_load_may_not_do(tmp_path, deed):
    code = (
        "import contextlib, ctypes, os, pickle, socket, subprocess\nfrom support import fuzz_worker\n"
        "watch = fuzz_worker.Watch()\n"
        "deed = compile(DEED, 'deed', 'eval')\n"
        "watch.on = True\n"
        "with contextlib.suppress(OSError): eval(deed)\n"
        "watch.on = False\n"
        "print(len([event for event in watch.seen if 'deed' not in event]))\n"
    )
    assert int(printed("-c", code.replace("DEED", repr(deed)), path=[TESTS], cwd=tmp_path)) > 0


@linux
@pytest.mark.parametrize("end", ["os.abort()", *(pytest.param(end, marks=pytest.mark.nightly) for end in ENDS)])
def test_a_load_that_crashes_or_hangs_is_told(corpus, tmp_path, monkeypatch, end):
    """The child of this test ends itself when it is asked for a file."""
    code = WORKER.read_text("utf-8").replace("\ndef spoil(", f"\ndef spoil(*_):\n    import ctypes; {end}\n\ndef _(")
    (tmp_path / "fuzz_worker.py").write_text(code, "utf-8")
    monkeypatch.setattr(sys.modules[__name__], "WORKER", tmp_path / "fuzz_worker.py")
    monkeypatch.setattr(sys.modules[__name__], "PATIENCE", 10)
    work = tmp_path / "a" / "b"
    work.parent.mkdir()
    answer = Child(corpus, work).load(0, 0)
    assert answer["outcome"] == "failed"
    assert re.search("the process died|no answer in 10 s", answer["wrong"][0])
