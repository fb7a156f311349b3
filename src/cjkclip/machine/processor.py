"""What this machine is, in words: nothing in them tells whose it is or where its files lie."""

import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cjkclip.machine.threads import cores

# names for people, and the flags of Linux and macOS, of which one is enough
INT8 = (
    ("AVX-512 VNNI", {"avx512_vnni"}),
    ("AVX VNNI", {"avx_vnni"}),
    ("AMX", {"amx_int8", "amx_bf16"}),
    ("I8MM", {"i8mm"}),
)
BF16 = {"avx512_bf16", "amx_bf16", "bf16"}
PACKAGES = ("cjkclip", "openvino", "torch", "numpy", "pillow", "tokenizers")


def describe(packages: tuple[str, ...] = PACKAGES) -> dict[str, Any]:
    """Processor, what it multiplies, cores that this process may use, system, Python, and installed packages."""
    found: dict[str, str] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "processor": name(),
        "multiplies": multiplies(cpu_text()),
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": found,
    }


def sentence(machine: dict[str, Any]) -> str:
    """What `describe` found, in one line."""
    return f"{hardware(machine)}; {software(machine)}"


def hardware(machine: dict[str, Any]) -> str:
    """Of what `describe` found, what does not change when a package does."""
    cores = f"{machine['cores']} core{'' if machine['cores'] == 1 else 's'}"
    return ", ".join((machine["processor"], cores, *machine["multiplies"]))


def software(machine: dict[str, Any]) -> str:
    """Of what `describe` found, the rest."""
    return "; ".join((f"Python {machine['python']}", ", ".join(f"{n} {v}" for n, v in machine["packages"].items())))


def name() -> str:
    """The processor's name, as far as the system tells."""
    match = re.search(r"^(?:model name\s*:|machdep\.cpu\.brand_string:)\s*(.+)$", cpu_text(), re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def multiplies(text: str) -> list[str]:
    """What a processor multiplies faster than float32, and whether bfloat16 is; nothing if `text` has no flags.

    >>> multiplies("flags : avx2 avx512_vnni")
    ['AVX-512 VNNI', 'no bf16']
    """
    flags = set(" ".join(re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)).split())
    flags |= {name.lower() for name in re.findall(r"^hw\.optional\.(?:arm\.FEAT_)?(\w+): 1$", text, re.MULTILINE)}
    if not flags:
        return []
    return [*(name for name, signs in INT8 if flags & signs), "bf16" if flags & BF16 else "no bf16"]


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
