"""Find fonts of this computer that draw Chinese, Japanese, Korean and English, and check them by character.

A text is cut into runs, each with a face that draws every character of the run. If fonts for both exist, a Japanese
text gets Japanese forms and a Chinese text Chinese forms. A face has a character if it draws it differently from a code
point that no font has. Bitmap-only fonts (most colour emoji) are left out, since FreeType opens them at their own sizes
only. No empty box is drawn: the caller gets the texts that cannot be drawn.
"""

import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from cjkclip.errors import InputError

ADVICE = (
    "no font on this computer has the characters. Debian, Ubuntu: apt install fonts-noto-cjk; "
    "Fedora: dnf install google-noto-sans-cjk-fonts; macOS and Windows have such fonts; "
    "or name a font file: CJKCLIP_FONT=/path/to/font.ttc"
)

# Names of the font families that are designed for one language, the better known first.
_FAMILIES = {
    "zh": "cjk sc|sans sc|han sans (sc|cn)|pingfang sc|hiragino sans gb|yahei|wenquanyi|simhei|heiti sc",
    "zh-Hant": "cjk (tc|hk)|sans (tc|hk)|han sans (tc|tw|hc|hk)|pingfang (tc|hk)|jhenghei|heiti tc|mingliu",
    "ja": "cjk jp|sans jp|han sans( jp)?$|hiragino (sans(?! gb)|kaku)|yu gothic|meiryo|^ms p?gothic|ipa",
    "ko": "cjk kr|sans kr|han sans (k|kr)$|apple sd gothic|malgun|nanum|gulim|dotum|baekmuk",
    "en": "cjk sc|sans sc|pingfang sc|hiragino sans|segoe ui|helvetica|^arial$|liberation sans|dejavu sans",
}
_LIKELY = re.compile(
    r"cjk|han-?sans|pingfang|hiragino|ヒラギノ|applesd|meiryo|yugoth|msgothic|msyh|msjh|malgun|nanum|wqy|ipa[gex]|"
    r"takao|vl-|simhei|heiti|droidsansfallback|arial ?uni|dotum|sans-?(sc|tc|hk|jp|kr)|"
    r"dejavusans\.|segoeui\.|arial\.|helvetica|liberationsans-r|roboto-r",
    re.IGNORECASE,
)
_ENDINGS = {".ttf", ".otf", ".ttc", ".otc"}
_PLAIN = {"", "regular", "book", "normal", "roman", "w3", "w4", "medium"}
_ODD = re.compile(r"serif|mono|mincho|myeongjo|song|ming|coding|fallback", re.IGNORECASE)


PROBE = 41  # pixels at which a face is examined: a size that no bitmap font has
_UNASSIGNED, _NOT_A_CHARACTER = "\U00050000", "\U0010ffff"  # code points that no font for reading has
_BLANK = frozenset("\u034f\u115f\u1160\u2800\u3164\uffa0")  # printable characters that have no ink


@dataclass(frozen=True, kw_only=True)
class Face:
    """One face of a font file; `index` is its place in a collection."""

    path: Path
    index: int
    family: str
    style: str

    def has(self, char: str) -> bool:
        """Whether the face draws `char` itself, and not the glyph for missing characters."""
        return _has(self, char)


Run = tuple[str, Face | None]  # None: the face built into Pillow, printable ASCII only


def read_faces(path: Path) -> list[Face]:
    """Return the faces of a font file. Raises InputError if FreeType cannot open it at every size."""
    faces: list[Face] = []
    for index in range(256):
        try:
            font = _freetype(path, PROBE, index)
            missing = _drawn(font, _UNASSIGNED)
        except OSError as error:
            if index == 0:
                raise InputError(
                    f"{str(path)!r} is not a usable font ({error}): use a TrueType or OpenType font with outlines"
                ) from error
            break
        family, style = font.getname()
        if missing == _drawn(font, _NOT_A_CHARACTER):  # a last-resort font draws a sign for every code point
            faces.append(Face(path=path, index=index, family=family or path.stem, style=style or ""))
    return faces


@lru_cache(maxsize=1 << 15)
def _has(face: Face, char: str) -> bool:
    try:
        glyph = _drawn(open_face(face, PROBE), char)
    except OSError:  # damaged
        return False
    has_ink = bool(glyph.strip(b"\0"))  # colour glyphs without an outline have none
    return glyph != _missing(face) and (has_ink or char in _BLANK)


@lru_cache(maxsize=256)
def _missing(face: Face) -> bytes:
    return _drawn(open_face(face, PROBE), _UNASSIGNED)


def _drawn(font: ImageFont.FreeTypeFont, char: str) -> bytes:
    canvas = Image.new("L", (3 * PROBE, 3 * PROBE))  # marks are drawn left of their place
    ImageDraw.Draw(canvas).text((PROBE, PROBE), char, fill=255, font=font)
    return canvas.tobytes()


def _is_likely(file: Path) -> bool:
    """Whether a file name suggests CJK. It is composed first, because macOS separates letters and marks."""
    return _LIKELY.search(unicodedata.normalize("NFC", file.name)) is not None


