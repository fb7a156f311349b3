"""Pages of measurements with one section per processor. A run replaces its own section and keeps the others.

The text above the sections is written by hand in the page.
"""

import re
from pathlib import Path
from typing import Any

from cjkclip.machine import processor

PACKAGES = ("openvino", "torch", "transformers", "numpy")
_BEGIN = re.compile(r"^## ", re.MULTILINE)


def here() -> dict[str, Any]:
    """Return the processor, its cores, and the versions of the measured packages."""
    return processor.describe(PACKAGES)


def write(path: Path, body: str) -> None:
    """Write the results of this machine into a page."""
    description = here()
    page, section = path.read_text("utf-8"), f"{processor.software(description)}\n\n{body}"
    path.write_text(merged(page, processor.hardware(description), section), "utf-8")


def merged(page: str, heading: str, body: str) -> str:
    """Return `page` with the new section before the others and without an older section of the same heading.

    >>> merged("# Speed\\n\\n## A, 2 cores\\n\\n5\\n\\n## B, 2 cores\\n\\n7\\n", "B, 2 cores", "9")
    '# Speed\\n\\n## B, 2 cores\\n\\n9\\n\\n## A, 2 cores\\n\\n5\\n'
    """
    top, *sections = _BEGIN.split(page)
    others = [section for section in sections if section.partition("\n")[0].strip() != heading]
    return "\n\n## ".join(part.strip("\n") for part in (top, f"{heading}\n\n{body}", *others)) + "\n"
