"""The standard streams: closed, full and broken ones, their encodings, and text that is safe to print.

Control characters in names and queries are printed as escapes.
"""

import errno
import os
import re
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, cast

import typer

from cjkclip.errors import without_secrets

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ON_WINDOWS = sys.platform == "win32"
OK, SOME_FAILED, USAGE, MODEL, INPUT, MISSING, INTERRUPTED, BROKEN_PIPE, TERMINATED = 0, 1, 2, 3, 4, 5, 130, 141, 143

# Control characters, marks that reorder or hide text, line separators, lone surrogates (undecodable bytes of a name).
_UNSAFE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\xad\\u061c\\u200b\\u200e\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ud800-\\udfff]"
)


def safe(text: str) -> str:
    r"""Escape everything in `text` that could move the cursor, or hide or reorder text; cut secrets out of URLs.

    >>> safe("a\x1b[31mb"), safe("\udcff"), safe("ねこ")
    ('a\\x1b[31mb', '\\xff', 'ねこ')
    """
    return _UNSAFE.sub(_escape, without_secrets(text))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # os.fsdecode returns this for a byte that is not UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def say(*lines: str) -> None:
    """Print lines to standard error. A line feed inside a line comes from a name and is escaped."""
    sys.stderr.write("\n".join(map(safe, (f"cjkclip: {lines[0]}", *lines[1:]))) + "\n")


@contextmanager
def _reader() -> Generator[None]:
    """Exit with our code if the reader of standard output has closed it; typer and rich would exit with 1."""
    try:
        yield
    except BrokenPipeError:
        raise typer.Exit(leave_broken_pipe()) from None


def write(text: str) -> None:
    """Write `text` to standard output, in the encoding of that stream."""
    with _reader():
        sys.stdout.write(text)
        sys.stdout.flush()


def write_utf8(text: str) -> None:
    """Write `text` to standard output in UTF-8, whatever the encoding of that stream."""
    with _reader():
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()


def ready_streams() -> bool:
    """Prepare the streams; return False if standard output is closed. Characters that the encoding lacks are escaped.

    On Windows, files and pipes get UTF-8, because Python would use the code page of the system.
    """
    if cast(TextIO | None, sys.stderr) is None:  # closed, for example by 2>&-
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    if cast(TextIO | None, sys.stdout) is None:
        say("error: standard output is closed: open it, for example with >/dev/null")
        return False
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
            if ON_WINDOWS and not stream.isatty():
                reconfigure(encoding="utf-8")
    return True


def leave_broken_pipe() -> int:
    """End silently because the reader has closed the pipe (`cjkclip ... | head`)."""
    _leave_output()
    return BROKEN_PIPE


def leave_full(error: OSError) -> int:
    """Report that standard output cannot be written, for example on a full disk. Raises `error` for another cause."""
    if ON_WINDOWS and error.errno == errno.EINVAL and error.filename is None:
        return leave_broken_pipe()  # Windows reports a broken pipe in this way
    full = error if error.errno in NO_ROOM and error.filename is None else None
    try:
        sys.stdout.flush()  # the buffer may still contain the rest, which fails again
    except OSError as again:
        full = again
    if full is None:
        raise error
    _leave_output()
    say(f"error: standard output cannot be written: {full.strerror or full}")
    return MISSING


def _leave_output() -> None:
    """Point standard output to the null device, so that Python closes it without a message."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
