"""Writing a file whole or not at all."""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from cjkclip.errors import WeightsError


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """A file to write beside `path`, moved there at the end, so that no reader ever meets half a file.

    Nothing is left behind when the writing fails. Raises WeightsError if the disk refuses.
    """
    beside = path.with_name(f".{os.urandom(8).hex()}.part")  # short: the longest name that `path` may have fits
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be written: {error}") from error
    finally:
        with suppress(OSError):  # what cannot be made cannot be unlinked either
            beside.unlink(missing_ok=True)
