"""Every exception of cjkclip. Catch `CjkclipError` to catch them all.

    CjkclipError
    ├── InputError (ValueError)            an argument does not fit
    │   ├── ImageError                     an image is missing, damaged, too large, or not an image
    │   ├── TextError                      a text is empty, too long, or not valid Unicode
    │   └── OptionError (TypeError)        an option is unknown, or is given twice
    ├── CheckpointError                    a model's files cannot be used
    │   ├── ModelNotFoundError (LookupError)   no such alias, release, directory or file
    │   ├── WeightsError                   a weight file is corrupt, unsafe or in an unknown format
    │   ├── LayoutError                    unknown tensors, missing parameters, wrong shapes
    │   ├── FactsError                     a config value is missing or invalid
    │   └── HubError                       the hub is unreachable, denies access or lacks the file
    ├── EngineError                        an engine, precision or device is not available here
    │   └── OutOfMemoryError (MemoryError) a batch does not fit in memory
    ├── CancelledError                     the event `cancel` of the call was set
    └── MissingDependencyError (ImportError)   an optional package is not installed

A message says what was given, what is accepted and what to do. Warnings are subclasses of UserWarning:
TruncatedTextWarning, LayoutWarning, EngineWarning.
"""

import re
from collections.abc import Sequence

# A URL of any scheme. Its user info, its query, and its fragment if that is no checksum, may be secret.
_URL = re.compile(
    r"(?P<place>\b[a-zA-Z][a-zA-Z0-9+.-]+:/{1,2})(?:[^\s/?#]*@)?(?P<path>[^\s?#'\"<>]*)"
    r"(?:\?(?:[^\s#'\"<>]*[^\s#'\"<>.,:;)])?)?(?P<fragment>#sha256=[0-9A-Fa-f]*)?(?:#(?:[^\s'\"<>]*[^\s'\"<>.,:;)])?)?"
)
MESSAGE = 4000  # characters: a damaged file may contain a very long string where a word is expected


class CjkclipError(Exception):
    """Base class of every error that cjkclip raises on purpose. The middle of a very long message is cut out, and
    so is what may be secret in a URL (see `without_secrets`).

    `listed` items follow the message, one per line. `lines` keeps them separate because names may contain line feeds.
    """

    def __init__(self, *args: object, listed: Sequence[str] = ()) -> None:
        args = tuple(_shortened(without_secrets(arg)) if isinstance(arg, str) else arg for arg in args)
        listed = [without_secrets(line) for line in listed]
        self.lines = (" ".join(map(str, args)), *_first_lines([f"  {line}" for line in listed]))
        super().__init__(*(["\n".join(self.lines)] if listed else args))


class InputError(CjkclipError, ValueError):
    """An argument does not fit."""


class ImageError(InputError):
    """An image is missing, damaged, too large, or not an image.

    `problems` contains (index, message) of every bad image in a batch.
    """

    def __init__(self, message: str, problems: Sequence[tuple[int, str]] = (), *, listed: Sequence[str] = ()) -> None:
        super().__init__(message, listed=listed)
        self.problems = tuple(problems)


class TextError(InputError):
    """A text is empty, too long, or not valid Unicode."""


class OptionError(InputError, TypeError):
    """An option is unknown, or is given twice."""


class CheckpointError(CjkclipError):
    """A model's files cannot be used."""


class ModelNotFoundError(CheckpointError, LookupError):
    """No such alias, release, directory or file."""


class WeightsError(CheckpointError):
    """A weight file is corrupt, unsafe, or in an unknown format."""


class LayoutError(CheckpointError):
    """A checkpoint has unknown tensors, missing parameters or wrong shapes."""


class FactsError(CheckpointError):
    """A config value is missing or invalid."""


class HubError(CheckpointError):
    """The hub is unreachable, denies access, or does not have the file."""


class EngineError(CjkclipError):
    """An engine, precision or device is not available here."""


class OutOfMemoryError(EngineError, MemoryError):
    """A batch does not fit in the memory of the computer or of its GPU."""


class CancelledError(CjkclipError):
    """The event that was passed as `cancel` was set, so the call ended early."""


class MissingDependencyError(CjkclipError, ImportError):
    """An optional package is not installed."""


def without_secrets(text: str) -> str:
    """Return the text with user info, query and fragment cut out of its URLs; a checksum stays.

    >>> without_secrets("'https://me:word@host/a.pt?token=x#y' and https://host/b.pt#sha256=0f")
    "'https://host/a.pt' and https://host/b.pt#sha256=0f"
    """
    return _URL.sub(lambda m: f"{m['place']}{m['path']}{m['fragment'] or ''}", text) if ":/" in text else text


class TruncatedTextWarning(UserWarning):
    """A text was longer than the context length and was cut; the message contains its index."""


class LayoutWarning(UserWarning):
    """A model was saved in a layout that tokenizes some texts differently; the message lists the rules."""


class EngineWarning(UserWarning):
    """The best engine for this machine cannot be used; the message gives the reason and the engine used instead."""


def _shortened(arg: str) -> str:
    if len(arg) <= MESSAGE:
        return arg
    return f"{arg[: MESSAGE - 1010]} [...] {arg[-1000:]}"


def _first_lines(lines: Sequence[str]) -> Sequence[str]:
    """Return the first lines that fit in a message, and the number of those left out."""
    room = MESSAGE
    for at, line in enumerate(lines):
        room -= len(line) + 1
        if room < 0:
            return [*lines[:at], f"  ... and {len(lines) - at} more"]
    return lines
