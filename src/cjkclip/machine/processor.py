"""A description of this machine, without any information about its owner or the location of its files."""

import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cjkclip.machine.limits import cores

# name and flags of Linux and macOS; one of the flags is enough
INT8 = (
    ("AVX-512 VNNI", {"avx512_vnni"}),
    ("AVX VNNI", {"avx_vnni"}),
    ("AMX", {"amx_int8", "amx_bf16"}),
    ("I8MM", {"i8mm"}),
)
BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
PACKAGES = ("cjkclip", "openvino", "torch", "numpy", "pillow", "tokenizers")


def describe(packages: tuple[str, ...] = PACKAGES) -> dict[str, Any]:
    """Return the processor, its fast number formats, the cores of this process, system, Python and package versions."""
    versions: dict[str, str] = {}
    for package in packages:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "processor": name(),
        "multiplies": multiplies(cpu_text()),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": versions,
    }


def sentence(machine: dict[str, Any]) -> str:
    """Return the result of `describe` in one line."""
    return f"{hardware(machine)}; {software(machine)}"


def hardware(machine: dict[str, Any]) -> str:
    """Return the part of `describe` about hardware, in one line."""
    cores = f"{machine['cores']} core{'' if machine['cores'] == 1 else 's'}"
    return ", ".join((machine["processor"], cores, *machine["multiplies"]))


def software(machine: dict[str, Any]) -> str:
    """Return the part of `describe` about software, in one line."""
    return "; ".join((f"Python {machine['python']}", ", ".join(f"{n} {v}" for n, v in machine["packages"].items())))


def name() -> str:
    """Return the processor's name, or its architecture if the system does not report a name."""
    match = re.search(r"^(?:model name\s*:|machdep\.cpu\.brand_string:)\s*(.+)$", cpu_text(), re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def multiplies(text: str) -> list[str]:
    """Return the int8 instructions of a processor, and whether it multiplies bf16; [] if `text` has no flags.

    >>> multiplies("flags : avx2 avx512_vnni")
    ['AVX-512 VNNI', 'no bf16']
    """
    flags = set(" ".join(re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)).split())
    flags |= {name.lower() for name in re.findall(r"^hw\.optional\.(?:arm\.FEAT_)?(\w+): 1$", text, re.MULTILINE)}
    if not flags:
        return []
    return [*(name for name, signs in INT8 if flags & signs), "bf16" if flags & BF16 else "no bf16"]


def cpu_text() -> str:
    """Return the system's description of its processor: /proc/cpuinfo, or the output of sysctl, or an empty text."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        return path.read_text(encoding="utf-8", errors="replace")
    try:
        command = ["/usr/sbin/sysctl", "machdep.cpu.brand_string", "hw.optional"]
        process = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout
