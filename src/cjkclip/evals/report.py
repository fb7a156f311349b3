"""Show results of `cjkclip.evals.moji` beside reference figures, as terminal table, markdown and JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cjkclip.evals.moji import LANGUAGES, Estimate, EvalRow, gap

# Results of simpler methods on the same tests: text to image, names as queries, R@1 / R@10 in %, one per entry of
# LANGUAGES. Measured before this model was trained, one run each.
REFERENCES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("A", "chance", ("0.1 / 0.9",) * 5),
    (
        "A",
        "ridge map from TF-IDF text to HOG and colour, one model a language",
        ("26.6 / 64.4", "-", "26.8 / 59.5", "25.1 / 58.1", "22.3 / 51.6"),
    ),
    ("A", "tiny CNN CLIP", ("45.5 / 80.4", "44.0 / 78.8", "43.7 / 79.9", "42.7 / 77.0", "40.7 / 75.8")),
    (
        "A",
        "residual CNN with n-gram text",
        ("68.2 / 90.7", "70.4 / 90.5", "68.7 / 90.3", "69.3 / 89.8", "66.7 / 89.1"),
    ),
    ("B", "chance", ("0.8 / 8.1",) * 5),
    (
        "B",
        "ridge map from TF-IDF text to HOG and colour, one model a language",
        ("16.3 / 44.7", "-", "13.8 / 43.1", "15.4 / 44.7", "13.8 / 35.8"),
    ),
    ("B", "tiny CNN CLIP", ("10.6 / 35.8", "13.8 / 30.9", "17.1 / 42.3", "13.8 / 43.1", "10.6 / 39.8")),
    (
        "B",
        "residual CNN with n-gram text",
        ("12.2 / 42.3", "16.3 / 34.1", "18.7 / 44.7", "15.4 / 41.5", "17.1 / 39.0"),
    ),
)
Line = tuple[str, ...]
HEAD: Line = ("test", "direction", "figure", *LANGUAGES)


def lines(rows: Sequence[EvalRow]) -> list[Line]:
    """Return one line per test, direction and figure, with the five languages side by side, then test E."""
    table_lines: list[Line] = []
    order = dict.fromkeys((row.test, row.direction, name) for row in rows for name in row.figures)
    for test, direction, name in order:
        here = {r.language: r for r in rows if (r.test, r.direction) == (test, direction)}
        cells = (_cell(name, here[lang].figures[name]) if lang in here else "-" for lang in LANGUAGES)
        table_lines.append((test, direction, f"{name} (n = {_count(list(here.values()))})", *cells))
    between, best, worst = gap(rows)
    return [
        *table_lines,
        ("E", "text to image", "R@1, best - worst", f"{100 * between:.1f} ({best} - {worst})", *4 * ("",)),
    ]


def references(test: str) -> list[Line]:
    """Return the lines of other methods on a test."""
    return [(test, "text to image", f"R@1 / R@10: {name}", *cells) for t, name, cells in REFERENCES if t == test]


def markdown(rows: Sequence[EvalRow]) -> str:
    """Return the whole table for the model card."""
    table = [HEAD, ("---",) * len(HEAD), *lines(rows), *references("A"), *references("B")]
    return "\n".join("| " + " | ".join(line) + " |" for line in table) + "\n"


def show(rows: Sequence[EvalRow]) -> None:
    """Print the table to the terminal."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*HEAD, title="moji, % (95 % interval)")
    for line in [*lines(rows), *references("A"), *references("B")]:
        table.add_row(*line)
    Console().print(table)


def record(rows: Sequence[EvalRow], **facts: Any) -> dict[str, Any]:
    """Return plain JSON data: the facts of the run, every row, test E."""
    between, best, worst = gap(rows)
    test_e = {"gap": between, "best": best, "worst": worst}
    return {**facts, "rows": [asdict(row) for row in rows], "E": test_e}


def _cell(name: str, figure: Estimate) -> str:
    factor, digits = (1, 0) if name == "median rank" else (100, 1)
    value, low, high = (f"{factor * number:.{digits}f}" for number in (figure.value, figure.low, figure.high))
    return f"{value} ({low}-{high})"


def _count(rows: Sequence[EvalRow]) -> str:
    counts = sorted({row.n for row in rows})
    return f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}-{counts[-1]}"
