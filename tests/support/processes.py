"""Python in a process of its own, which imports this tree's cjkclip and not an installed one."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

TESTS = Path(__file__).parents[1]
SRC = TESTS.parent / "src"


def environment(*path: Path, **more: str) -> dict[str, str]:
    """Return this process's environment, in which Python imports from `path`, then from this tree's src."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*path, SRC))), **more}


def python(
    *words: str | Path,
    path: Sequence[Path] = (),
    cwd: Path | None = None,
    typed: str | None = None,
    timeout: float | None = None,
    **env: str,
) -> subprocess.CompletedProcess[str]:
    """Run `python WORDS`, with `typed` as standard input; return the exit code and what was printed."""
    return subprocess.run(
        [sys.executable, *map(str, words)],
        env=environment(*path, **env),
        cwd=cwd,
        input=typed,
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )


def printed(*words: str | Path, path: Sequence[Path] = (), typed: str | None = None, **env: str) -> str:
    """Return the standard output of `python WORDS`, which must succeed."""
    done = python(*words, path=path, typed=typed, **env)
    assert done.returncode == 0, done.stderr
    return done.stdout