class Fonts:
    """The faces of some font files, in an order of preference per language."""

    def __init__(self, files: Sequence[Path], *, first: Sequence[Path] = ()) -> None:
        """Read the faces of `first` and of the files whose names suggest CJK; the others only when needed."""
        likely = [file for file in files if _is_likely(file)]
        self.named = [face for file in first for face in read_faces(file)]
        self._likely = [face for file in likely for face in _faces(file)]
        self._rest = [file for file in files if not _is_likely(file)]
        self._latin = bool(self.named) or any(_rank(face, "en")[0] == 0 for face in self._likely)
        self._orders: dict[str, list[Face]] = {}

    def __repr__(self) -> str:
        """Return the numbers of faces and files."""
        return f"<Fonts: {len(self.named) + len(self._likely)} likely faces, {len(self._rest)} other files>"

    def faces(self, language: str) -> Iterator[Face]:
        """Yield faces in the order of preference for `language`."""
        if language not in self._orders:
            by_rank = partial(_rank, language=language)
            self._orders[language] = [*sorted(self.named, key=by_rank), *sorted(self._likely, key=by_rank)]
        yield from self._orders[language]
        for file in self._rest:
            yield from _faces(file)

    def runs(self, text: str, language: str = "en") -> list[Run] | None:
        """Return `text` in runs of one face, or None if a character has no face. Hangul is composed."""
        text = " ".join(re.sub("[\ufe00-\ufe0f]", "", unicodedata.normalize("NFC", text)).split())
        if not text.isprintable():
            return None
        if text.isascii() and not self._latin:
            return [(text, None)]  # Pillow's built-in letters look better than those of most Chinese fonts
        left = set(text) - {" "}
        used: list[Face] = []
        for face in self.faces(language):
            if not left:
                break
            if covered := {char for char in left if face.has(char)}:
                used.append(face)
                left -= covered
        return _cut(text, used) if all(char.isascii() for char in left) else None


def find_fonts(folders: Iterable[Path] | None = None) -> Fonts:
    """Return the fonts of this computer, or those under `folders`; files in `CJKCLIP_FONT` come first.

    Raises InputError if `CJKCLIP_FONT` names a file that is missing or not a font.
    """
    named = [Path(name) for name in os.environ.get("CJKCLIP_FONT", "").split(os.pathsep) if name]
    for file in named:
        if not file.is_file():
            raise InputError(f"CJKCLIP_FONT names {str(file)!r}, which does not exist: name a .ttf, .otf or .ttc file")
    files = _files(_usual_folders() if folders is None else folders)
    return Fonts(list(dict.fromkeys([*files, *(_fontconfig() if folders is None else [])])), first=named)


def open_face(face: Face | None, size: int) -> ImageFont.FreeTypeFont:
    """Open the face at `size` pixels, of regular weight if it is variable; None: Pillow's built-in font."""
    if face is None:
        built_in = ImageFont.load_default(size)
        if not isinstance(built_in, ImageFont.FreeTypeFont):
            raise InputError("this Pillow was built without FreeType and cannot draw text: reinstall pillow")
        return built_in
    return _open(face.path, face.index, size)


@lru_cache(maxsize=64)
def _open(path: Path, index: int, size: int) -> ImageFont.FreeTypeFont:
    font = _freetype(path, size, index)
    try:
        names = font.get_variation_names()
    except OSError:  # not a variable font
        return font
    if b"Regular" in names:  # a variable font may start at its thinnest
        font.set_variation_by_name("Regular")
    return font


def _freetype(path: Path, size: int, index: int) -> ImageFont.FreeTypeFont:
    """Open this file; `ImageFont.truetype` would look for another of its name if FreeType rejects it."""
    return ImageFont.FreeTypeFont(path, size, index, layout_engine=ImageFont.Layout.BASIC)


def _cut(text: str, faces: Sequence[Face]) -> list[Run]:
    runs: list[Run] = []
    for char in text:
        face = next((face for face in faces if face.has(char)), None)
        if runs and (char == " " or runs[-1][1] == face):
            runs[-1] = (runs[-1][0] + char, runs[-1][1])
        else:
            runs.append((char, face))
    return runs


def _rank(face: Face, language: str) -> tuple[int, bool, bool]:
    """Sort by language (own, another of these languages, general), then sans and regular before the others."""
    family = face.family.lower()
    place = 0 if re.search(_FAMILIES.get(language, _FAMILIES["zh"]), family) else 1
    if place and not any(re.search(pattern, family) for pattern in _FAMILIES.values()):
        place = 2
    return place, bool(_ODD.search(family)), face.style.lower() not in _PLAIN


def _faces(file: Path) -> list[Face]:
    """Return the faces of a file; none if it is not usable, since the user did not name it."""
    try:
        return read_faces(file)
    except InputError:
        return []


def _files(folders: Iterable[Path]) -> list[Path]:
    paths = [
        Path(folder, name)
        for top in folders
        for folder, _, names in os.walk(top)
        for name in names
        if Path(name).suffix.lower() in _ENDINGS
    ]
    return sorted(paths)


def _usual_folders() -> list[Path]:
    home = Path.home()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", str(home / "AppData/Local"))
        return [Path(os.environ.get("WINDIR", "C:/Windows"), "Fonts"), Path(local, "Microsoft/Windows/Fonts")]
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    return [
        Path("/usr/share/fonts"),
        Path("/usr/local/share/fonts"),
        home / ".local/share/fonts",
        home / ".fonts",
    ]


def _fontconfig() -> list[Path]:
    """Return the files that fontconfig lists, if it is installed: it knows further directories."""
    program = shutil.which("fc-list")
    if program is None:
        return []
    try:
        process = subprocess.run([program, "--format", "%{file}\n"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    files = [Path(os.fsdecode(line)) for line in process.stdout.splitlines() if line]
    return sorted({file for file in files if file.suffix.lower() in _ENDINGS})
