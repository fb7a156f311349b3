"""`make bench`: compare the speed of cjkclip with other packages, on the same random weights in the same process.

Uses Chinese-CLIP ViT-B/16, CLIP ViT-B/32 and other models in their real shapes. Writes this processor's section of
docs/benchmarks.md, and bench/out/encode.json.
`python -m bench --quick` runs fewer rounds and writes nothing.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from tests.support.peers import transformers

import cjkclip
from bench import aims, chinese, pages, photos, shapes
from bench.timing import Row, alternate, markdown, percent, worked
from cjkclip.machine import processor
from cjkclip.speed import work

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "benchmarks.md"
TEXTS, LENGTH = 32, 77
WIDE = 190  # columns of a table that is printed to a file


def write_peer(folder: Path) -> Any:
    """Save transformers' CLIPModel in its default shape (ViT-B/32) with random weights to `folder`, and return it."""
    peer = transformers()
    torch.manual_seed(0)
    model = peer.CLIPModel(peer.CLIPConfig()).eval()
    model.save_pretrained(folder)
    return model


def compare(job: str, rounds: int, clip: cjkclip.Clip, peer: Any, inputs: np.ndarray) -> Row:
    """Compare one tower of one engine with transformers, on the same weights and inputs."""
    image = inputs.ndim == 4
    tensor = torch.tensor(inputs)

    def ours() -> np.ndarray:
        return clip.engine.image(inputs) if image else clip.engine.text(inputs, np.ones_like(inputs))

    def theirs() -> np.ndarray:
        with torch.inference_mode():
            outputs = peer.get_image_features(tensor) if image else peer.get_text_features(tensor)
        return outputs.pooler_output.numpy()

    difference = float(np.abs(ours() - theirs()).max())
    a, b = alternate(ours, theirs, rounds)
    name = f"{clip.engine.name} {clip.engine.precision}"
    flops = len(inputs) * (work.image(clip.config) if image else work.text(clip.config, LENGTH))
    row = Row(job=job, ours=name, peer="transformers fp32 sdpa", ours_s=a, peer_s=b, difference=difference)
    return worked(row, flops)


def measure(rounds: int) -> list[Row]:
    """Compare both towers of CLIP ViT-B/32 with transformers, in every engine."""
    rng = np.random.default_rng(0)
    one, eight = (rng.normal(size=(n, 3, 224, 224)).astype(np.float32) for n in (1, 8))
    ids = rng.integers(1, 49_000, (TEXTS, LENGTH))
    ids[:, -1] = 49_407
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        peer = write_peer(Path(folder))
        for engine, precision in (("openvino", "fp32"), ("openvino", "auto"), ("torch", "fp32")):
            clip = cjkclip.load(folder, engine=engine, precision=precision)
            if (
                precision == "auto" and clip.engine.precision == "fp32"
            ):  # no bf16 on this processor: the row exists already
                continue
            rows.append(compare("ViT-B/32, 1 picture", rounds, clip, peer, one))
            rows.append(compare("ViT-B/32, 8 pictures", rounds, clip, peer, eight))
            rows.append(compare(f"its text tower, {TEXTS} texts of {LENGTH} tokens", rounds, clip, peer, ids))
    return rows


def moji_speed(rounds: int) -> str:
    """Measure the bundled model, which other packages cannot load."""
    clip = cjkclip.load("moji")
    pictures = [picture for _, picture in cjkclip.moji.gallery("noto")[:256]]
    names = [concept.names["ja"] for concept, _ in cjkclip.moji.gallery("noto")[:256]]
    image, text = alternate(lambda: clip.encode_image(pictures), lambda: clip.encode_text(names), rounds)
    return f"moji: {256 / image:.0f} pictures/s (decode included), {256 / text:.0f} texts/s"


def show(rows: list[Row]) -> None:
    table = Table(title="compared with other packages, in one run, A B A B, medians")
    for heading in ("job", "cjkclip", "peer", "times faster", "aim", "share of the limit", "largest difference"):
        table.add_column(heading, justify="left" if heading in ("job", "cjkclip", "peer") else "right")
    for row in rows:
        cells = (f"{row.ratio:.2f}", row.aim, percent(row.share), f"{row.difference:.1e}")
        table.add_row(row.job, row.ours, row.peer, *cells)
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def record(row: Row) -> dict[str, Any]:
    """Return a row as plain data."""
    return dataclasses.asdict(row) | {"ratio": row.ratio, "share": row.share}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run three rounds and write nothing")
    quick = parser.parse_args().quick
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation warnings of the other packages
        rounds = 3 if quick else 7
        rows = list[Row]()
        for part in (chinese.measure, shapes.measure, measure, photos.measure):
            show(part_rows := aims.aimed(part(rounds), pages.here()))  # print each part: all of them take half an hour
            rows += part_rows
    speed = moji_speed(rounds)
    Console().print(speed)
    for one in aims.missed(rows, pages.here()):
        Console().print(f"no row for aim {one.times}: {one.job!r}, {one.ours!r}, {one.peer!r}")
    if quick:
        return
    out = HERE / "out"
    out.mkdir(exist_ok=True)
    report = {"machine": processor.sentence(pages.here()), "rows": [record(row) for row in rows]}
    (out / "encode.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    pages.write(PAGE, f"{markdown(rows)}\n\n{speed}")


if __name__ == "__main__":
    main()
