"""The project's aims: how many times faster than another package each row of the benchmarks should be.

Rows are matched with file name patterns. A row without a relevant peer or without a goal has no aim.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

from bench.timing import Row
from cjkclip.machine.processor import INT8


@dataclass(frozen=True, kw_only=True)
class Aim:
    """The goal of all rows whose texts match."""

    job: str
    ours: str
    peer: str
    times: float
    needs: tuple[str, ...] = ()  # the processor must multiply one of these, named as in cjkclip.machine.processor
    on_amd: float | None = None  # replaces `times` on AMD with AVX-512, where the peer's library takes a slow path

    def fits(self, row: Row) -> bool:
        """Whether the aim applies to this row."""
        words = ((row.job, self.job), (row.ours, self.ours), (row.peer, self.peer))
        return all(fnmatchcase(word, pattern) for word, pattern in words)


def _aim(job: str, ours: str, peer: str, times: float, on_amd: float | None = None) -> Aim:
    needs = ("bf16",) if "default:" in ours else tuple(name for name, _ in INT8) if "int8" in ours else ()
    return Aim(job=job, ours=ours, peer=peer, times=times, needs=needs, on_amd=on_amd)


FP32, DEFAULT, THEIRS = "fp32: *", "default: *", "transformers fp32"
AIMS = (
    _aim("image tower, 1 at once", DEFAULT, THEIRS, 3.8),
    *(
        _aim(f"image tower, {count} at once", ours, peer, times, on_amd)
        for count in (8, 32)
        for ours, peer, times, on_amd in (
            (FP32, THEIRS, 1.0, 2.3),
            (DEFAULT, THEIRS, 4.8, None),
            (DEFAULT, "transformers, bf16 weights", 1.4, None),
            ("openvino int8", THEIRS, 8.0, None),
        )
    ),
    _aim("ViT-L/14, *", DEFAULT, THEIRS, 4.3),
    _aim("RN50, *", FP32, "cn_clip fp32", 1.4),
    _aim("RN50, *", DEFAULT, "cn_clip fp32", 3.0),
    _aim("one query", DEFAULT, THEIRS, 5.0),
    _aim("* captions", DEFAULT, "*, padded to the longest *", 5.0),
    _aim("* captions", DEFAULT, "*, padded to 52 *", 12.0),
    _aim("tokenise *", "tokenizer", "cn_clip.tokenize", 1.6),
    # within one grey level: equal, or in fast mode where a file is too small to be decoded at a fraction of its size
    _aim("JPEG of * to pixels", "exact=True", "open_clip's transform", 2.4),
    _aim("JPEG of 0.3 MP* to pixels", "exact=False", "open_clip's transform", 2.4),
    _aim("JPEG of 12 MP* to pixels", "exact=False", "open_clip's transform", 4.2),
    *(
        _aim(f"* photographs of {size} *", "*, default: *", peer, times)
        for peer, listed in (
            ("a transformers loop", (4.5, 4.5, 4.8)),
            ("sentence-transformers' encode", (5.0, 4.6, 8.5)),
            ("cn_clip's way", (5.0, 5.0, 5.0)),
        )
        for size, times in zip(("0.3 MP", "2 MP", "12 MP"), listed, strict=True)
    ),
)


def aimed(rows: Sequence[Row], here: Mapping[str, Any]) -> list[Row]:
    """Return the rows with their aims on the machine `here`, as described by `cjkclip.machine.processor`."""
    return [replace(row, aim=aim(row, here)) for row in rows]


def aim(row: Row, here: Mapping[str, Any]) -> str:
    """Return a row's aim as text: in parentheses if this processor lacks `needs`, empty if there is none."""
    for one in AIMS:
        if one.fits(row):
            slow = "AMD" in here["processor"] and "AVX-512 VNNI" in here["multiplies"]
            times = one.on_amd if one.on_amd is not None and slow else one.times
            return f"{times}" if _has(here, one.needs) else f"({times})"
    return ""


def missed(rows: Sequence[Row], here: Mapping[str, Any]) -> list[Aim]:
    """Return the aims on this machine that match no row: an aim must be renamed together with its row."""
    return [one for one in AIMS if _has(here, one.needs) and not any(one.fits(row) for row in rows)]


def _has(here: Mapping[str, Any], needs: tuple[str, ...]) -> bool:
    """Whether the processor multiplies one of the required number formats."""
    return not needs or not set(needs).isdisjoint(here["multiplies"])
