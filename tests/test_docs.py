"""The documentation runs: python and console blocks of README.md and docs/ are executed as a reader would.

The blocks of one page share one namespace and one empty folder, top to bottom. In a console block the lines
that open with `$ ` are commands; those of cjkclip are run, and must print the words that the page shows below, in the
same order and as often (numbers may differ). A block whose fence says `hub` needs the network: `make test-hub` runs it.
"""

import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from cjkclip.checkpoints.families import families
from support.pages import is_shown
from support.processes import environment
from support.sources import ROOT, SRC

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = [*PAGES, ROOT / "CHANGELOG.md", ROOT / "Makefile", ROOT / "pyproject.toml"]


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block of a page: `line` is where its code starts."""

    language: str
    hub: bool
    line: int
    code: str


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order.

    >>> [(b.language, b.hub, b.line, b.code) for b in blocks("a\\n```python hub\\nx = 1\\n```\\n")]
    [('python', True, 3, 'x = 1\\n')]
    """
    found: list[Block] = []
    for match in re.finditer(r"^```(\w+)([^\n]*)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, match.start(3)) + 1
        hub = "hub" in match[2].split()
        found.append(Block(language=match[1], hub=hub, line=line, code=match[3]))
    return found


def commands(code: str) -> list[tuple[list[str], str]]:
    """The commands of a console block, split as a shell would, each with the output shown below it.

    >>> commands("$ cjkclip models\\nmoji\\n$ make demo\\n")
    [(['cjkclip', 'models'], 'moji\\n'), (['make', 'demo'], '')]
    """
    parts = re.split(r"^\$ ", code.replace("\\\n", " "), flags=re.MULTILINE)[1:]
    return [(shlex.split(line), shown) for line, _, shown in (part.partition("\n") for part in parts)]


def run_console(block: Block, page: Path, *, hub: bool) -> None:
    """Run the block's cjkclip commands in the current folder."""
    for command, shown in commands(block.code):
        if command[0] != "cjkclip":
            continue
        env = environment(COLUMNS="120", HF_HUB_OFFLINE=str(int(not hub)))
        program = [
            sys.executable,
            "-W",
            "error",
            "-c",
            "import sys; from cjkclip.cli import main; sys.exit(main())",
        ]
        both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}  # in the order in which a reader sees them
        done = subprocess.run([*program, *command[1:]], env=env, text=True, check=False, **both)
        place = f"{page.name}:{block.line}: {shlex.join(command)}"
        assert done.returncode == 0, f"{place}\n{done.stdout}"
        assert is_shown(shown, done.stdout), f"{place} shows\n{shown}\nand prints\n{done.stdout}"


def run_page(page: Path, *, hub: bool) -> None:
    """Run a page's blocks in the current folder; without `hub` those that need the network are left out."""
    namespace: dict[str, object] = {"__name__": "page"}
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.hub and not hub:
            continue
        if block.language == "python":
            lines = "\n" * (block.line - 1) + block.code  # so that a traceback names the page's own line
            exec(compile(lines, str(page), "exec"), namespace)
        elif block.language == "console":
            run_console(block, page, hub=hub)


def named(page: Path) -> str:
    """The id of a page in pytest's output."""
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page, hub=False)


@pytest.mark.hub
@pytest.mark.parametrize("page", PAGES, ids=named)
def test_a_page_runs_with_the_hub(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_page(page, hub=True)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_blocks_are_of_known_languages(page: Path) -> None:
    """A misspelt fence would be a block that nobody runs."""
    text = page.read_text(encoding="utf-8")
    assert {b.language for b in blocks(text)} <= {"python", "console", "mermaid", "text", "toml", "json"}
    assert len(re.findall("^```", text, flags=re.MULTILINE)) == 2 * len(blocks(text)), "a fence without a language"
    assert not [b for b in blocks(text) if b.language == "console" and not commands(b.code)], "no `$ ` line"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = [t.partition("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in t]
    assert not [t for t in targets if t and not (page.parent / t).exists()]


def test_make_targets_that_are_named_exist() -> None:
    rules = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        wanted = set(re.findall(r"(?:`|^\$ )make ([a-z-]+)", text, flags=re.MULTILINE))
        assert wanted <= rules, page.name


def test_no_text_names_a_place_on_a_machine() -> None:
    """An absolute path of the machine that something was written on helps nobody."""
    place = re.compile(r"(?<![\w.:/~-])/(?:home|root|Users|tmp|mnt|opt|srv|var|private)/|[A-Z]:\\")
    here = (str(ROOT) + "/", str(ROOT.parent) + "/" if ROOT.parent != ROOT.parent.parent else "\0")
    for path in (*TEXTS, *SRC.rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            found = place.search(line) or any(p in line for p in here)
            assert not found, f"{named(path)}:{number}: {line}"


def test_the_architecture_page_names_every_module_and_no_other() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    modules = {p.relative_to(SRC).as_posix() for p in SRC.rglob("*.py")} - {"__init__.py"}
    modules = {m.removesuffix("/__init__.py") + ("/" if m.endswith("/__init__.py") else "") for m in modules}
    told = set(re.findall(r"^#+ `([\w/.]+)`|^\| `([\w/.]+)` \|", text, flags=re.MULTILINE))
    names = {a or b for a, b in told}
    assert names == modules


def test_every_family_has_a_page() -> None:
    pages = {page.stem for page in (ROOT / "docs" / "families").glob("*.md")} - {"README"}
    assert pages == {path.stem for path in (SRC / "checkpoints" / "families").glob("*.py")} - {"__init__"}


def test_a_familys_page_shows_the_scores_that_its_releases_record() -> None:
    with_scores = {family.name for family in families() for release in family.releases if release.scores}
    assert with_scores >= {"chinese", "rinna", "taiyi"}
    for family in families():
        page = (ROOT / "docs" / "families" / f"{family.name}.md").read_text(encoding="utf-8")
        for release in family.releases:
            for what, figure in release.scores.items():
                assert what.split()[0] in page, (release.name, what)
                assert f"{figure:g}" in page or f"{figure:.2f}" in page, (release.name, what)


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [p.name[:4] for p in sorted((ROOT / "docs" / "decisions").glob("*.md"))]
    assert numbers == [f"{n:04d}" for n in range(1, len(numbers) + 1)]
