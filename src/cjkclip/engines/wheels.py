"""The engines that have a wheel on PyPI for this system, so no message recommends a package that pip cannot install.

`tools/resolve_check.py` checks these facts with pip. docs/decisions/0018 gives the reasons.
"""

import os
import platform

# engine -> Linux processor -> the oldest glibc that a release from our lower bound on runs with
GLIBC = {
    "openvino": {"x86_64": (2, 17), "aarch64": (2, 35)},
    "torch": {"x86_64": (2, 28), "aarch64": (2, 28)},
}
OTHERS = {
    "openvino": {("Darwin", "arm64"), ("Darwin", "x86_64"), ("Windows", "AMD64")},
    "torch": {("Darwin", "arm64"), ("Windows", "AMD64")},
}


def lacking(engine: str) -> str | None:
    """Return the reason why an engine's package has no wheel for this system, or None if it has one."""
    system, processor = platform.system(), platform.machine()
    if system != "Linux":
        return None if (system, processor) in OTHERS[engine] else f"{system} on {processor}"
    least, here = GLIBC[engine].get(processor), _glibc()
    if least is None:
        return f"Linux on {processor}"
    if here is None:
        return "Linux without glibc"
    if here < least:
        return "glibc {}.{}, but it needs {}.{}".format(*here, *least)
    return None


def _glibc() -> tuple[int, int] | None:
    """Return the version of glibc, or None if this system has another C library, such as musl on Alpine."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, ValueError, OSError):  # musl does not know the name
        return None
    major, minor = version.split(".")[:2] if name == "glibc" else ("", "")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None
