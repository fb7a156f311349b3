"""The command line: `cjkclip COMMAND`, with the same names as in Python.

Each command is a thin layer over public functions. A CjkclipError never ends in a traceback.
"""

import re
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, cast

import typer
from typer.core import TyperGroup

from cjkclip import __version__
from cjkclip.cli import bench, classify, convert, doctor, embed, models, search, train, verify
from cjkclip.cli.options import spread
from cjkclip.cli.report import EXIT_CODES
from cjkclip.cli.streams import (
    INTERRUPTED,
    MISSING,
    TERMINATED,
    USAGE,
    leave_broken_pipe,
    leave_full,
    ready_streams,
    safe,
)

__all__ = ["app", "main"]


# The base of typer's errors, the class below Exception. Newer versions call it TyperException, older ones use click's.
_UsageError = cast(type[Exception], typer.BadParameter.__mro__[-4])
_ENDINGS = {INTERRUPTED: "interrupted", TERMINATED: "terminated"}


class _Terminated(BaseException):
    """SIGTERM was received. It unwinds the stack as KeyboardInterrupt does, so that open files are closed."""


class _Group(TyperGroup):
    """The group of all commands, which ends with our exit codes."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command and exit with its code."""
        del standalone_mode, windows_expand_args  # click would expand ~ and * in texts as if they were paths
        if not ready_streams():
            sys.exit(MISSING)
        try:
            code = super().main(args, prog_name, complete_var, False, False, **extra)
            sys.stdout.flush()
        except _UsageError as error:
            sys.exit(_usage(error))
        except (KeyboardInterrupt, typer.Abort):
            code = INTERRUPTED
        except _Terminated:
            code = TERMINATED
        except BrokenPipeError:
            code = leave_broken_pipe()
        except OSError as error:
            code = leave_full(error)
        if code in _ENDINGS:
            sys.stderr.write(f"cjkclip: {_ENDINGS[code]}\n")
        sys.exit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: Any) -> Any:
        """Run a command, without the empty line that older versions of typer write after Ctrl-C."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            return INTERRUPTED

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command. click before 8.2 reads an unknown word with a leading sign as an option, and shows help."""
        word = args[0]
        if not word[:1].isalnum() and not word.startswith("-") and self.get_command(ctx, word) is None:
            ctx.fail(f"No such command {word!r}.")
        return super().resolve_command(ctx, args)


def _usage(raised: Exception) -> int:
    error: Any = raised
    context = getattr(error, "ctx", None)
    command = "cjkclip" if context is None else context.command_path
    text = error.message if getattr(error, "param", None) is None else error.format_message()
    message = safe(re.sub(r"\s+", " ", text).strip())
    sys.stderr.write(f"{command}: {message}\nTry '{command} --help'.\n")
    return USAGE


def _version(requested: bool) -> bool:
    if requested:
        sys.stdout.write(f"cjkclip {__version__}\n")
        raise typer.Exit
    return requested


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    epilog=EXIT_CODES,
)


@app.callback()
def start(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """CLIP models for Chinese, Japanese, Korean and English: classify, embed and search images."""
    del version


for _module in (models, classify, search, embed, train, convert, verify, bench, doctor):
    app.command(epilog=EXIT_CODES)(spread(getattr(_module, _module.__name__.rpartition(".")[2])))


def _terminate(*_: object) -> None:
    raise _Terminated


def main() -> None:
    """Run the program `cjkclip`."""
    signal.signal(signal.SIGTERM, _terminate)
    app(prog_name="cjkclip")
