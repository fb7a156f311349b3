"""Every exception of cjkclip. Catch `CjkclipError` to catch them all.

    CjkclipError
    ├── InputError (ValueError)            what the caller handed over does not fit
    │   ├── ImageError                     a picture is missing, damaged, too large or no picture at all
    │   ├── TextError                      a text is empty, too long, or not valid Unicode
    │   └── OptionError (TypeError)        an option that nobody reads, or that is given twice
    ├── CheckpointError                    something about a model's files
    │   ├── ModelNotFoundError (LookupError)   no such alias, release, folder or file
    │   ├── WeightsError                   a weight file is corrupt, unsafe or of an unknown container
    │   ├── LayoutError                    tensors without a place, parameters without a tensor, wrong shapes
    │   ├── FactsError                     neither the file nor a release record tells a fact the arithmetic needs
    │   └── HubError                       the hub cannot be reached, refuses, or does not hold the file
    ├── EngineError                        no such engine, precision or device here
    │   └── OutOfMemoryError (MemoryError) a batch takes more memory than there is
    └── MissingDependencyError (ImportError)   an optional package is not installed

A message says what came, what fits, and what to do. Warnings are UserWarnings of their own: TruncatedTextWarning,
LayoutWarning, EngineWarning.
"""

from collections.abc import Sequence

MESSAGE = 4000  # characters: what a damaged file holds in the place of a word may be of any length


class CjkclipError(Exception):
    """Base of every error that cjkclip raises on purpose. A very long message loses its middle.

    What it lists comes behind the message, a line each; `lines` holds them apart, since names may hold line feeds.
    """

    def __init__(self, *args: object, listed: Sequence[str] = ()) -> None:
        args = tuple(_shortened(arg) for arg in args)
        self.lines = (" ".join(map(str, args)), *_fitting([f"  {line}" for line in listed]))
        super().__init__(*(["\n".join(self.lines)] if listed else args))


class InputError(CjkclipError, ValueError):
    """What the caller handed over does not fit."""


class ImageError(InputError):
    """A picture is missing, damaged, too large, or no picture at all.

    `problems` holds (index, message) of every bad picture of a batch.
    """

    def __init__(self, message: str, problems: Sequence[tuple[int, str]] = (), *, listed: Sequence[str] = ()) -> None:
        super().__init__(message, listed=listed)
        self.problems = tuple(problems)


class TextError(InputError):
    """A text is empty, too long, or not valid Unicode."""


class OptionError(InputError, TypeError):
    """An option that nobody reads, or that is given twice."""


class CheckpointError(CjkclipError):
    """Something about a model's files."""


class ModelNotFoundError(CheckpointError, LookupError):
    """No such alias, release, folder or file."""


class WeightsError(CheckpointError):
    """A weight file is corrupt, unsafe, or of an unknown container."""


class LayoutError(CheckpointError):
    """Tensors without a place, parameters without a tensor, or wrong shapes."""


class FactsError(CheckpointError):
    """Neither the file nor a release record tells a fact that the arithmetic needs."""


class HubError(CheckpointError):
    """The hub cannot be reached, refuses, or does not hold the file."""


class EngineError(CjkclipError):
    """No such engine, precision or device here."""


class OutOfMemoryError(EngineError, MemoryError):
    """A batch takes more memory than there is, of the computer or of its GPU."""


class MissingDependencyError(CjkclipError, ImportError):
    """An optional package is not installed."""


class TruncatedTextWarning(UserWarning):
    """A text was longer than the model reads and was cut; the message says which."""


class LayoutWarning(UserWarning):
    """A model was saved in a layout that reads some texts by other rules; the message says which rules."""


class EngineWarning(UserWarning):
    """The best engine for this machine cannot be used; the message says why, and which one is."""


def _shortened(arg: object) -> object:
    if not isinstance(arg, str) or len(arg) <= MESSAGE:
        return arg
    return f"{arg[: MESSAGE - 1010]} [...] {arg[-1000:]}"


def _fitting(lines: Sequence[str]) -> Sequence[str]:
    """The first lines, as many as a message has room for, and how many more there are."""
    room = MESSAGE
    for at, line in enumerate(lines):
        room -= len(line) + 1
        if room < 0:
            return [*lines[:at], f"  ... and {len(lines) - at} more"]
    return lines
