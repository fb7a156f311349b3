"""How the code is written, checked: how long things may be, docstrings, names, words."""

import ast
import re

from support.sources import ROOT, SOURCES, nodes, where


def test_a_file_has_at_most_300_lines() -> None:
    long = {where(p): n for p in SOURCES if (n := len(p.read_text(encoding="utf-8").splitlines())) > 300}
    assert not long


def test_a_function_has_at_most_40_lines() -> None:
    functions = [(p, n) for p, n in nodes(SOURCES) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = {where(p, n): n.name for p, n in functions if (n.end_lineno or 0) - n.lineno + 1 > 40}
    assert len(functions) > 100
    assert not long


def test_a_function_has_at_most_8_parameters() -> None:
    crowded = {}
    for path, node in nodes(SOURCES):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            a = node.args
            taken = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs, a.vararg, a.kwarg) if x is not None]
            if len([name for name in taken if name not in ("self", "cls")]) > 8:
                crowded[where(path, node)] = taken
    assert not crowded


def test_every_module_says_what_it_is() -> None:
    silent = [where(p) for p in SOURCES if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))]
    assert not silent


def test_file_names_are_nouns() -> None:
    assert not [where(p) for p in SOURCES if re.search(r"util|helper|manager|^base_|^common|^misc", p.stem)]


def test_a_test_module_imports_from_no_other_test_module() -> None:
    """Shared code belongs to tests/support, fixtures to conftest.py."""
    bad = {
        where(path, node): ast.unparse(node)
        for path, node in nodes([p for p in SOURCES if p.is_relative_to(ROOT / "tests")])
        if isinstance(node, ast.Import | ast.ImportFrom) and re.search(r"\btest_\w", ast.unparse(node))
    }
    assert not bad


def test_a_process_that_a_test_starts_is_given_its_environment() -> None:
    """support/processes.py makes one in which Python imports this tree's cjkclip, and not an installed one."""
    started = [
        (where(path, node), {keyword.arg for keyword in node.keywords})
        for path, node in nodes([p for p in SOURCES if p.is_relative_to(ROOT / "tests")])
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("subprocess.")
    ]
    assert started
    assert not [place for place, keywords in started if "env" not in keywords]
