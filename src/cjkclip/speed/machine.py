"""What this machine is, in words: nothing in them tells whose it is or where its files lie."""

import os
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("cjkclip", "openvino", "torch", "numpy", "pillow", "tokenizers")


def describe(packages: tuple[str, ...] = PACKAGES) -> dict[str, Any]:
    """Processor, cores that this process may use, system, Python, and the packages that are installed."""
    found: dict[str, str] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "processor": processor(),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": found,
    }


def sentence(machine: dict[str, Any]) -> str:
    """What `describe` found, in one line."""
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    cores = f"{machine['cores']} core{'' if machine['cores'] == 1 else 's'}"
    return f"{machine['processor']}, {cores}; Python {machine['python']}; {packages}"


def processor() -> str:
    """The processor's name, as far as the system tells."""
    name = re.search(r"^(?:model name\s*:|machdep\.cpu\.brand_string:)\s*(.+)$", cpu_text(), re.MULTILINE)
    return name[1] if name else platform.processor() or platform.machine()


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_text() -> str:
    """What the system says of its processor, unread: /proc/cpuinfo, or sysctl's lines, or nothing."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    try:
        command = ["/usr/sbin/sysctl", "machdep.cpu.brand_string", "hw.optional"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
