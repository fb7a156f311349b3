"""How the code is written, checked: how long things may be, docstrings, names, words."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.sources import OURS, SOURCES, TESTS, nodes, where

OPENINGS = re.compile(r"(?:What|Who|Those|Whoever|Whatever)\b(?![^.?!]*\?)")
EMPTY = re.compile(r"Refuses:? nothing")
TWICE = {"CLIP"}  # open_clip and transformers both publish a class of this name


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


def prose(paths: list[Path]) -> Iterator[tuple[str, str]]:
    """Yield docstrings, and, except for tests, the texts of messages: a place and the text, whose values are {}."""
    for path, node in nodes(paths):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield where(path, None if isinstance(node, ast.Module) else node), ast.get_docstring(node) or ""
        elif isinstance(node, ast.Call) and not path.is_relative_to(TESTS):
            for argument in (*node.args, *(keyword.value for keyword in node.keywords)):
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    yield where(path, argument), argument.value
                elif isinstance(argument, ast.JoinedStr):
                    parts = (v.value if isinstance(v, ast.Constant) else "{}" for v in argument.values)
                    yield where(path, argument), "".join(map(str, parts))


def test_no_docstring_or_message_begins_with_the_worst_habits() -> None:
    """Sentences open with their subject. A question may open with "What" or "Who"."""
    texts = list(prose(SOURCES))
    assert len(texts) > 1000
    bad = []
    for place, text in texts:
        openings = [sentence for sentence in re.split(r"(?<=[.:;])\s+|\n\n", text) if OPENINGS.match(sentence)]
        bad += [f"{place}: {sentence[:80]}" for sentence in openings]
        bad += [f"{place}: {match[0]}" for match in EMPTY.finditer(text)]
    assert not bad


@pytest.mark.parametrize(
    ("text", "bad"),
    [("What a file says.", True), ("Who asks?", False), ("Opens. Those that fail.", True), ("Whatever.", True)],
)
def test_the_habits_are_recognised(text: str, bad: bool) -> None:
    assert any(OPENINGS.match(sentence) for sentence in re.split(r"(?<=[.:;])\s+", text)) == bad


def test_a_class_name_has_one_meaning() -> None:
    named = Counter(node.name for _, node in nodes(OURS) if isinstance(node, ast.ClassDef))
    assert not {name for name, count in named.items() if count > 1 and not name.startswith("_")} - TWICE


def test_a_test_module_imports_from_no_other_test_module() -> None:
    """Shared code belongs to tests/support, fixtures to conftest.py."""
    bad = {
        where(path, node): ast.unparse(node)
        for path, node in nodes([p for p in SOURCES if p.is_relative_to(TESTS)])
        if isinstance(node, ast.Import | ast.ImportFrom) and re.search(r"\btest_\w", ast.unparse(node))
    }
    assert not bad


def test_a_process_that_a_test_starts_is_given_its_environment() -> None:
    """support/processes.py makes one in which Python imports this tree's cjkclip, and not an installed one."""
    started = [
        (where(path, node), {keyword.arg for keyword in node.keywords})
        for path, node in nodes([p for p in SOURCES if p.is_relative_to(TESTS)])
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("subprocess.")
    ]
    assert started
    assert not [place for place, keywords in started if "env" not in keywords]
