"""The project's own source files, as text and as syntax trees, for tests that read them."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
SRC = ROOT / "src" / "cjkclip"
SOURCES = sorted(p for folder in ("src", "tests", "tools", "bench") for p in (ROOT / folder).rglob("*.py"))
OURS = [p for p in SOURCES if p.is_relative_to(SRC)]


def where(path: Path, node: ast.AST | None = None) -> str:
    """A place as editors understand it."""
    return f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 1)}"


def nodes(paths: list[Path]) -> Iterator[tuple[Path, ast.AST]]:
    """Every syntax node of these files."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path, node
