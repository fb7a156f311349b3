"""Python in a process of its own, which imports this tree's cjkclip and not an installed one."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from support.sources import TESTS

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


def printed(*words: str | Path, **options: Any) -> str:
    """Return the standard output of `python WORDS`, which must succeed. `options` are those of `python`."""
    done = python(*words, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout
