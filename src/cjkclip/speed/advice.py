"""Recommend settings from measurements, in a few lines of text."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cjkclip.precision.half import LEAST_COSINE
from cjkclip.speed.jobs import EXACT, MEGAPIXELS, PICTURES, BenchRow, Setting, Timing

NOISE = 1.05  # medians with a smaller ratio count as equal, and the earlier setting wins


def advise(
    name: str,
    options: Mapping[str, Any],
    timings: Sequence[Timing],
    plain: Sequence[BenchRow],
    default: Setting,
    cores: int,
) -> list[str]:
    """Return lines with calls of `cjkclip.load` for each use, with its other `options`, and the reasons.

    A setting whose vectors are too far from those of `EXACT` is not recommended, because `load` would reject it too;
    int8 was judged when it was quantised.
    """
    close = [one for one in timings if one.setting.precision == "int8" or _cosine(one) >= LEAST_COSINE]
    uses: dict[str, tuple[Setting, BenchRow]] = {}
    for use, kind, several in (
        ("one picture at a time", "image", False),
        ("many pictures", "image", True),
        ("one text at a time", "text", False),
        ("many texts", "text", True),
    ):
        candidates = [(m.setting, line) for m in close for line in m.rows if line.kind == kind]
        if candidates := [(setting, line) for setting, line in candidates if (line.items > 1) == several]:
            uses[use] = _best(candidates)
    lines: list[str] = []
    for setting in dict.fromkeys(setting for setting, _ in uses.values()):
        best_for = ", ".join(f"{use} ({rounded(line.rate)}/s)" for use, (best, line) in uses.items() if best == setting)
        lines += [f"{setting} is fastest for {best_for}:", f"    {call(name, options, setting, default)}"]
    lines += _default(timings, default)
    lines += [
        f"{one.setting} is not recommended: its lowest cosine similarity to {EXACT} is {_cosine(one):.5f}, "
        f"below {LEAST_COSINE}"
        for one in timings
        if one not in close
    ]
    return lines + _further(uses, plain, cores)


def call(name: str, options: Mapping[str, Any], setting: Setting, default: Setting) -> str:
    """Return the Python call that loads a model in a setting, with other options of `load`."""
    usual, fields = asdict(default), asdict(setting)
    options = {key: value for key, value in options.items() if value}
    options |= {key: value for key, value in fields.items() if value != usual[key]}
    if {"engine", "device"} & options.keys():  # with these, "auto" may choose another precision
        options["precision"] = fields["precision"]
    return f"cjkclip.load({', '.join([repr(name), *(f'{key}={value!r}' for key, value in options.items())])})"


def rounded(rate: float) -> str:
    """Format a rate.

    >>> rounded(9.41), rounded(1234.5)
    ('9.4', '1,234')
    """
    return f"{rate:,.1f}" if rate < 100 else f"{rate:,.0f}"


def _cosine(one: Timing) -> float:
    return min((distance.cosine for distance in one.distances.values()), default=1.0)


def _best(candidates: Sequence[tuple[Setting, BenchRow]]) -> tuple[Setting, BenchRow]:
    """Return the first setting that is as fast as the fastest, and its fastest batch; of equal ones the larger."""
    fastest = max(line.rate for _, line in candidates)
    setting = next(setting for setting, line in candidates if line.rate * NOISE >= fastest)
    lines = sorted((line for one, line in candidates if one == setting), key=lambda line: line.items)
    return setting, next(line for line in reversed(lines) if line.rate * NOISE >= max(x.rate for x in lines))


def _default(timings: Sequence[Timing], default: Setting) -> list[str]:
    """Report which setting is the default, and whether half precision was accepted."""
    half = next((m for m in timings if m.setting.engine == "openvino" and m.setting.precision == "bf16"), None)
    if half is None or default.engine != "openvino":
        return [f"the default is {default}"]
    cosine = f"its lowest cosine similarity is {_cosine(half):.5f}, at least {LEAST_COSINE} is required"
    if default.precision == "bf16":
        return [f"the default is {default}: bf16 was accepted ({cosine})"]
    small = (
        "" if _cosine(half) < LEAST_COSINE else "; load() measures on its own inputs, and uses fp32 for small models"
    )
    return [f"the default is {default}: bf16 was not accepted ({cosine}{small})"]


def _further(uses: Mapping[str, tuple[Setting, BenchRow]], plain: Sequence[BenchRow], cores: int) -> list[str]:
    """Recommend a smaller batch and fast decoding if they help."""
    many, lines = uses.get("many pictures"), list[str]()
    if many is None:
        return []
    if many[1].items < max(PICTURES):
        lines.append(f"smaller batches are faster: encode_image(pictures, batch_size={many[1].items})")
    exact, fast = [line.rate * cores for line in plain if line.kind == "decode"] or (0.0, 0.0)
    if exact and exact < many[1].rate and fast > exact * NOISE:
        lines.append(
            f"JPEG files of {MEGAPIXELS} are decoded at up to {rounded(exact)}/s on all cores, slower than the tower; "
            f"encode_image(pictures, exact=False) decodes {rounded(fast)}/s"
        )
    return lines
