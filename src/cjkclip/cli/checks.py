"""What `cjkclip doctor` asks of an installation. Each check returns how it ended and what it found, or raises."""

import importlib.metadata
import platform
import re
from pathlib import Path
from typing import Literal

import cjkclip
from cjkclip import engines
from cjkclip.engines import ENGINES
from cjkclip.gallery.sheet.fonts import ADVICE, Face, find_fonts
from cjkclip.machine.processor import cpu_text
from cjkclip.machine.processor import name as processor_name
from cjkclip.machine.threads import cores

Result = tuple[Literal["ok", "note", "fail"], str]

# A few words in each language, for fonts and for text towers.
SAMPLES = {
    "zh": "一只猫 爱",
    "zh-Hant": "一隻貓 愛",
    "ja": "ねこの写真",
    "ko": "고양이 사진",
    "en": "a photo of a cat",
}
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimd", "bf16", "i8mm")


def versions() -> Result:
    """The package, Python and the system."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return "ok", f"{cjkclip.__version__} on {python}, {platform.system()} {platform.machine()}"


def processor() -> Result:
    """Cores, and the instructions that decide how fast a CPU engine is."""
    text = cpu_text()
    flags = [flag for flag in _FLAGS if re.search(rf"\b{flag}\b", text)]
    return "ok", f"{processor_name()}, {cores()} cores, {' '.join(flags) or 'no special instructions known'}"


def installed_engines() -> Result:
    """Which engines are installed, in which version."""
    found: list[str] = []
    for name in ENGINES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} is not installed")
    return ("ok" if any("openvino 2" in one for one in found) else "note"), ", ".join(found)


def chosen_engine(engine: str, precision: str) -> Result:
    """What a model would run on. Raises EngineError."""
    name, wanted, device = engines.choose(engine, precision)
    return "ok", f"{name}, {wanted}, {device}"


def hub_state() -> Result:
    """The download cache, and whether the network may be used."""
    from huggingface_hub import constants

    cache_folder = Path(constants.HF_HUB_CACHE)
    models = len(list(cache_folder.glob("models--*"))) if cache_folder.is_dir() else 0
    state = "offline (HF_HUB_OFFLINE)" if constants.HF_HUB_OFFLINE else f"online, {constants.ENDPOINT}"
    return "ok", f"{state}; {models} models in {cache_folder}"


def fonts() -> Result:
    """Whether a contact sheet can be written in each language, and with which face."""
    found = find_fonts()
    runs = {language: found.runs(text, language) for language, text in SAMPLES.items()}
    lacking = [language for language, parts in runs.items() if parts is None]
    if lacking:
        return "note", f"none for {', '.join(lacking)}: {ADVICE}"
    faces = {language: dict.fromkeys(_family(face) for _, face in parts or ()) for language, parts in runs.items()}
    return "ok", "; ".join(f"{language}: {', '.join(names)}" for language, names in faces.items())


def _family(face: Face | None) -> str:
    return "built in" if face is None else face.family
