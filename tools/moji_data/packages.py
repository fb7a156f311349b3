"""The npm packages of the data, pinned by version and sha512, and functions that download and read them."""

import base64
import hashlib
import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "moji"


@dataclass(frozen=True, kw_only=True)
class Package:
    """One npm package, which `npm pack name@version` downloads."""

    name: str
    version: str
    sha512: str  # base64, as in npm's "integrity"

    @property
    def tarball(self) -> Path:
        """The path of the tarball, with npm's file name."""
        plain = self.name.removeprefix("@").replace("/", "-")
        return CACHE / "packages" / f"{plain}-{self.version}.tgz"

    def read(self, path: str) -> Any:
        """Return the content of a JSON file in the package."""
        return json.loads(self.text(path))

    def text(self, path: str) -> str:
        """Return the content of a text file in the package. Raises KeyError or FileNotFoundError."""
        with tarfile.open(self.tarball) as tar:
            member = tar.extractfile(f"package/{path}")
            if member is None:
                raise FileNotFoundError(f"{self.tarball.name} contains no file {path!r}")
            return member.read().decode()


NOTO = Package(
    name="@iconify-json/noto",
    version="1.2.9",
    sha512="DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
)
NOTO_V1 = Package(
    name="@iconify-json/noto-v1",
    version="1.2.5",
    sha512="/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
)
FLUENT_FLAT = Package(
    name="@iconify-json/fluent-emoji-flat",
    version="1.2.6",
    sha512="RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
)
FLUENT = Package(
    name="@iconify-json/fluent-emoji",
    version="1.2.7",
    sha512="D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
)
EMOJIONE = Package(
    name="@iconify-json/emojione",
    version="1.2.3",
    sha512="T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
)
FXEMOJI = Package(
    name="@iconify-json/fxemoji",
    version="1.2.2",
    sha512="UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
)
TWEMOJI = Package(
    name="@iconify-json/twemoji",
    version="1.2.5",
    sha512="uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
)
ANNOTATIONS = Package(
    name="cldr-annotations-full",
    version="48.2.0",
    sha512="DV7A+rEcgUSNTRsVGNGqBZRmAkGfwhGHO5Q1dRwzBoBnVrHWp804JP7/QJdEc66iHmx3+zLWVIMCFLm0lW7PUQ==",
)
DERIVED = Package(
    name="cldr-annotations-derived-full",
    version="48.2.0",
    sha512="log62km+AOzI7n/NEuNNFV0mg9DWnt67EYCh1RwxZq9dyRuyteB586LT83Ke8TchEfnwI9cIk2P31zO4nTvZmw==",
)
EMOJI = Package(
    name="unicode-emoji-json",
    version="0.9.0",
    sha512="HdrQW/7SdbXUsTd8uTATv7LvQJkCSgbAgRCDCtOhQ6xn3EAx+xZHQtRniOXWJK3ywIqPegkNhP4U4EbuFsiQng==",
)
PACKAGES = (
    NOTO,
    NOTO_V1,
    FLUENT_FLAT,
    FLUENT,
    EMOJIONE,
    FXEMOJI,
    TWEMOJI,
    ANNOTATIONS,
    DERIVED,
    EMOJI,
)


def fetch(package: Package) -> None:
    """Download the tarball with `npm pack` unless it is cached. Raises ValueError for another sha512."""
    folder = package.tarball.parent
    folder.mkdir(parents=True, exist_ok=True)
    if not package.tarball.exists():
        command = [
            "npm",
            "pack",
            f"{package.name}@{package.version}",
            "--silent",
            "--pack-destination",
            str(folder),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    sha512 = base64.b64encode(hashlib.sha512(package.tarball.read_bytes()).digest()).decode()
    if sha512 != package.sha512:
        raise ValueError(
            f"{package.tarball.name}: sha512 is {sha512}, pinned is {package.sha512}. Delete the file and "
            "run the command again; if the error occurs again, the registry has changed the package."
        )
