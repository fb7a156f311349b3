"""The gallery: exact search, stable order, one file, no vectors of another model; the bundled pictures."""

import io
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cjkclip
from cjkclip import moji
from cjkclip.checkpoints import weights
from cjkclip.errors import CheckpointError, ImageError, InputError
from cjkclip.gallery import Gallery, Rows, bundled, find_pictures, guess_language
from support.cli import TINY


def unit(n: int, width: int = 16, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def numbered(vectors: np.ndarray, fingerprint: str = "") -> Gallery:
    return Gallery([f"{i}.jpg" for i in range(len(vectors))], vectors, fingerprint=fingerprint)


@pytest.fixture(scope="module")
def clip() -> cjkclip.Clip:
    return cjkclip.load(TINY, engine="numpy")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one of them in a folder below, and what is to be left alone."""
    (tmp_path / "더 아래").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name, colour in (("猫.png", "red"), ("더 아래/犬.JPG", "blue"), ("a.webp", "green"), (".hidden/x.png", "red")):
        path = tmp_path / name
        Image.new("RGB", (40, 30), colour).save(path, format="JPEG" if path.suffix == ".JPG" else None)
    (tmp_path / "notes.txt").write_text("not a picture")
    return tmp_path


def test_search_is_exact() -> None:
    vectors, queries = unit(500), unit(7, seed=1)
    found = numbered(vectors).search(queries, k=20)
    truth = vectors.astype(np.float64) @ queries.astype(np.float64).T
    for q, hits in enumerate(found):
        assert [hit.index for hit in hits] == list(np.argsort(-truth[:, q])[:20])
        assert [hit.name for hit in hits] == [f"{hit.index}.jpg" for hit in hits]
        np.testing.assert_allclose([hit.score for hit in hits], truth[[h.index for h in hits], q], atol=1e-7)


def test_search_is_exact_among_near_ties() -> None:
    """Pictures that float32 sums cannot tell apart come in the order of their exact scores."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        n, k = int(rng.integers(20, 300)), int(rng.integers(1, 20))
        near = unit(1, width=64) + rng.normal(size=(n, 64)).astype(np.float32) * 3e-7
        queries = unit(3, width=64, seed=1)
        for query, hits in zip(queries, numbered(near).search(queries, k), strict=True):
            exact = query.astype(np.float64) / np.linalg.norm(query.astype(np.float64))
            truth = (near.astype(np.float64) @ exact).astype(np.float32)
            assert [hit.index for hit in hits] == list(np.argsort(-truth, kind="stable")[:k])


def test_equal_pictures_have_equal_scores_and_stay_in_order() -> None:
    """This holds for every batch size, and for more rows than one block."""
    vectors = np.tile(unit(3, width=33), (3000, 1))
    for queries in (unit(1, width=33, seed=1), unit(5, width=33, seed=1)):
        hits = numbered(vectors).search(queries, k=9000)[0]
        assert len({hit.score for hit in hits}) == 3
        order = [hit.index for hit in hits[::3000]]
        assert [hit.index for hit in hits] == [i for first in order for i in range(first, 9000, 3)]


def test_a_query_scores_the_same_alone_and_in_a_batch() -> None:
    gallery, queries = numbered(unit(300, width=64)), unit(9, width=64, seed=1)
    assert gallery.search(queries, k=300)[4] == gallery.search(queries[4:5], k=300)[0]


def test_queries_need_not_be_unit() -> None:
    gallery, queries = numbered(unit(10)), unit(1, seed=1)
    long, short = gallery.search(queries * 5)[0], gallery.search(queries)[0]
    assert [hit.index for hit in long] == [hit.index for hit in short]
    assert long[0].score == pytest.approx(short[0].score, abs=1e-6)


def test_k_beyond_the_gallery_gives_all() -> None:
    assert len(numbered(unit(3)).search(unit(1, seed=1), k=100)[0]) == 3


@pytest.mark.parametrize(
    ("names", "vectors", "said"),
    [
        ([], np.zeros((0, 4), np.float32), "n > 0"),
        (["a"], unit(2), "1 names for 2 vectors"),
        (["a"], unit(1) * 3, "length 3"),
        (["a", "b"], np.stack([unit(1)[0], np.full(16, np.nan, np.float32)]), "vector 1"),
    ],
    ids=["empty", "names", "length", "nan"],
)
def test_a_gallery_that_cannot_be_is_refused(names: list[str], vectors: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Gallery(names, vectors)


@pytest.mark.parametrize(
    ("queries", "k", "said"),
    [
        (unit(1, width=8), 5, r"expected \(q, 16\)"),
        (np.full((1, 16), np.nan, np.float32), 5, "not finite"),
        (unit(1), 0, "k is 0, expected at least 1"),
    ],
    ids=["width", "nan", "k"],
)
def test_a_query_that_cannot_be_is_refused(queries: np.ndarray, k: int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        numbered(unit(3)).search(queries, k)


def test_another_models_vectors_are_refused(clip: cjkclip.Clip) -> None:
    gallery = numbered(unit(3, width=clip.embed_dim), fingerprint="0123456789abcdef")
    with pytest.raises(CheckpointError, match="another model"):
        gallery.search_texts(clip, ["猫"])
    with pytest.raises(CheckpointError, match="another model"):
        gallery.search_pictures(clip, [Image.new("RGB", (9, 9))])
    with pytest.raises(CheckpointError, match="another model"):
        gallery.search(unit(1, width=clip.embed_dim), fingerprint="fedcba")


def test_save_and_load(tmp_path: Path) -> None:
    names = ["猫.jpg", "강아지.png", "a\nb\udcff.gif", ""]
    gallery = Gallery(names, unit(4), fingerprint="abc")
    gallery.save(tmp_path / "g.safetensors")
    back = Gallery.load(tmp_path / "g.safetensors")
    assert (back.names, back.fingerprint) == (tuple(names), "abc")
    np.testing.assert_array_equal(back.vectors, gallery.vectors)
    assert [p.name for p in tmp_path.iterdir()] == ["g.safetensors"]


def test_a_file_that_is_no_gallery_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a gallery"):
        Gallery.load(TINY / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"no\.safetensors"):
        Gallery.load(tmp_path / "no.safetensors")
    numbered(unit(4)).save(tmp_path / "g.safetensors")
    whole = (tmp_path / "g.safetensors").read_bytes()
    rng = random.Random(0)
    for _ in range(30):
        (tmp_path / "cut.safetensors").write_bytes(whole[: rng.randrange(len(whole))])
        with pytest.raises(CheckpointError):
            Gallery.load(tmp_path / "cut.safetensors")


@pytest.mark.parametrize(
    ("names", "changed", "said"),
    [
        (b'["a', {}, "damaged"),
        (b'{"a": 1}', {}, "damaged"),
        (b"[" * 100_000, {}, "damaged"),
        (b'["a", "b"]', {}, r"g\.safetensors: this gallery is damaged \(got 2 names for 1 vectors"),
        (b'["a"]', {"version": "2"}, "version '2'"),
        (b'["a"]', {"format": "pt"}, "is not a gallery"),
    ],
)
def test_a_damaged_or_later_gallery_is_refused(
    tmp_path: Path, names: bytes, changed: dict[str, str], said: str
) -> None:
    tensors = {"vectors": unit(1), "names": np.frombuffer(names, dtype=np.uint8)}
    metadata = {"format": "cjkclip-gallery", "version": "1", "fingerprint": "", **changed}
    weights.write(tmp_path / "g.safetensors", tensors, metadata)
    with pytest.raises(CheckpointError, match=said):
        Gallery.load(tmp_path / "g.safetensors")


class Odd(os.PathLike[Any]):
    """A path that is not told in text."""

    def __fspath__(self) -> bytes:
        return b"a"


@pytest.mark.parametrize("ending", [".safetensors", ".npz", ".npy"])
def test_names_may_be_paths_and_nothing_odd(tmp_path: Path, ending: str) -> None:
    names: list[Any] = [tmp_path / "猫.png", "b"]
    gallery = Gallery(names, unit(2))
    assert gallery.names == (str(tmp_path / "猫.png"), "b")
    with Rows(tmp_path / f"g{ending}", 16) as rows:
        rows.add(names, gallery.vectors)
        with pytest.raises(InputError, match="got the name b'a' of type bytes"):
            rows.add([Odd()], unit(1))
        rows.save("")
    assert tuple(rows.names) == gallery.names
    with pytest.raises(InputError, match="got the name b'a' of type bytes"):
        Gallery([Odd()], unit(1))


def test_bad_pictures_are_told_and_the_others_kept(clip: cjkclip.Clip, folder: Path) -> None:
    (folder / "b.png").write_bytes(b"not a picture")
    paths = [folder / "猫.png", folder / "b.png", folder / "a.webp", folder / "none.png"]
    told: list[int] = []
    done: list[int] = []
    gallery = Gallery.from_pictures(
        clip, paths, on_error=lambda i, _: told.append(i), progress=done.append, batch_size=2
    )
    assert (told, done) == ([1, 3], [2, 4])
    assert gallery.names == (str(paths[0]), str(paths[2]))
    assert gallery.fingerprint == clip.fingerprint
    best = gallery.search_pictures(clip, [folder / "a.webp"], k=1)[0][0]
    assert (best.name, best.index) == (str(paths[2]), 1)
    assert best.score == pytest.approx(1, abs=1e-6)


def test_one_picture_is_a_list_of_one(clip: cjkclip.Clip, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    Path("x").write_bytes(Path("a.webp").read_bytes())  # as long as a list of one
    whole = Gallery.from_pictures(clip, [Path("a.webp")])
    for one, name in (("a.webp", "a.webp"), (Path("x"), "x"), (Path("x").read_bytes(), "0"), (Image.open("x"), "0")):
        gallery = Gallery.from_pictures(clip, one)
        assert gallery.names == (name,)
        assert np.array_equal(gallery.vectors, whole.vectors)
        assert gallery.search_pictures(clip, one)[0][0].name == name


def test_without_on_error_a_bad_picture_stops_it(clip: cjkclip.Clip, folder: Path) -> None:
    with pytest.raises(ImageError, match=r"none\.png"):
        Gallery.from_pictures(clip, [folder / "a.webp", folder / "none.png"])
    with pytest.raises(InputError, match="none of 1 images"):
        Gallery.from_pictures(clip, [folder / "none.png"], on_error=lambda *_: None)
    with pytest.raises(InputError, match="2 names for 1 images"):
        Gallery.from_pictures(clip, [folder / "a.webp"], ["a", "b"])


def test_find_pictures(folder: Path) -> None:
    (folder / "loop").symlink_to(folder)
    assert [p.relative_to(folder).as_posix() for p in find_pictures(folder)] == ["a.webp", "猫.png", "더 아래/犬.JPG"]


@pytest.mark.parametrize(
    ("name", "said"), [("nowhere", "does not exist"), ("notes.txt", "is a file"), (".hidden/", "contains no image")]
)
def test_a_folder_without_pictures_is_refused(folder: Path, name: str, said: str) -> None:
    (folder / ".hidden" / "x.png").unlink()
    with pytest.raises(InputError, match=said):
        find_pictures(folder / name)


def test_the_bundled_gallery(clip: cjkclip.Clip) -> None:
    """Any model searches it; a picture of it finds itself."""
    whole = bundled(clip)
    assert len(whole.gallery) == len(whole.concepts) == len(whole.pictures) == len(moji.concepts())
    at = next(i for i, concept in enumerate(whole.concepts) if concept.char == "🐼")
    assert whole.gallery.names[at] == "panda"
    picture = Image.open(io.BytesIO(whole.pictures[at]))
    assert whole.gallery.search_pictures(clip, [picture], k=1)[0][0].index == at
    with pytest.raises(InputError, match="noto"):
        bundled(clip, "twemoji")


@pytest.mark.parametrize("language", moji.LANGUAGES)
def test_most_bundled_names_are_guessed_right(language: str) -> None:
    """Han alone is a guess; kana, Hangul and letters are not."""
    names = [concept.names[language] for concept in moji.concepts()]
    share = np.mean([guess_language(name) == language for name in names])
    assert share > {"zh": 0.85, "zh-Hant": 0.7, "ja": 0.9, "ko": 0.97, "en": 0.99}[language]
