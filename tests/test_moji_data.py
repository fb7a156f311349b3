"""moji's pictures and words: what is shipped, and the rules of the build that made it."""

import hashlib
import io
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tools.moji_data import archives, concepts, designs, names, packages, render
from tools.moji_data.captions import caption
from tools.moji_data.packages import PACKAGES

from cjkclip import moji
from cjkclip.errors import InputError
from support.processes import printed

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("noto.zip", "fluent.zip", "captions.json")


def find(english: str) -> moji.Concept:
    (found,) = [concept for concept in moji.concepts() if concept.names["en"] == english]
    return found


def opened(design: str, cp: str) -> np.ndarray:
    """The picture as (64, 64, 3) in 0..255."""
    return np.asarray(Image.open(io.BytesIO(moji.pictures(design)[cp])), np.float32)


def test_the_gallery_holds_1379_concepts_in_the_published_splits():
    splits = Counter(concept.split for concept in moji.concepts())
    assert splits == {"train": 1121, "valid": 135, "test": 123}


def test_the_split_is_a_hash_of_the_code_points():
    for concept in moji.concepts():
        fold = int(hashlib.sha256(concept.cp.encode()).hexdigest(), 16) % 10
        assert concept.split == {0: "test", 1: "valid"}.get(fold, "train")


@pytest.mark.parametrize(
    ("char", "split"),
    [("😁", "test"), ("👹", "test"), ("😮‍💨", "valid"), ("🤑", "valid"), ("🐼", "train"), ("©️", "train")],
)
def test_some_splits_by_name(char: str, split: str):
    assert [concept.split for concept in moji.concepts() if concept.char == char] == [split]


def test_code_points_name_the_character():
    for concept in moji.concepts():
        assert concept.cp == "-".join(f"{ord(c):x}" for c in concept.char if c != "\ufe0f")


@pytest.mark.parametrize("language", moji.LANGUAGES)
def test_every_concept_has_a_name_of_its_own_in_every_language(language: str):
    told = [concept.names[language] for concept in moji.concepts()]
    assert all(name and name == name.strip() for name in told)
    assert len(set(told)) == len(told)


def test_keywords_are_words_besides_the_name():
    for concept in moji.concepts():
        for language in moji.LANGUAGES:
            words = concept.keywords[language]
            assert concept.names[language] not in words
            assert len(set(words)) == len(words)
    assert sum(len(concept.keywords["ko"]) for concept in moji.concepts()) == 7186


def test_words_are_in_their_languages():
    panda = find("panda").names
    assert panda == {"en": "panda", "zh": "熊猫", "zh-Hant": "熊貓", "ja": "パンダの顔", "ko": "판다 얼굴"}


@pytest.mark.parametrize("design", moji.DESIGNS)
def test_an_archive_holds_one_picture_for_each_concept(design: str):
    pictures = moji.pictures(design)
    assert pictures.keys() == {concept.cp for concept in moji.concepts()}
    for cp, data in pictures.items():
        with Image.open(io.BytesIO(data)) as picture:
            assert (picture.format, picture.size, picture.mode) == ("WEBP", (64, 64), "RGB"), cp
    assert len(set(pictures.values())) >= 1370  # some designs draw neighbours alike, such as the mailboxes


@pytest.mark.parametrize("design", moji.DESIGNS)
@pytest.mark.parametrize(
    ("english", "channel"),
    [
        ("red apple", 0),
        ("green apple", 1),
        ("blue book", 2),
        ("strawberry", 0),
        ("broccoli", 1),
        ("whale", 2),
    ],
)
def test_pictures_are_under_their_own_names(design: str, english: str, channel: int):
    picture = opened(design, find(english).cp)
    ink = picture[(picture.min(axis=2) < 200)]
    assert ink.mean(axis=0).argmax() == channel


@pytest.mark.parametrize("design", moji.DESIGNS)
def test_pictures_lie_on_white_and_fill_their_square(design: str):
    corners = np.stack([opened(design, concept.cp)[0, 0] for concept in moji.concepts()[:200]])
    assert np.median(corners) >= 250
    assert min(opened(design, concept.cp).std() for concept in moji.concepts()[::10]) > 5


def test_gallery_gives_pictures_with_their_names_in_one_call():
    entries = moji.gallery("fluent")
    assert [concept for concept, _ in entries] == list(moji.concepts())
    assert all(picture == moji.pictures("fluent")[concept.cp] for concept, picture in entries)


@pytest.mark.parametrize("design", ["twemoji", "Noto", "../noto", ""])
def test_a_design_that_is_not_shipped_is_refused(design: str):
    with pytest.raises(InputError, match="'noto', 'fluent'"):
        moji.pictures(design)


def test_shipped_files_fit_the_budget():
    sizes = [(archives.FOLDER / name).stat().st_size for name in SHIPPED]
    assert sum(sizes) < 3_000_000


def test_reading_needs_the_standard_library_alone():
    code = "import sys, cjkclip.moji as m; m.gallery(); print({'numpy', 'PIL', 'torch'} & set(sys.modules))"
    assert printed("-c", code).strip() == "set()"


def test_twemoji_is_never_shipped_and_never_trained_on():
    assert {d.name for d in designs.DESIGNS if d.shipped} == {"noto", "fluent"} == set(moji.DESIGNS)
    assert [d.name for d in designs.DESIGNS if d.use != "train"] == ["twemoji"]
    with pytest.raises(ValueError, match="twemoji may not be shipped"):
        archives.build([], {language: {} for language in moji.LANGUAGES}, {designs.BY_NAME["twemoji"]: {}})
    assert not [path for path in (ROOT / "src").rglob("*") if "twemoji" in path.name.lower()]


