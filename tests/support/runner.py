"""Commands run inside the test's process, with standard output and standard error kept apart."""

import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from typer.testing import CliRunner, Result

from cjkclip.cli import app

# click before 8.2 writes standard error into standard output, unless its runner is called with this.
_APART: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}


class _Runner(CliRunner):
    @contextmanager
    def isolation(self, *args: Any, **named: Any) -> Iterator[Any]:
        """Write standard error through: click before 8.2 reads it without flushing, and would miss buffered text."""
        with super().isolation(*args, **named) as streams:
            sys.stderr.reconfigure(write_through=True)  # pyright: ignore[reportAttributeAccessIssue]
            yield streams


def invoke(args: Sequence[str], *, typed: str | None = None, env: Mapping[str, str | None] | None = None) -> Result:
    """Run `cjkclip ARGS`."""
    return _Runner(env=env, **_APART).invoke(app, args, input=typed)
