"""What every command shares: results and problems, tables for people, JSON for machines, exit codes.

Results go to standard output, everything else to standard error. With --json, standard output holds one JSON
object and nothing else. Control characters in names and queries are shown as escapes, never sent as they are.
"""

import errno
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO, cast

import typer
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from cjkclip.checkpoints import hub
from cjkclip.errors import CheckpointError, CjkclipError, EngineError, InputError, MissingDependencyError

LONGEST_TITLE = 120
NO_EDGE = 1_000_000  # columns of a pipe or a file
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ON_WINDOWS = sys.platform == "win32"
SCHEMA = 1  # of the JSON; raised when a field changes its meaning or goes

OK, SOME_FAILED, USAGE, MODEL, INPUT, MISSING, INTERRUPTED, BROKEN_PIPE, TERMINATED = 0, 1, 2, 3, 4, 5, 130, 141, 143

EXIT_CODES = (
    "Exit codes: 0 all answered; 1 some inputs could not be used, the others were answered, or what was compared "
    "differs; 2 wrong usage; 3 a model or gallery could not be loaded; 4 no input could be used; 5 something is not "
    "installed or not possible here; 130 interrupted, 143 ended by SIGTERM."
)

# Controls, marks that reorder or hide text, line separators, lone surrogates (undecodable bytes of a name).
_UNSAFE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\xad\\u061c\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ud800-\\udfff]"
)


def safe(text: str) -> str:
    r"""`text` with everything that could move the cursor, hide or reorder text shown as an escape.

    >>> safe("a\x1b[31mb"), safe("\udcff"), safe("ねこ")
    ('a\\x1b[31mb', '\\xff', 'ねこ')
    """
    return _UNSAFE.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # what os.fsdecode makes of a byte that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def cell(text: str, style: str = "") -> Text:
    """`text` for a table: safe, and never read as markup."""
    return Text(safe(text), style=style, overflow="fold")


def say(*lines: str) -> None:
    """Lines to standard error, as a rule one. A line feed within a line comes from a name, and is escaped."""
    sys.stderr.write("\n".join(map(safe, (f"cjkclip: {lines[0]}", *lines[1:]))) + "\n")


def exit_code(error: CjkclipError) -> int:
    """The exit code that stands for an error."""
    if isinstance(error, CheckpointError):
        return MODEL
    if isinstance(error, InputError):
        return INPUT
    return MISSING if isinstance(error, EngineError | MissingDependencyError) else SOME_FAILED


class _Screen(Console):
    """rich's console, but for its way to leave when the reader has gone. Only a terminal has an edge to fold at."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = NO_EDGE

    def on_broken_pipe(self) -> None:
        """rich would exit with 1, which here means that some inputs failed."""
        raise typer.Exit(leave_broken_pipe())


class _Notes(logging.Handler):
    """What the library tells on the way becomes a note at once."""

    def __init__(self, note: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._note = note

    def emit(self, record: logging.LogRecord) -> None:
        """One note."""
        self._note(record.getMessage())


class Report:
    """The answer of one command, in the making. A context; leaving it prints and sets the exit code."""

    def __init__(self, command: str, *, as_json: bool) -> None:
        """`command` names the report in JSON."""
        self.as_json = as_json
        self.answer: dict[str, Any] = {"schema": SCHEMA, "command": command}
        self.problems: list[dict[str, str]] = []
        self.notes: list[str] = []
        self._warnings = warnings.catch_warnings(record=True)
        self._seen: list[warnings.WarningMessage] = []
        self._quiet = ExitStack()

    def __enter__(self) -> "Report":
        """Listen to warnings."""
        if self.as_json:
            self._quiet.enter_context(hub.silence())
        self._quiet.enter_context(_hearing(_Notes(self.note)))
        self._seen = self._warnings.__enter__()
        warnings.simplefilter("always", UserWarning)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Print what there is to say. A CjkclipError becomes a message and an exit code."""
        self._quiet.close()
        self._warnings.__exit__(kind, error, trace)
        if error is not None and not isinstance(error, CjkclipError):
            return
        for text in dict.fromkeys(str(warning.message) for warning in self._seen):
            self.note(text)
        if error is not None:
            say(f"error: {error.lines[0]}", *error.lines[1:])
            self._emit({"error": {"kind": type(error).__name__, "message": str(error)}})
            raise typer.Exit(exit_code(error)) from None
        self._emit(self.answer)
        if self.problems:
            raise typer.Exit(SOME_FAILED)

    def note(self, message: str) -> None:
        """Something worth knowing that is no failure."""
        self.notes.append(message)
        say(f"note: {message}")

    def problem(self, name: str, error: CjkclipError) -> None:
        """An input that could not be used, while others could."""
        self.problems.append({"input": name, "kind": type(error).__name__, "message": str(error)})
        said = error.lines[0]
        say(said if name in said else f"{name}: {said}", *error.lines[1:])

    def take(self, kind: type[Warning]) -> int:
        """How many warnings of a kind have come; they are the caller's to tell now."""
        taken = [warning for warning in self._seen if issubclass(warning.category, kind)]
        for warning in taken:
            self._seen.remove(warning)
        return len(taken)

    def require_results(self) -> None:
        """Raise InputError when every input had a problem."""
        if self.problems and not self.answer["results"]:
            raise InputError("nothing is left to answer: see above")

    def show(self, *shown: RenderableType) -> None:
        """Print lines and tables for people; nothing with --json."""
        if not self.as_json:
            console = _Screen()
            if console.width < NO_EDGE:
                console.print(*shown, sep="\n", crop=False)
                return
            with console.capture() as held:
                console.print(*shown, sep="\n", crop=False)
            lines = held.get().split("\n")
            with _read():
                sys.stdout.write("\n".join(line.rstrip(" ") for line in lines))  # rich fills up to the edge
                sys.stdout.flush()

    def show_titled(self, title: str, table: Table) -> None:
        """A table under its title, and a blank line. Of a very long title the beginning is shown."""
        if len(title) > LONGEST_TITLE:
            title = f"{title[:LONGEST_TITLE]}… ({len(title):,} characters)"
        self.show(cell(title, "bold"), table, "")

    @contextmanager
    def progress(self, what: str, total: int) -> Generator[Callable[[int], None]]:
        """A bar on standard error, if that is a terminal; the function takes how many are done."""
        console = Console(stderr=True)
        if not console.is_terminal:  # rich before 14 ends even a bar that is disabled with a line feed
            yield lambda _: None
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda done: bar.update(task, completed=done)

    def whole(self, answer: dict[str, Any]) -> dict[str, Any]:
        """An answer with what goes around it: the schema in front, problems and notes at the end."""
        ends = {"problems": self.problems, "notes": self.notes}
        return {"schema": SCHEMA, "command": self.answer["command"], **answer, **ends}

    def _emit(self, answer: dict[str, Any]) -> None:
        if self.as_json:
            write_json(self.whole(answer))


