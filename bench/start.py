"""`python -m bench.start`: time from process start to the first classification and to the end, and own memory.

Loads Chinese-CLIP ViT-B/16 in its real shape with random weights from a local directory, with cjkclip, transformers and
cn_clip in turn, each in its own process. The first round is not counted: it fills the caches of the system, of Python
(compiled modules, which pip creates for an installed package) and of cjkclip.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import cjkclip
from bench import pages
from bench.chinese import write_peer

PAGE = Path(__file__).parents[1] / "docs" / "benchmarks" / "start.md"
LABELS = ["猫", "狗", "鸟"]
OURS = """
import sys, cjkclip
clip = cjkclip.load(sys.argv[1] + {folder!r}, precision={precision!r})
print(clip.classify(sys.argv[2], {labels!r}))
"""
THEIRS = """
import sys, torch
from PIL import Image
sys.path[:0] = {path!r}
from tests.support.peers import transformers
peer = transformers()
model = peer.ChineseCLIPModel.from_pretrained(sys.argv[1]).eval()
tokenizer = peer.BertTokenizerFast.from_pretrained(sys.argv[1])
processor = peer.ChineseCLIPImageProcessor.from_pretrained(sys.argv[1])
inputs = dict(tokenizer({labels!r}, padding=True, return_tensors="pt"))
inputs |= dict(processor(Image.open(sys.argv[2]).convert("RGB"), return_tensors="pt"))
with torch.inference_mode():
    print(model(**inputs).logits_per_image.softmax(dim=1))
"""
CN_CLIP = """
import sys, torch
from pathlib import Path
from PIL import Image
sys.path[:0] = {path!r}
from tests.support.peers import cn_clip
peer = cn_clip()
[file] = (Path(sys.argv[1]) / "cn_clip").glob("*.pt")
names = dict(vision_model_name="ViT-B-16", text_model_name="RoBERTa-wwm-ext-base-chinese", input_resolution=224)
model, preprocess = peer.load_from_name(str(file), device="cpu", **names)
with torch.inference_mode():
    images, texts = preprocess(Image.open(sys.argv[2]))[None], peer.tokenize({labels!r})
    print(model.eval().get_similarity(images, texts)[0].softmax(dim=1))
"""


@dataclass(frozen=True, kw_only=True)
class Line:
    """One way to classify: medians of wall time in seconds, and of own memory at most in MiB."""

    name: str
    answer: float
    end: float
    own: float


PROBE = """
import subprocess, sys, threading, time
start, own = time.perf_counter(), [0]
child = subprocess.Popen([sys.executable, "-W", "ignore", "-c", *sys.argv[1:]], stdout=subprocess.PIPE, text=True)

def watch():
    while child.returncode is None:
        try:
            lines = open(f"/proc/{child.pid}/status").readlines()
        except (FileNotFoundError, ProcessLookupError):
            return
        own[0] = max(own[0], *(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)
        time.sleep(0.02)

watcher = threading.Thread(target=watch)
watcher.start()
answered = [time.perf_counter() - start for line in child.stdout if line == "answered\\n"]
assert child.wait() == 0
end = time.perf_counter() - start
watcher.join()
print(*answered, end, own[0])
"""


def run(code: str, *words: str) -> tuple[float, float, float]:
    """Return seconds to the answer, seconds to the end, and the most own MiB (RssAnon, sampled at 50 Hz)."""
    command = [sys.executable, "-c", PROBE, code + "print('answered', flush=True)\n", *words]
    world = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(command, env=world, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    answer, end, kilobytes = done.stdout.split()
    return float(answer), float(end), float(kilobytes) / 1024


def write_halves(folder: Path, peer: Any) -> None:
    """Save the same model in float16 and in bfloat16."""
    files = [path for path in folder.iterdir() if path.is_file() and path.suffix != ".safetensors"]
    for kind in ("float16", "bfloat16"):
        peer.to(getattr(torch, kind)).save_pretrained(folder / kind)
        for path in files:
            shutil.copy(path, folder / kind)


def measure(rounds: int) -> list[Line]:
    """Run every program in turn and return the medians."""
    root = [str(Path(__file__).parents[1])]
    codes = {
        "transformers fp32": THEIRS.format(labels=LABELS, path=root),
        "cn_clip fp32": CN_CLIP.format(labels=LABELS, path=root),
        "cjkclip, default": OURS.format(labels=LABELS, precision="auto", folder=""),
        "cjkclip, fp32": OURS.format(labels=LABELS, precision="fp32", folder=""),
        "cjkclip, default, from a float16 file": OURS.format(labels=LABELS, precision="auto", folder="/float16"),
        "cjkclip, default, from a bfloat16 file": OURS.format(labels=LABELS, precision="auto", folder="/bfloat16"),
        "cjkclip, int8": OURS.format(labels=LABELS, precision="int8", folder=""),
    }
    seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in codes}
    with tempfile.TemporaryDirectory() as folder:
        write_halves(Path(folder), write_peer(Path(folder)))
        cjkclip.load(folder).save(Path(folder) / "cn_clip", layout="cn_clip")
        picture = Path(folder) / "picture.png"
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)).save(picture)
        for turn in range(rounds + 1):
            for name, code in codes.items():
                result = run(code, folder, str(picture))
                if turn:
                    seen[name].append(result)
    medians = {name: [statistics.median(column) for column in zip(*found, strict=True)] for name, found in seen.items()}
    return [Line(name=name, answer=answer, end=end, own=own) for name, (answer, end, own) in medians.items()]


def markdown(lines: list[Line]) -> str:
    """Return the table. Ratios are to the other two packages, which come first."""
    rows = [
        "| | seconds to the answer | times faster than transformers | than cn_clip "
        "| seconds to the end | times faster than transformers | than cn_clip "
        "| own MiB at most | of transformers' | of cn_clip's |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        answer = " | ".join(f"{peer.answer / line.answer:.2f}" for peer in lines[:2])
        end = " | ".join(f"{peer.end / line.end:.2f}" for peer in lines[:2])
        share = " | ".join(f"{line.own / peer.own:.2f}" for peer in lines[:2])
        seconds = f"{line.answer:.2f} | {answer} | {line.end:.2f} | {end}"
        rows.append(f"| {line.name} | {seconds} | {line.own:.0f} | {share} |")
    return "\n".join(rows)


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = markdown(measure(rounds))
    print(table)
    pages.write(PAGE, f"{rounds} rounds\n\n{table}")


if __name__ == "__main__":
    main()
