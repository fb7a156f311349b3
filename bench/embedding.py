"""`python -m bench.embedding`: `cjkclip embed` over directories of 2,000, 20,000 and 100,000 images.

Writes small JPEG files to a temporary directory and runs the command on them with the bundled model in its own process.
Reads that process's own memory every fifth of a second from /proc, so this runs only on Linux.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bench import pages
from cjkclip.gallery import Gallery

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "benchmarks" / "embedding.md"
COUNTS = (2_000, 20_000, 100_000)
SIDES = (128, 96)  # pixels
DIFFERENT = 500  # different contents; every image is a separate file
MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Line:
    """One run. Memory in bytes, times in seconds; `whole` is the loop over images, without the start."""

    pictures: int
    own: int
    names: int
    vectors: int
    whole: float
    waiting: float
    encoding: float
    writing: float


def write_pictures(folder: Path, count: int) -> None:
    """Write noise that JPEG cannot compress to almost nothing, a thousand files per directory."""
    rng = np.random.default_rng(0)
    contents: list[bytes] = []
    for number in range(count):
        file = folder / f"{number // 1000:03d}" / f"IMG_{number:06d}.jpg"
        file.parent.mkdir(exist_ok=True)
        if len(contents) < DIFFERENT:
            coarse = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
            Image.fromarray(coarse).resize(SIDES, Image.Resampling.BICUBIC).save(file, quality=85)
            contents.append(file.read_bytes())
        else:
            file.write_bytes(contents[number % DIFFERENT])


def embed(folder: Path, count: int) -> Line:
    """Run the command over a directory and measure it."""
    out = folder / "vectors.safetensors"
    words = [sys.executable, "-m", "cjkclip", "embed", str(folder), "--out", str(out)]
    most = 0
    with tempfile.TemporaryFile("w+", encoding="utf-8") as stdout:
        with subprocess.Popen(words, stdout=stdout) as process:
            while process.poll() is None:
                most = max(most, _own(process.pid))
                time.sleep(0.2)
        stdout.seek(0)
        output = stdout.read()
    assert process.returncode == 0, output
    gallery = Gallery.load(out)
    assert len(gallery) == count
    whole, waiting, encoding, writing = (
        float(seconds.replace(",", "")) for seconds in re.findall(r"([\d.,]+) s\b", output)
    )
    return Line(
        pictures=count,
        own=most,
        names=sum(map(sys.getsizeof, gallery.names)),
        vectors=gallery.vectors.nbytes,
        whole=whole,
        waiting=waiting,
        encoding=encoding,
        writing=writing,
    )


def _own(pid: int) -> int:
    """Return RssAnon of a process in bytes, or 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))


def markdown(lines: list[Line]) -> str:
    """Return the table of docs/benchmarks/embedding.md."""
    rows = [
        "| pictures | own memory MiB | names MiB | vectors MiB | pictures/s | waiting s | encoding s | writing s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for line in lines:
        sizes = " | ".join(f"{size / MIB:.1f}" for size in (line.own, line.names, line.vectors))
        times = " | ".join(f"{seconds:.1f}" for seconds in (line.waiting, line.encoding, line.writing))
        rows.append(f"| {line.pictures:,} | {sizes} | {line.pictures / line.whole:,.0f} | {times} |")
    return "\n".join(rows)


def main() -> None:
    """Measure and print; without arguments, write the page too."""
    parser = argparse.ArgumentParser(prog="python -m bench.embedding", description=__doc__)
    parser.add_argument("counts", nargs="*", type=int, help="numbers of images; the page is not written then")
    counts = parser.parse_args().counts
    lines: list[Line] = []
    for count in counts or COUNTS:
        with tempfile.TemporaryDirectory() as folder:
            write_pictures(Path(folder), count)
            lines.append(embed(Path(folder), count))
        print(lines[-1], flush=True)
    table = markdown(lines)
    print(table)
    if not counts:
        pages.write(PAGE, table)


if __name__ == "__main__":
    main()
