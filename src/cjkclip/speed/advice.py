"""Which setting to use, from what was measured: a few lines for a person."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from cjkclip.precision.half import LEAST_COSINE
from cjkclip.speed.jobs import EXACT, MEGAPIXELS, PICTURES, Line, Measured, Setting

NOISE = 1.05  # two medians that are nearer than this are alike, and the earlier setting is the better one


def advise(
    name: str,
    asked: Mapping[str, Any],
    measured: Sequence[Measured],
    plain: Sequence[Line],
    default: Setting,
    cores: int,
) -> list[str]:
    """Lines that say what to pass to `cjkclip.load`, beside the name and what was `asked` for it, and why.

    A setting whose vectors are too far from those of `EXACT` is not recommended, as the gate would not take it; int8
    went through a gate of its own.
    """
    close = [one for one in measured if one.setting.precision == "int8" or _cosine(one) >= LEAST_COSINE]
    uses: dict[str, tuple[Setting, Line]] = {}
    for use, kind, several in (
        ("one picture at a time", "image", False),
        ("many pictures", "image", True),
        ("one text at a time", "text", False),
        ("many texts", "text", True),
    ):
        found = [(m.setting, line) for m in close for line in m.lines if line.kind == kind]
        if found := [(setting, line) for setting, line in found if (line.items > 1) == several]:
            uses[use] = _best(found)
    lines: list[str] = []
    for setting in dict.fromkeys(setting for setting, _ in uses.values()):
        those = ", ".join(f"{use} ({rounded(line.rate)}/s)" for use, (best, line) in uses.items() if best == setting)
        lines += [f"{setting} is the fastest for {those}:", f"    {call(name, asked, setting, default)}"]
    lines += _default(measured, default)
    lines += [
        f"{one.setting} is left out: its least cosine to {EXACT} is {_cosine(one):.5f}, below {LEAST_COSINE}"
        for one in measured
        if one not in close
    ]
    return lines + _further(uses, plain, cores)


def call(name: str, asked: Mapping[str, Any], setting: Setting, default: Setting) -> str:
    """How a setting is asked for in Python."""
    usual, wanted = asdict(default), asdict(setting)
    given = {key: value for key, value in asked.items() if value}
    given |= {key: value for key, value in wanted.items() if value != usual[key]}
    if {"engine", "device"} & given.keys():  # what "auto" computes in is another there
        given["precision"] = wanted["precision"]
    return f"cjkclip.load({', '.join([repr(name), *(f'{key}={value!r}' for key, value in given.items())])})"


def rounded(rate: float) -> str:
    """A rate as people read it.

    >>> rounded(9.41), rounded(1234.5)
    ('9.4', '1,234')
    """
    return f"{rate:,.1f}" if rate < 100 else f"{rate:,.0f}"


def _cosine(one: Measured) -> float:
    return min((distance.cosine for distance in one.distances.values()), default=1.0)


def _best(found: Sequence[tuple[Setting, Line]]) -> tuple[Setting, Line]:
    """The first that is as fast as the fastest; of its batches the fastest, and the larger of two alike."""
    fastest = max(line.rate for _, line in found)
    setting = next(setting for setting, line in found if line.rate * NOISE >= fastest)
    lines = sorted((line for one, line in found if one == setting), key=lambda line: line.items)
    return setting, next(line for line in reversed(lines) if line.rate * NOISE >= max(x.rate for x in lines))


def _default(measured: Sequence[Measured], default: Setting) -> list[str]:
    """What is used when nothing is said, and what the gate thought of the faster precision."""
    half = next((m for m in measured if m.setting.engine == "openvino" and m.setting.precision == "bf16"), None)
    if half is None or default.engine != "openvino":
        return [f"when nothing is said, {default} is used"]
    cosine = f"its least cosine here is {_cosine(half):.5f}, {LEAST_COSINE} is asked"
    if default.precision == "bf16":
        return [f"when nothing is said, {default} is used: the gate took it ({cosine})"]
    small = "" if _cosine(half) < LEAST_COSINE else "; it asks inputs of its own, and leaves small models exact"
    return [f"when nothing is said, {default} is used: the gate did not take bf16 ({cosine}{small})"]


def _further(uses: Mapping[str, tuple[Setting, Line]], plain: Sequence[Line], cores: int) -> list[str]:
    """A smaller batch, and hasty decoding, where they would help."""
    many, lines = uses.get("many pictures"), list[str]()
    if many is None:
        return []
    if many[1].items < max(PICTURES):
        lines.append(f"smaller batches are faster: encode_image(pictures, batch_size={many[1].items})")
    exact, fast = [line.rate * cores for line in plain if line.kind == "decode"] or (0.0, 0.0)
    if exact and exact < many[1].rate and fast > exact * NOISE:
        lines.append(
            f"JPEG files of {MEGAPIXELS} are opened at up to {rounded(exact)}/s with all cores, slower than the tower; "
            f"encode_image(pictures, exact=False) opens {rounded(fast)}/s"
        )
    return lines
