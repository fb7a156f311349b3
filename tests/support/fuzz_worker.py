"""Child process that loads corrupted checkpoints: `python fuzz_worker.py CORPUS WORK`.

It reads lines of a case number, a tab and a seed, and writes one JSON line per file. During each load it watches for
everything that a load must not do: audit events of the interpreter (other programs, sockets, files opened for writing,
code created or run), printed text, memory, time.
"""

import codecs
import contextlib
import json
import os
import random
import resource
import shutil
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

import cjkclip
from cjkclip.parameters import shapes
from support import fuzz_cases

SECONDS = 2.0  # limit of processor time for one load
ADDRESSES = 1 << 30  # limit of mapped bytes, which the system enforces
GROWTH, ROOM = 16, 128 << 20  # memory limit of a load: this factor times the file size, plus this many bytes
TEXTS = ["a cat", "猫と犬", "고양이 🐈", "杰尼龟</w>[CLS]<|endoftext|>"]
FORBIDDEN = ("os.", "subprocess.", "socket.", "ctypes.", "shutil.", "marshal.", "pickle.", "urllib.", "pty.", "import")
HARMLESS = {"os.listdir", "os.scandir", "os.walk", "os.fwalk"}
MESSAGE = 4000  # longest error message in characters, so that it stays readable


class Watch:
    """Collects the forbidden audit events of one load."""

    def __init__(self) -> None:
        self.on, self.seen = False, []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.on and event not in HARMLESS and (event.startswith(FORBIDDEN) or self._writes(event, args)):
            self.seen.append(f"{event} {args!r}"[:300])
        if self.on and event == "exec":
            self.seen.append(f"exec of {args!r}"[:300])

    @staticmethod
    def _writes(event: str, args: tuple[Any, ...]) -> bool:
        if event != "open":
            return False
        flags = args[2] if len(args) > 2 and isinstance(args[2], int) else 0
        return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or any(c in str(args[1] or "") for c in "wax+")


class Caught:
    """Keeps any error that ends its block: panics of native libraries are not subclasses of Exception."""

    error: BaseException | None = None

    def __enter__(self) -> "Caught":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self.error = error
        return True


def main(corpus: Path, work: Path) -> None:
    """Answer input lines until the end of the input."""
    cases = list(fuzz_cases.CASES.values())
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    noise = (work.parent / "noise").open("w+b")
    for number, case in enumerate(cases):  # so that all lazy imports happen before the watch
        if case.sound:
            _look(cjkclip.load(corpus / str(number), engine="numpy", **case.asked))
    codecs.lookup("raw_unicode_escape")
    for stream in (1, 2):
        os.dup2(noise.fileno(), stream)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ADDRESSES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    watch = Watch()
    answers.write("ready\n")
    for line in sys.stdin:
        number, seed = map(int, line.split())
        answers.write(json.dumps(_one(cases[number], corpus / str(number), work, seed, watch, noise)) + "\n")


def spoil(case: fuzz_cases.Case, sound: Path, work: Path, seed: int) -> Path:
    """Copy a valid directory with one file corrupted, always the same for a seed; return the path of that file."""
    rng = random.Random(f"{case.name} {seed}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    name = case.spoilt[rng.randrange(len(case.spoilt))]
    for file in sound.iterdir():
        if file.name != name:
            os.link(file, work / file.name)
    (work / name).write_bytes(case.spoil(rng, (sound / name).read_bytes()))
    return work / name


def _one(case: fuzz_cases.Case, sound: Path, work: Path, seed: int, watch: Watch, noise: Any) -> dict[str, Any]:
    """Load one corrupted checkpoint; return the outcome and a list of everything wrong with it."""
    file = spoil(case, sound, work, seed)
    size, wrong = file.stat().st_size, list[str]()
    before, start = _reset(), time.process_time()
    watch.seen, watch.on = [], True
    with Caught() as caught:
        _look(cjkclip.load(work, engine="numpy", **case.asked))
    watch.on = False
    error, outcome = caught.error, "accepted" if caught.error is None else "refused"
    if error is not None and not isinstance(error, cjkclip.errors.CjkclipError):
        outcome = "failed"
        wrong.append("".join(traceback.format_exception(error, limit=-6)))
    elif error is not None and not 10 < len(str(error)) <= MESSAGE:
        wrong.append(f"a message of {len(str(error))} characters: {error!s:.500}")
    seconds, grown = time.process_time() - start, _peak() - before
    wrong += [f"did what it may not: {event}" for event in watch.seen]
    wrong += [f"took {seconds:.1f} s"] if seconds > SECONDS else []
    wrong += [f"took {grown >> 20} MiB for a file of {size} bytes"] if grown > ROOM + GROWTH * size else []
    sys.stdout.flush(), sys.stderr.flush()
    if printed := os.fstat(noise.fileno()).st_size:
        noise.seek(0)
        wrong.append(f"printed {noise.read(printed)[:500]!r}")
        noise.seek(0), noise.truncate()
    return {"outcome": outcome, "wrong": wrong, "seconds": round(seconds, 4), "grown": grown, "file": file.name}


def _look(clip: cjkclip.Clip) -> None:
    """Check that an accepted model is complete: arrays of the stated shapes, and a tokenizer that works."""
    for name, shape in shapes(clip.config).items():
        array = clip.params[name]
        assert array.shape == shape, name
        array.tobytes()
    if clip.tokenizer is not None:
        with contextlib.suppress(cjkclip.errors.InputError):
            ids = clip.tokenize(TEXTS).ids
            assert ids.shape == (len(TEXTS), clip.tokenizer.context)
    if clip.config.image is not None and clip.config.image.size <= 1024:
        pixels = clip.preprocess(np.zeros((5, 7, 3), np.uint8))
        assert pixels.shape == (1, 3, clip.config.image.size, clip.config.image.size)


def _reset() -> int:
    """Reset the peak memory of this process; return the memory in use, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
