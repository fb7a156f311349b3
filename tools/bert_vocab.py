"""Rebuild src/cjkclip/text/bert_vocab_zh.txt.gz from the copy of BERT's Chinese vocabulary in cn_clip.

The vocabulary is that of bert-base-chinese: 21,128 unchanged lines. The result is the same bytes each time.
"""

import gzip
import importlib.util
from pathlib import Path

PIECES = 21_128
TARGET = Path(__file__).parents[1] / "src/cjkclip/text/bert_vocab_zh.txt.gz"


def main() -> None:
    """Write the compressed vocabulary."""
    spec = importlib.util.find_spec("cn_clip")  # finds the directory without importing torch
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("cn_clip, which contains the vocabulary, is not installed: pip install --no-deps cn_clip")
    data = (Path(spec.submodule_search_locations[0]) / "clip/vocab.txt").read_bytes()
    lines = data.count(b"\n")
    if lines != PIECES:
        raise SystemExit(f"vocab.txt has {lines:,} lines, expected {PIECES:,}: install another version of cn_clip")
    TARGET.write_bytes(gzip.compress(data, compresslevel=9, mtime=0))
    print(f"{TARGET}: {len(data):,} bytes of text, {TARGET.stat().st_size:,} compressed")


if __name__ == "__main__":
    main()
