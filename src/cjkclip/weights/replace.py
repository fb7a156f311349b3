"""Writing a file whole or not at all."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from cjkclip.errors import WeightsError


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO]:
    """A file to write beside `path`, moved there at the end, so that no reader ever meets half a file.

    Nothing is left behind when the writing fails. Raises WeightsError if the disk refuses.
    """
    beside = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
    try:
        with beside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be written: {error}") from error
    finally:
        beside.unlink(missing_ok=True)
