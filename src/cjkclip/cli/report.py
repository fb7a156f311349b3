"""The report of one command: results and problems, tables for people, JSON for machines, exit codes.

Results go to standard output, everything else to standard error. With --json, standard output contains one JSON
object and nothing else.
"""

import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Generator, Mapping, Sized
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Protocol, runtime_checkable

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from cjkclip import answers
from cjkclip.answers import records
from cjkclip.checkpoints import hub
from cjkclip.cli.streams import (
    INPUT,
    MISSING,
    MODEL,
    ON_WINDOWS,
    SOME_FAILED,
    leave_broken_pipe,
    safe,
    say,
    write,
    write_utf8,
)
from cjkclip.errors import CheckpointError, CjkclipError, EngineError, InputError, MissingDependencyError

LONGEST_TITLE = 120  # characters
NO_EDGE = 1_000_000  # columns of a pipe or a file

EXIT_CODES = (
    "Exit codes: 0 success; 1 some inputs failed, or the compared models differ; 2 wrong usage; 3 a model or gallery "
    "could not be loaded; 4 no input could be used; 5 a package is missing, or this machine lacks a feature; "
    "130 interrupted; 143 terminated by SIGTERM."
)


def cell(text: str, style: str = "") -> Text:
    """Return `text` for a table: escaped, and never read as markup."""
    return Text(safe(text), style=style, overflow="fold")


def exit_code(error: CjkclipError) -> int:
    """Return the exit code of an error."""
    if isinstance(error, CheckpointError):
        return MODEL
    if isinstance(error, InputError):
        return INPUT
    return MISSING if isinstance(error, EngineError | MissingDependencyError) else SOME_FAILED


class _Screen(Console):
    """rich's console with our exit code for a broken pipe. It wraps lines only in a terminal."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = NO_EDGE

    def on_broken_pipe(self) -> None:
        """Exit with our code; rich would exit with 1, which here means that some inputs failed."""
        raise typer.Exit(leave_broken_pipe())


class _Notes(logging.Handler):
    """Print the library's log messages as notes."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        """Print one note."""
        self._note(record.getMessage())


@runtime_checkable
class Advance(Protocol):
    """A function that moves a progress bar; `total` is passed if it was not known before."""

    def __call__(self, done: int, total: int | None = None) -> None:
        """Show `done` of `total` items."""
        ...


class Report:
    """The answer of one command, as a context manager. Its end prints the answer and sets the exit code."""

    def __init__(self, command: str, *, as_json: bool) -> None:
        """Start a report; `command` is its name in JSON."""
        self.as_json = as_json
        self.command = command
        self.answer: Mapping[str, object] = {}  # one of `answers`
        self.problems: list[records.Problem] = []
        self.notes: list[str] = []
        self._warnings = warnings.catch_warnings(record=True)
        self._caught: list[warnings.WarningMessage] = []
        self._quiet = ExitStack()

    def __enter__(self) -> "Report":
        """Start to collect warnings and log messages."""
        if self.as_json:
            self._quiet.enter_context(hub.silence())
        self._quiet.enter_context(_logging_to(_Notes(self.note)))
        self._caught = self._warnings.__enter__()
        warnings.simplefilter("always", UserWarning)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Print notes and the answer. A CjkclipError becomes a message and an exit code."""
        self._quiet.close()
        self._warnings.__exit__(kind, error, trace)
        if error is not None and not isinstance(error, CjkclipError):
            return
        for text in dict.fromkeys(str(warning.message) for warning in self._caught):
            self.note(text)
        if error is not None:
            say(f"error: {error.lines[0]}", *error.lines[1:])
            self._emit(answers.failure(error))
            raise typer.Exit(exit_code(error)) from None
        self._emit(self.answer)
        if self.problems:
            raise typer.Exit(SOME_FAILED)

    def note(self, message: str) -> None:
        """Print a message that is not an error."""
        self.notes.append(message)
        say(f"note: {message}")

    def problem(self, name: str, error: CjkclipError) -> None:
        """Print that an input could not be used; the others are still answered."""
        self.problems.append(answers.problem(name, error))
        text = error.lines[0]
        say(text if name in text else f"{name}: {text}", *error.lines[1:])

    def require_results(self, results: Sized) -> None:
        """Raise InputError if every input had a problem."""
        if self.problems and not results:
            raise InputError("none of the inputs could be used (see the messages above)")

    def show(self, *parts: RenderableType) -> None:
        """Print lines and tables; nothing with --json."""
        if not self.as_json:
            console = _Screen()
            if console.width < NO_EDGE:
                console.print(*parts, sep="\n", crop=False)
                return
            with console.capture() as capture:
                console.print(*parts, sep="\n", crop=False)
            lines = capture.get().split("\n")
            write("\n".join(line.rstrip(" ") for line in lines))  # rich pads lines up to the edge

    def show_titled(self, title: str, table: Table) -> None:
        """Print a title, a table and a blank line. A very long title is shortened."""
        if len(title) > LONGEST_TITLE:
            title = f"{title[:LONGEST_TITLE]}… ({len(title):,} characters)"
        self.show(cell(title, "bold"), table, "")

    @contextmanager
    def progress(self, title: str, total: int | None = None) -> Generator[Advance]:
        """Show a progress bar if standard error is a terminal. Yields the function that moves it."""
        console = Console(stderr=True)
        if not console.is_terminal:  # rich before 14 prints a line feed even for a disabled bar
            yield lambda done, total=None: None  # noqa: ARG005
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(title, total=total)
            yield lambda done, total=None: bar.update(task, completed=done, total=total)

    def whole(self, answer: Mapping[str, object]) -> dict[str, object]:
        """Return the complete JSON object of an answer."""
        return answers.envelope(self.command, answer, self.problems, self.notes)

    def _emit(self, answer: Mapping[str, object]) -> None:
        if self.as_json:
            write_utf8(json_text(self.whole(answer)))


@contextmanager
def _logging_to(handler: logging.Handler) -> Generator[None]:
    """Pass the log messages of cjkclip to `handler`."""
    log = logging.getLogger("cjkclip")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)


def json_text(answer: Mapping[str, object]) -> str:
    """Return one JSON object as text. Control characters and lone surrogates are escaped; on Windows, every character
    that is not ASCII, because PowerShell decodes the output of programs with another encoding.
    """
    text = json.dumps(answer, ensure_ascii=ON_WINDOWS, indent=2, allow_nan=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"