def test_licences_name_every_package_at_its_version():
    text = (ROOT / "THIRD_PARTY_LICENSES").read_text()
    for package in PACKAGES:
        assert f"{package.name} {package.version}" in text
    for phrase in ("Version 2.0, January 2004", "Microsoft Corporation", "UNICODE LICENSE V3", "2021 OpenAI"):
        assert phrase in text
    assert "Version 2.0, January 2004" in (ROOT / "LICENSE").read_text()


@pytest.mark.parametrize(
    ("cp", "group", "base"),
    [
        ("1f3c3-200d-2642", "People & Body", "1f3c3"),  # man running
        ("1f469-200d-1f680", "People & Body", "1f9d1-200d-1f680"),  # woman astronaut
        ("1f468-200d-1f9b0", "People & Body", "1f468"),  # man with red hair
        ("1f9d1-200d-1f9bd-200d-27a1", "People & Body", "1f9d1-200d-1f9bd"),  # wheelchair, facing right
        ("1f469-200d-1f469-200d-1f466", "People & Body", "1f46a"),  # family
        ("1f469-200d-2764-200d-1f48b-200d-1f468", "People & Body", "1f48f"),  # kiss
        ("1f9d1-200d-1f91d-200d-1f9d1", "People & Body", "1f46b"),  # people holding hands
        ("1f55b", "Travel & Places", "1f550"),  # twelve o'clock
        ("23-20e3", "Symbols", "1f51f"),  # keycap #
        ("27a1", "Symbols", "27a1"),  # the arrow itself is a concept
        ("1f408-200d-2b1b", "Animals & Nature", "1f408-200d-2b1b"),  # black cat, too
        ("1f3f4-200d-2620", "Flags", "1f3f4"),  # pirate flag
    ],
)
def test_variants_follow_their_base(cp: str, group: str, base: str):
    assert concepts.base(cp, group) == base


def test_splits_that_do_not_come_out_are_refused():
    one = concepts.Emoji(
        cp="1f600", char="😀", name="grinning face", group="Smileys & Emotion", core=True, base="1f600"
    )
    with pytest.raises(ValueError, match="test concepts: 0, expected 123"):
        concepts.in_splits([one], {"1f600"})


def test_a_changed_tarball_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(packages, "CACHE", tmp_path)
    package = replace(packages.NOTO, name="@iconify-json/none")
    package.tarball.parent.mkdir(parents=True)
    package.tarball.write_bytes(b"other bytes")
    with pytest.raises(ValueError, match=r"iconify-json-none-1.2.9.tgz: sha512 is .*, pinned is DQiu"):
        packages.fetch(package)


def test_cldr_is_asked_in_both_spellings_and_single_emoji_first():
    tables = [
        {"☀": {"default": ["sun", "bright"], "tts": ["sun"]}},
        {"❤️‍🔥": {"default": ["hot"], "tts": ["fire"]}},
    ]
    assert caption("☀️", tables) == ("sun", ("bright",))
    assert caption("❤️‍🔥", tables) == ("fire", ("hot",))
    with pytest.raises(KeyError, match="1f43c"):
        caption("🐼", tables)


def test_icons_are_found_by_todays_names_before_older_ones_and_never_against_the_eye():
    icons = {
        "icons": {"crescent": {}, "grin": {}, "hourglass": {}, "moon": {}, "sandclock": {}, "pistol": {}},
        "aliases": {
            "moon-": {"parent": "crescent"},
            "smile": {"parent": "grin"},
            "toy": {"parent": "pistol"},
        },
    }
    today = {"moon": "1f319", "hourglass": "231b", "pistol": "1f52b", "toy": "1f52b"}
    older = {"sandclock": "231b", "smile": "1f600"}
    found = names.match("noto-v1", icons, [today, older])
    assert found == {"1f319": "moon", "231b": "hourglass", "1f600": "grin"}


def test_an_icon_is_centred_in_a_square_and_mirrored_by_its_alias():
    icons = {
        "icons": {"half": {"body": '<path d="M0 0h1v1h-1z"/>', "width": 2, "height": 1}},
        "aliases": {"flah": {"parent": "half", "hFlip": True}},
        "width": 9,
    }
    left, right = (render.render_svg(designs.svg(icons, name), 8)[..., 3] > 127 for name in ("half", "flah"))
    rows, columns = np.nonzero(left)
    assert (set(rows), set(columns)) == ({2, 3, 4, 5}, {0, 1, 2, 3})
    np.testing.assert_array_equal(right, left[:, ::-1])


def test_archives_are_the_same_bytes_for_the_same_pictures():
    red = np.full((8, 8, 4), (255, 0, 0, 128), np.uint8)
    first = archives.pack({"a.webp": archives.webp(red), "b.webp": b"b"})
    again = archives.pack({"b.webp": b"b", "a.webp": archives.webp(red.copy())})
    assert first == again
    with Image.open(io.BytesIO(archives.webp(red))) as picture:
        np.testing.assert_allclose(np.asarray(picture)[4, 4], (255, 127, 127), atol=3)


def test_the_shipped_archives_are_packed_as_the_build_packs_them():
    for design in moji.DESIGNS:
        members = {f"{cp}.webp": data for cp, data in moji.pictures(design).items()}
        assert archives.pack(members) == (archives.FOLDER / f"{design}.zip").read_bytes()
