"""The wheel and the sdist: they hold the package and nothing else, and the program runs without a network."""

import email
import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from support.sources import ROOT

# Runs for every Python of the environment that finds it: no socket reaches anything, in whichever library it is opened.
CUT = """
import socket
def refuse(*_, **__):
    raise SystemExit("this program reached for the network")
for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = socket.create_connection = refuse
"""


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Return the standard output of a command, which must succeed. It does not import from this tree's sources."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env={**kept, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(source: Path, out: Path, kind: str) -> Path:
    run(sys.executable, "-m", "build", "--no-isolation", f"--{kind}", "--outdir", out, source, cwd=out.parent)
    [file] = out.iterdir()
    return file


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return sorted(archive.namelist())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("wheel") / "out", "wheel")


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, tmp_path_factory.mktemp("sdist") / "out", "sdist")


def test_twine_accepts_both(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    said = run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist, cwd=tmp_path, NO_COLOR="1")
    assert said.count("PASSED") == 2


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    package = ROOT / "src" / "cjkclip"
    expected = {
        path.relative_to(ROOT / "src").as_posix()
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {name for name in names(wheel) if ".dist-info/" not in name}
    assert held == expected
    assert {"cjkclip/py.typed", "cjkclip/moji/model.safetensors", "cjkclip/moji/MODEL_CARD.md"} <= held
    licences = {name.partition(".dist-info/licenses/")[2] for name in names(wheel)} - {""}
    assert licences == {"LICENSE", "THIRD_PARTY_LICENSES"}


def test_the_metadata_names_each_python_and_extra(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        data = email.message_from_bytes(archive.read(name))
    pythons = {line.rpartition(" ")[2] for line in data.get_all("Classifier", []) if "Python :: 3." in line}
    assert pythons == {"3.11", "3.12", "3.13", "3.14"}
    assert {"openvino", "torch", "rinna", "bfloat16", "h5", "int8", "train"} <= {*data.get_all("Provides-Extra", [])}
    base = {line for line in data.get_all("Requires-Dist", []) if "extra ==" not in line}
    for word in ("openvino", "sentencepiece", "ml_dtypes", "torch"):  # without wheels on some systems
        assert not [line for line in base if line.startswith(word)]


def test_a_wheel_from_the_sdist_is_the_same(wheel: Path, sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        assert not [each for each in archive.getnames() if "/.venv/" in each or "__pycache__" in each]
        archive.extractall(tmp_path, filter="data")
    again = build(tmp_path / sdist.name.removesuffix(".tar.gz"), tmp_path / "out", "wheel")
    assert names(again) == names(wheel)
    with zipfile.ZipFile(again) as ours, zipfile.ZipFile(wheel) as theirs:
        assert [i.CRC for i in ours.infolist() if "RECORD" not in i.filename] == [
            i.CRC for i in theirs.infolist() if "RECORD" not in i.filename
        ]


def test_the_installed_wheel_searches_without_a_network(wheel: Path, tmp_path: Path) -> None:
    """An empty environment: the wheel, installed by pip, and beside it the libraries that this one has."""
    home = tmp_path / "env"
    venv.create(home, symlinks=os.name != "nt")
    scripts = home / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / ("python.exe" if os.name == "nt" else "python")
    place = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    pip = ("-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index")
    run(sys.executable, *pip, wheel, cwd=tmp_path)
    libraries = Path(pytest.__file__).parents[1]
    # appended by site after `place`; a .pth inside it, such as that of an editable cjkclip, is not read
    (place / "libraries.pth").write_text(f"{libraries}\n", "utf-8")
    (place / "cut.pth").write_text("import cut\n", "utf-8")
    (place / "cut.py").write_text(CUT, "utf-8")
    env = {"HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hf")}
    where = run(python, "-c", "import cjkclip; print(cjkclip.__file__)", cwd=tmp_path, **env)
    assert Path(where.strip()).is_relative_to(home)
    found = run(scripts / "cjkclip", "search", "猫", "-k", "1", cwd=tmp_path, **env)
    assert re.search(r"^1  \S*猫", found, re.MULTILINE)
    reach = [python, "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9')"]
    done = subprocess.run(reach, capture_output=True, text=True, check=False, env={**os.environ, **env})
    assert (done.returncode, done.stderr) == (1, "this program reached for the network\n")