def json_text(answer: dict[str, Any]) -> str:
    """One JSON object. Only what UTF-8 or a terminal cannot bear is escaped; on Windows, whose PowerShell takes the
    output of programs for another encoding, all that is not ASCII.
    """
    text = json.dumps(answer, ensure_ascii=ON_WINDOWS, indent=2, allow_nan=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ud800-\udfff]", lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


@contextmanager
def _hearing(handler: logging.Handler) -> Generator[None]:
    """`handler` hears what cjkclip logs."""
    log = logging.getLogger("cjkclip")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.setLevel(level)
        log.removeHandler(handler)


def write_json(answer: dict[str, Any]) -> None:
    """One JSON object in UTF-8 to standard output."""
    with _read():
        sys.stdout.buffer.write(json_text(answer).encode())
        sys.stdout.buffer.flush()


@contextmanager
def _read() -> Generator[None]:
    """Around writing to standard output, whose reader may have gone: typer would exit with 1, like rich."""
    try:
        yield
    except BrokenPipeError:
        raise typer.Exit(leave_broken_pipe()) from None


def ready_streams() -> bool:
    """Whether there is somewhere to print. Escapes stand where the terminal's encoding lacks a character.

    What goes into files and pipes on Windows is UTF-8, where Python would take the code page of the system.
    """
    if cast(TextIO | None, sys.stderr) is None:  # closed, as by a shell's 2>&-
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    if cast(TextIO | None, sys.stdout) is None:
        say("error: standard output is closed: open it, as with >/dev/null")
        return False
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
            if ON_WINDOWS and not stream.isatty():
                reconfigure(encoding="utf-8")
    return True


def leave_broken_pipe() -> int:
    """The reader has gone (`cjkclip ... | head`): say nothing, not even when Python closes the stream."""
    _leave_output()
    return BROKEN_PIPE


def leave_full(error: OSError) -> int:
    """Standard output takes no more, as on a full disk: say so. Raises `error` if it was about something else."""
    if ON_WINDOWS and error.errno == errno.EINVAL and error.filename is None:
        return leave_broken_pipe()  # that is how Windows says it
    full = error if error.errno in NO_ROOM and error.filename is None else None
    try:
        sys.stdout.flush()  # what could not be written is still held, if it ever is, and fails again
    except OSError as again:
        full = again
    if full is None:
        raise error
    _leave_output()
    say(f"error: standard output cannot be written: {full.strerror or full}")
    return MISSING


def _leave_output() -> None:
    """Let Python close standard output without a word."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
