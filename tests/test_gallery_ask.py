"""Search as a library: places, queries of every kind, callbacks, what happens without them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cjkclip
from cjkclip import answers, moji
from cjkclip.errors import CheckpointError, CjkclipError, ImageError, InputError, TextError
from cjkclip.gallery.ask import ask, open_place
from support.cli import IMAGES, TINY

pytestmark = pytest.mark.usefixtures("fewer_pictures")


@pytest.fixture(scope="module")
def clip() -> cjkclip.Clip:
    return cjkclip.load(TINY, engine="numpy")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, one of them in a directory below, and one that is none."""
    (tmp_path / "p" / "sub").mkdir(parents=True)
    for name, source in (("a.png", "a.png"), ("sub/猫.jpg", "c.jpg")):
        (tmp_path / "p" / name).write_bytes((IMAGES / source).read_bytes())
    (tmp_path / "p" / "bad.png").write_bytes(b"none")
    return tmp_path / "p"


def test_a_directory(clip: cjkclip.Clip, folder: Path) -> None:
    errors: dict[str, CjkclipError] = {}
    calls: list[tuple[int, int]] = []
    place = open_place(
        clip, str(folder), on_error=errors.__setitem__, progress=lambda done, total: calls.append((done, total))
    )
    assert place.gallery.names == ("a.png", "sub/猫.jpg")
    assert list(errors) == [str(folder / "bad.png")]
    assert isinstance(errors[str(folder / "bad.png")], ImageError)
    assert calls == [(0, 3), (3, 3)]
    [hits] = ask(clip, place.gallery, [folder / "sub" / "猫.jpg"], 1)
    assert hits is not None
    assert (hits[0].name, place.path(hits[0])) == ("sub/猫.jpg", str(folder / "sub" / "猫.jpg"))
    with pytest.raises(ImageError, match=r"bad\.png"):
        open_place(clip, str(folder))


def test_a_gallery_file(clip: cjkclip.Clip, folder: Path, tmp_path: Path) -> None:
    whole = open_place(clip, str(folder), on_error=lambda *_: None)
    whole.gallery.save(tmp_path / "g.safetensors")
    place = open_place(clip, str(tmp_path / "g.safetensors"))
    assert place.gallery.names == whole.gallery.names
    [hits] = ask(clip, place.gallery, ["猫"], 1)
    assert hits is not None
    assert place.path(hits[0]) == str(Path(hits[0].name))
    other = cjkclip.load(TINY.parent / "hf-clip-gelu", engine="numpy")
    with pytest.raises(CheckpointError, match="another model"):
        ask(other, place.gallery, ["猫"])


def test_the_bundled_images(clip: cjkclip.Clip) -> None:
    calls: list[tuple[int, int]] = []
    place = open_place(clip, "fluent", progress=lambda done, total: calls.append((done, total)))
    assert calls[0] == (0, len(moji.concepts()))
    assert calls[-1][0] == len(place.gallery)
    panda = moji.pictures("fluent")["1f43c"]
    [hits] = ask(clip, place.gallery, [panda], 1)
    assert hits is not None
    result = answers.search_result(place, "panda", hits, kind="picture", language="ko")
    assert [(hit["rank"], hit["name"], hit.get("char")) for hit in result["hits"]] == [(1, "판다 얼굴", "🐼")]


@pytest.mark.parametrize("inside", ["", "nowhere", "empty\0"])
def test_a_place_that_does_not_exist(clip: cjkclip.Clip, inside: str) -> None:
    with pytest.raises(InputError):
        open_place(clip, inside)


def test_queries_of_every_kind(clip: cjkclip.Clip, folder: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    image, path = Image.fromarray(pixels), folder / "noise.png"
    image.save(path)
    raw, gallery = path.read_bytes(), open_place(clip, str(folder), on_error=lambda *_: None).gallery
    found = ask(clip, gallery, [path, "猫", raw, image, pixels, "noise.png"], 3)
    assert [found[1], found[5]] == gallery.search_texts(clip, ["猫", "noise.png"], 3)
    for hits in (found[0], *found[2:5]):
        assert hits is not None
        assert (hits[0].name, hits[0].score) == ("noise.png", pytest.approx(1, abs=1e-5))


def test_bad_queries_are_passed_on_by_position_and_the_others_answered(clip: cjkclip.Clip) -> None:
    gallery = open_place(clip, str(IMAGES)).gallery
    queries = [" ", b"none", "猫", IMAGES / "a.png", Path("gone.png")]
    errors: dict[int, CjkclipError] = {}
    found = ask(clip, gallery, queries, 2, on_error=errors.__setitem__)
    assert {i: type(error) for i, error in errors.items()} == {0: TextError, 1: ImageError, 4: ImageError}
    assert [hits is None for hits in found] == [True, True, False, False, True]
    assert found[3] == ask(clip, gallery, [IMAGES / "a.png"], 2)[0]


@pytest.mark.parametrize(("query", "kind"), [(" ", TextError), (Path("gone.png"), ImageError)])
def test_without_on_error_a_bad_query_is_raised(clip: cjkclip.Clip, query: str | Path, kind: type) -> None:
    gallery = open_place(clip, str(IMAGES)).gallery
    with pytest.raises(kind):
        ask(clip, gallery, ["猫", query])
