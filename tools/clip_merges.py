"""Rebuild src/cjkclip/text/clip_merges.txt.gz from the copy of OpenAI's merge table in open_clip_torch.

It contains the header line and the 48,894 merges that CLIP reads. The result is the same bytes each time.
"""

import gzip
import importlib.util
from pathlib import Path

MERGES = 48_894
TARGET = Path(__file__).parents[1] / "src/cjkclip/text/clip_merges.txt.gz"


def main() -> None:
    """Write the compressed merge table."""
    spec = importlib.util.find_spec("open_clip")  # finds the directory without importing torch
    if spec is None or spec.origin is None:
        raise SystemExit(
            "open_clip_torch, which contains the table, is not installed: pip install --no-deps open_clip_torch"
        )
    table = Path(spec.origin).with_name("bpe_simple_vocab_16e6.txt.gz")
    lines = gzip.decompress(table.read_bytes()).decode("utf-8").split("\n")
    data = ("\n".join(lines[: 1 + MERGES]) + "\n").encode("utf-8")
    TARGET.write_bytes(gzip.compress(data, compresslevel=9, mtime=0))
    print(f"{TARGET}: {len(data):,} bytes of text, {TARGET.stat().st_size:,} compressed")


if __name__ == "__main__":
    main()
