"""Pages of measurements: a section for each processor. A run replaces its own and leaves the others as they stand.

What stands above the sections is written by hand, in the page.
"""

import re
from pathlib import Path
from typing import Any

from cjkclip.machine import processor

PACKAGES = ("openvino", "torch", "transformers", "numpy")
_BEGIN = re.compile(r"^## ", re.MULTILINE)


def here() -> dict[str, Any]:
    """The processor, its cores, and the packages that take part."""
    return processor.describe(PACKAGES)


def write(path: Path, body: str) -> None:
    """Put what was measured on this machine into a page."""
    found = here()
    page, said = path.read_text("utf-8"), f"{processor.software(found)}\n\n{body}"
    path.write_text(merged(page, processor.hardware(found), said), "utf-8")


def merged(page: str, heading: str, body: str) -> str:
    """`page` with a new section on top of the others, and without the older one of that heading.

    >>> merged("# Speed\\n\\n## A, 2 cores\\n\\n5\\n\\n## B, 2 cores\\n\\n7\\n", "B, 2 cores", "9")
    '# Speed\\n\\n## B, 2 cores\\n\\n9\\n\\n## A, 2 cores\\n\\n5\\n'
    """
    top, *sections = _BEGIN.split(page)
    others = [section for section in sections if section.partition("\n")[0].strip() != heading]
    return "\n\n## ".join(part.strip("\n") for part in (top, f"{heading}\n\n{body}", *others)) + "\n"
