"""Check where cjkclip can be installed: pip resolves the base and the extras for each Python and system.

    python tools/resolve_check.py [3.12 3.13 ...]

Nothing is installed. pip is called with --only-binary, so a package without a wheel counts as missing. pip chooses
wheels by --platform and --python-version but evaluates markers for its own system, so this sets the target's markers.
"""

import json
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# Runs pip in a process whose markers are those of another system. The name is pip's own copy of packaging.
PIP = """
import json, sys
from pip._vendor.packaging import markers
target, arguments = json.loads(sys.argv[1]), sys.argv[2:]
mine = markers.default_environment()
markers.default_environment = lambda: mine | target
assert markers.Marker(f"sys_platform == '{target['sys_platform']}'").evaluate()
assert markers.Marker(f"python_version == '{target['python_version']}'").evaluate()
from pip._internal.cli.main import main
sys.exit(main(arguments))
"""


@dataclass(frozen=True, kw_only=True)
class System:
    """A system, by the tags of wheels and by the markers of PEP 508."""

    name: str
    tags: tuple[str, ...]
    sys_platform: str
    platform_system: str
    machine: str
    extras: tuple[str, ...]  # extras that must resolve there; the base must resolve everywhere
    none: tuple[str, ...] = ()  # extras that do not resolve there, as documented


def glibc(machine: str, minor: int) -> tuple[str, ...]:
    """Return the tags of wheels that run with glibc 2.`minor`, because pip adds no older tags to --platform."""
    return (*(f"manylinux_2_{m}_{machine}" for m in range(minor, 16, -1)), f"manylinux2014_{machine}")


def linux(name: str, machine: str, tags: tuple[str, ...], extras: str, none: str = "") -> System:
    """Return a Linux system; `extras` and `none` are separated by spaces."""
    return System(
        name=name, tags=tags, sys_platform="linux", platform_system="Linux", machine=machine,
        extras=tuple(extras.split()), none=tuple(none.split()),
    )  # fmt: skip


def mac(name: str, machine: str, tag: str, extras: str, none: str = "") -> System:
    """Return a macOS system."""
    return System(
        name=name, tags=(tag,), sys_platform="darwin", platform_system="Darwin", machine=machine,
        extras=tuple(extras.split()), none=tuple(none.split()),
    )  # fmt: skip


def windows(name: str, machine: str, tag: str, extras: str, none: str = "") -> System:
    """Return a Windows system."""
    return System(
        name=name, tags=(tag,), sys_platform="win32", platform_system="Windows", machine=machine,
        extras=tuple(extras.split()), none=tuple(none.split()),
    )  # fmt: skip


OTHERS = "openvino rinna bfloat16 torch"
ALL = f"{OTHERS} h5"
SYSTEMS = (
    linux("Linux x86-64, glibc 2.28", "x86_64", glibc("x86_64", 28), ALL),
    linux("Linux x86-64, musl 1.2", "x86_64", ("musllinux_1_2_x86_64", "musllinux_1_1_x86_64"), "h5", OTHERS),
    linux("Linux ARM, glibc 2.35", "aarch64", glibc("aarch64", 35), ALL),
    linux("Linux ARM, glibc 2.28", "aarch64", glibc("aarch64", 28), "rinna bfloat16 torch h5", "openvino"),
    linux("Linux ARM, musl 1.2", "aarch64", ("musllinux_1_2_aarch64", "musllinux_1_1_aarch64"), "h5", OTHERS),
    mac("macOS 14, ARM", "arm64", "macosx_14_0_arm64", ALL),
    mac("macOS 14, x86-64", "x86_64", "macosx_14_0_x86_64", "openvino rinna bfloat16 h5", "torch"),
    windows("Windows x86-64", "AMD64", "win_amd64", ALL),
    windows("Windows ARM", "ARM64", "win_arm64", "openvino rinna bfloat16 h5", "torch"),
)

NEVER = {("Windows ARM", "3.11")}  # PyYAML, which huggingface_hub needs, has no wheel for it


def requirements(*extras: str) -> list[str]:
    """Return the requirements in pyproject.toml of the base and of these extras, with the extras that they include."""
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    lines: list[str] = list(project["dependencies"])
    queue = list(extras)
    while queue:
        for line in project["optional-dependencies"][queue.pop()]:
            if line.startswith("cjkclip["):
                queue += line.removeprefix("cjkclip[").rstrip("]").split(",")
            else:
                lines.append(line)
    return lines


def pip_error(system: System, python: str, *extras: str) -> str:
    """Return pip's error message, or an empty string if everything resolves."""
    target = {
        "sys_platform": system.sys_platform, "platform_system": system.platform_system,
        "platform_machine": system.machine, "os_name": "nt" if system.sys_platform == "win32" else "posix",
        "python_version": python, "python_full_version": f"{python}.0",
    }  # fmt: skip
    with TemporaryDirectory() as folder:
        command = [
            "install", "--dry-run", "--quiet", "--ignore-installed", "--only-binary=:all:", "--target", folder,
            "--python-version", python, *(f"--platform={tag}" for tag in system.tags), *requirements(*extras),
        ]  # fmt: skip
        result = subprocess.run(
            [sys.executable, "-c", PIP, json.dumps(target), *command], capture_output=True, text=True, check=False
        )
    reasons = [line for line in result.stderr.splitlines() if line.startswith("ERROR")]
    return "" if result.returncode == 0 else (reasons or result.stderr.splitlines() or ["pip failed"])[-1]


def row(system: System, python: str) -> dict[str, str]:
    """Return pip's error for each extra ("" is the base). First, one call tries everything that must resolve."""
    reasons = dict.fromkeys(("", *system.extras), "")
    if pip_error(system, python, *system.extras):
        reasons = {extra: pip_error(system, python, *filter(None, [extra])) for extra in reasons}
    return reasons | {extra: pip_error(system, python, extra) for extra in system.none}


def main(pythons: list[str]) -> int:
    """Print one row per system and Python. Return 1 if a result differs from `SYSTEMS`."""
    jobs = [(system, python) for system in SYSTEMS for python in pythons if (system.name, python) not in NEVER]
    failures = list[str]()
    with ThreadPoolExecutor(2) as pool:
        rows = pool.map(lambda job: row(*job), jobs)
        print(f"{'system':26} python  base {' '.join(ALL.split())}")
        for (system, python), reasons in zip(jobs, rows, strict=True):
            cells = list[str]()
            for extra in ("", *ALL.split()):
                reason = reasons[extra]
                must = not extra or extra in system.extras
                cells.append(f"{'yes' if not reason else 'NO' if must else '-':{len(extra or 'base')}}")
                if reason and must:
                    failures.append(f"{system.name}, Python {python}, {extra or 'base'}: {reason}")
                if not reason and extra in system.none:
                    failures.append(
                        f"{system.name}, Python {python}, {extra}: now resolves; move it from `none` to `extras`"
                    )
            print(f"{system.name:26} {python:6}  {' '.join(cells)}", flush=True)
    print(*failures, sep="\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(PYTHONS)))
