"""`python -m bench.memory`: the process's own memory to load and run a ViT-L/14, compared with its file.

Writes checkpoints of the real shape with random weights to a temporary directory and loads each in its own process,
once per line of the table. Runs only on Linux, because memory is read from /proc.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench import pages

MIB = 1 << 20
HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks" / "memory.md"
# file -> (layout, element type as safetensors names it)
FILES = {
    "safetensors, fp16": ("transformers", "F16"),
    "safetensors, fp32": ("transformers", "F32"),
    "safetensors, bf16": ("transformers", "BF16"),
    "OpenAI's .pt, fp16": ("openai", "F16"),
    "Flax, fp32": ("flax", "F32"),
}
FACTS = {"vision.act": "quick_gelu", "text.act": "quick_gelu", "vision.heads": 16, "text.heads": 12}
EVERY = 0.003  # seconds between two looks at the process's memory
JOBS = {"load": ("numpy", False), "openvino": ("openvino", True), "torch": ("torch", True)}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One process. Sizes in bytes, without the memory that the process held before the load."""

    file: str
    job: str
    stored: int  # the weight file
    most: int  # memory of the process's own, at most
    own: int  # the same, at the end
    mapped: int  # at the end: pages of files, which the system can take back at any time


def write_checkpoint(folder: Path, layout: str, element: str) -> Path:
    """Write a ViT-L/14 with random weights and return the weight file."""
    from cjkclip.checkpoints import Found
    from cjkclip.checkpoints.families import family
    from cjkclip.checkpoints.formats.pixels import OPENAI_MEAN, OPENAI_STD, torchvision_rules
    from cjkclip.checkpoints.saving import write
    from cjkclip.checkpoints.weights import find
    from cjkclip.checkpoints.weights.tensors import dtype_of
    from cjkclip.config import Image, Model, Text, Vit
    from cjkclip.parameters import shapes
    from cjkclip.text.bpe import clip_bpe

    shared: dict[str, Any] = {"act": "quick_gelu", "eps": 1e-5, "project": True}
    vision = Vit(
        width=1024, depth=24, heads=16, mlp=4096, image_size=224, patch=14, patch_bias=False, pre_norm=True, **shared
    )
    text = Text(
        width=768, depth=12, heads=12, mlp=3072, vocab=49_408, context=77, pool="largest-id", eot=49_407, **shared
    )
    image = Image(**torchvision_rules(224, OPENAI_MEAN, OPENAI_STD))
    config = Model(vision=vision, text=text, image=image, embed=768, scale=None)
    block = np.random.default_rng(0).normal(0, 0.02, 1 << 20).astype(dtype_of(element))
    params = {name: np.resize(block, shape).reshape(shape) for name, shape in shapes(config).items()}
    params["logit_scale"] = np.array(4.5, block.dtype)
    write(
        Found(config=config, params=params, tokenizer=clip_bpe(), family=family("openai"), release=None), folder, layout
    )
    return find(folder)


def child(folder: str, engine: str, encode: bool) -> dict[str, int]:
    """Load, encode if `encode`, and return the memory that this needed."""
    import cjkclip

    ready = cjkclip.load("moji", engine=engine)  # imports every module before memory is measured
    picture = np.zeros((300, 300, 3), np.uint8)
    if encode:
        ready.encode_image(picture), ready.encode_text(["a cat"])
    before, samples, done = status(), list[int](), threading.Event()

    def watch() -> None:
        while not done.wait(EVERY):
            samples.append(status()["RssAnon"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    clip = cjkclip.load(folder, engine=engine, facts=FACTS if list(Path(folder).glob("*.pt")) else {})
    if encode:
        clip.encode_image(picture), clip.encode_text(["a cat"])
    done.set()
    watcher.join()
    after = status()
    return {
        "most": max(*samples, after["RssAnon"]) - before["RssAnon"],
        "own": after["RssAnon"] - before["RssAnon"],
        "mapped": after["RssFile"] - before["RssFile"],
    }


def status() -> Mapping[str, int]:
    """Return the memory of this process in bytes, by the kernel's names."""
    lines = (line.partition(":") for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(value.split()[0]) * 1024 for name, _, value in lines if value.endswith(" kB")}


def measure() -> list[Line]:
    """Measure every line, one process after the other. Each file is deleted before the next one is written."""
    lines: list[Line] = []
    for file, (layout, element) in FILES.items():
        with tempfile.TemporaryDirectory() as folder:
            run = f"write_checkpoint(Path({folder!r}), {layout!r}, {element!r})"
            stored = _run(f"int({run}.stat().st_size)")
            for job, (engine, encode) in JOBS.items():
                lines.append(
                    Line(file=file, job=job, stored=stored, **_run(f"child({folder!r}, {engine!r}, {encode})"))
                )
                print(lines[-1], flush=True)
    return lines


def _run(expression: str) -> Any:
    code = f"import json; from bench.memory import *; print(json.dumps({expression}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def markdown(lines: list[Line]) -> str:
    """Return the table of docs/benchmarks/memory.md."""
    names = {"load": "`load` only", "openvino": "`load`, encode, OpenVINO", "torch": "`load`, encode, torch"}
    rows = [
        "| file | MiB | operation | own MiB at most | times the file | own MiB at the end | mapped MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        cells = (line.stored, line.most, line.own, line.mapped)
        stored, most, own, mapped = (f"{cell / MIB:.0f}" for cell in cells)
        ratio = f"{line.most / line.stored:.2f}"
        rows.append(f"| {line.file} | {stored} | {names[line.job]} | {most} | {ratio} | {own} | {mapped} |")
    return "\n".join(rows)


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="do not write the page")
    quick = parser.parse_args().quick
    table = markdown(measure())
    print(table)
    if not quick:
        pages.write(PAGE, table)


if __name__ == "__main__":
    main()
