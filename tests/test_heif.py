"""HEIC files are opened by pillow-heif, which is asked where it is installed and needed. A stand-in plays it here."""

from pathlib import Path

import pytest
from PIL import Image

from support.processes import printed

PLUGIN = """
import PIL.Image, PIL.PngImagePlugin
class Heif(PIL.PngImagePlugin.PngImageFile):
    format = "HEIF"
def register_heif_opener():
    print("registered")
    def made(file, name):
        return Heif(PIL.Image.io.BytesIO(file.read()[4:]))
    PIL.Image.register_open("HEIF", made, lambda start: start[:4] == b"heic")
"""
ASKED = """
import sys
from cjkclip.errors import ImageError
from cjkclip.gallery import find_pictures
from cjkclip.image import open_picture
for path in [*find_pictures(sys.argv[1]), open(sys.argv[1] + "/b.heic", "rb").read()]:
    try:
        print(open_picture(path).size)
    except ImageError as error:
        print("HEIC needs the package pillow-heif" in str(error))
"""


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        (PLUGIN, ["(8, 6)", "registered", "(8, 6)", "(8, 6)"]),
        ("raise ImportError('libheif is missing')", ["(8, 6)", "True", "True"]),
        (None, ["(8, 6)", "True", "True"]),
    ],
    ids=["installed", "broken", "missing"],
)
def test_heic(plugin: str | None, said: list[str], tmp_path: Path) -> None:
    Image.new("RGB", (8, 6), "red").save(tmp_path / "a.png")
    (tmp_path / "b.heic").write_bytes(b"heic" + (tmp_path / "a.png").read_bytes())
    if plugin is not None:
        (tmp_path / "pillow_heif.py").write_text(plugin, "utf-8")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{ASKED}"
    assert printed("-c", code, tmp_path).splitlines() == said
