"""Checks of the installation for `cjkclip doctor`. Each returns a status and a finding, or raises."""

import importlib.metadata
import platform
import re
from pathlib import Path
from typing import Literal

import cjkclip
from cjkclip import engines
from cjkclip.engines import ENGINES
from cjkclip.gallery.sheet.fonts import ADVICE, Face, find_fonts
from cjkclip.machine.limits import cores
from cjkclip.machine.processor import cpu_text
from cjkclip.machine.processor import name as processor_name

Result = tuple[Literal["ok", "note", "fail"], str]

# A short text in each language, for fonts and text towers.
SAMPLES = {
    "zh": "一只猫 爱",
    "zh-Hant": "一隻貓 愛",
    "ja": "ねこの写真",
    "ko": "고양이 사진",
    "en": "a photo of a cat",
}
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")


def versions() -> Result:
    """Return the versions of the package, Python and the system."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return "ok", f"{cjkclip.__version__} on {python}, {platform.system()} {platform.machine()}"


def processor() -> Result:
    """Return the name, the cores, and the instruction sets that matter for the speed of a CPU engine."""
    text = cpu_text()
    flags = [flag for flag in _FLAGS if re.search(rf"\b{flag}\b", text)]
    return "ok", f"{processor_name()}, {cores()} cores, {' '.join(flags) or 'no vector instructions known'}"


def installed_engines() -> Result:
    """Return the installed engines and their versions."""
    versions: list[str] = []
    for name in ENGINES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"{name} is not installed")
    return ("ok" if any("openvino 2" in one for one in versions) else "note"), ", ".join(versions)


def chosen_engine(engine: str, precision: str) -> Result:
    """Return the engine, precision and device that a model would use. Raises EngineError."""
    return "ok", ", ".join(engines.choose(engine, precision))


def hub_state() -> Result:
    """Return the download cache, and whether the network may be used."""
    from huggingface_hub import constants

    cache_folder = Path(constants.HF_HUB_CACHE)
    models = len(list(cache_folder.glob("models--*"))) if cache_folder.is_dir() else 0
    state = "offline (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else f"online, {constants.ENDPOINT}"
    return "ok", f"{state}; {models} models in {cache_folder}"


def fonts() -> Result:
    """Return the font face for each language of a contact sheet."""
    available = find_fonts()
    runs = {language: available.runs(text, language) for language, text in SAMPLES.items()}
    missing = [language for language, parts in runs.items() if parts is None]
    if missing:
        return "note", f"none for {', '.join(missing)}: {ADVICE}"
    faces = {language: dict.fromkeys(_family(face) for _, face in parts or ()) for language, parts in runs.items()}
    return "ok", "; ".join(f"{language}: {', '.join(names)}" for language, names in faces.items())


def _family(face: Face | None) -> str:
    return "built in" if face is None else face.family
