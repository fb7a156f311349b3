"""The command line: what it answers, in tables and in JSON, and the frozen list of its commands and flags."""

import json
import os
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

import cjkclip
from cjkclip import moji
from cjkclip.cli import app
from cjkclip.cli.streams import safe
from cjkclip.gallery import Gallery
from support.cli import FLAGS, IMAGES, MODEL, TINY, answer, program, run

pytestmark = pytest.mark.usefixtures("fewer_pictures")


def test_commands_and_flags_are_frozen() -> None:
    commands = typer.main.get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]
    flags = {}
    for name, command in commands.items():
        options = [flag for param in command.params for flag in param.opts if flag not in ("--help", "-h")]
        named = [param.metavar for param in command.params if param.param_type_name == "argument"]
        flags[name] = sorted([*named, *(flag for flag in options if flag.startswith("-"))])
    assert flags == {name: sorted(row.split()) for name, row in FLAGS.items()}


@pytest.mark.parametrize("command", FLAGS)
def test_help_has_an_example_and_the_exit_codes(command: str) -> None:
    for flag in ("--help", "-h"):
        shown = run(command, flag)
        assert shown.exit_code == 0
        assert f"Example: cjkclip {command}" in shown.stdout
        assert "Exit codes: 0 success" in shown.stdout


def test_version_and_bare_program() -> None:
    assert run("--version").stdout == f"cjkclip {cjkclip.__version__}\n"
    for command in FLAGS:
        assert command in run("--help").stdout


def test_models() -> None:
    models = {model["name"]: model for model in answer("models")["models"]}
    assert models["moji"] | {"note": ""} == {
        "name": "moji",
        "aliases": [],
        "family": "moji",
        "layout": "cjkclip",
        "languages": ["zh", "zh-Hant", "ja", "ko", "en"],
        "licence": "apache-2.0",
        "bundled": True,
        "note": "",
        "scores": {},
    }
    assert models["rinna/japanese-clip-vit-b-16"]["scores"]["ImageNet top-1"] == 50.69
    shown = run("models").stdout
    assert all(name in shown for name in models)


def test_classify() -> None:
    data = answer("classify", IMAGES / "a.png", IMAGES / "c.jpg", "-l", "猫，犬、鳥", "-l", "cat, 猫", *MODEL)
    assert data["labels"] == ["猫", "犬", "鳥", "cat"]
    clip = cjkclip.load(TINY, engine="numpy")
    truth = clip.classify([IMAGES / "a.png", IMAGES / "c.jpg"], ["猫", "犬", "鳥", "cat"])
    for result, found in zip(data["results"], truth, strict=True):
        assert [(one["label"], pytest.approx(one["score"], abs=1e-6)) for one in result["predictions"]] == found
    assert [result["picture"] for result in data["results"]] == [str(IMAGES / "a.png"), str(IMAGES / "c.jpg")]


def test_classify_shows_the_best_label_first() -> None:
    shown = run("classify", IMAGES / "a.png", "--labels", "cat,dog", *MODEL).stdout.splitlines()
    best = answer("classify", IMAGES / "a.png", "--labels", "cat,dog", *MODEL)["results"][0]["predictions"][0]
    assert shown[0] == str(IMAGES / "a.png")
    assert shown[2].split()[:2] == [best["label"], f"{best['score']:.1%}"]


def test_labels_from_a_file_keep_their_commas(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes("\ufeffa cat, asleep\r\n\r\n犬\r\n".encode())
    one = answer("classify", IMAGES / "a.png", "--label-file", tmp_path / "labels.txt", *MODEL)
    assert one["labels"] == ["a cat, asleep", "犬"]
    two = answer("classify", IMAGES / "a.png", "--label-file", "-", *MODEL, typed="猫\n犬\n")
    assert two["labels"] == ["猫", "犬"]


def test_templates_change_the_answer() -> None:
    plain, worded = (
        answer("classify", IMAGES / "a.png", "-l", "cat,dog", *MODEL, *more)["results"][0]["predictions"]
        for more in ([], ["--template", "a photo of a {}", "--template", "{}!"])
    )
    clip = cjkclip.load(TINY, engine="numpy")
    truth = clip.classify([IMAGES / "a.png"], ["cat", "dog"], templates=["a photo of a {}", "{}!"])[0]
    assert worded[0]["score"] == pytest.approx(truth[0].score, abs=1e-6)
    assert worded != plain


def test_search_the_bundled_pictures() -> None:
    data = answer("search", "猫", "ねこ", "貓", "고양이", "cat", "-k", "3", *MODEL)
    assert [result["language"] for result in data["results"]] == ["zh", "ja", "zh-Hant", "ko", "en"]
    by_char = {concept.char: concept for concept in moji.concepts()}
    for result in data["results"]:
        assert [hit["rank"] for hit in result["hits"]] == [1, 2, 3]
        for hit in result["hits"]:
            assert hit["name"] == by_char[hit["char"]].names[result["language"]]
            assert hit["names"] == dict(by_char[hit["char"]].names)


def test_search_by_picture_finds_the_picture(tmp_path: Path) -> None:
    (tmp_path / "panda.webp").write_bytes(moji.pictures("fluent")["1f43c"])
    data = answer("search", tmp_path / "panda.webp", "--in", "fluent", "--language", "ko", "-k", "1", *MODEL)
    [result] = data["results"]
    assert (result["kind"], result["language"]) == ("picture", "ko")
    assert result["hits"][0]["name"] == "판다 얼굴"
    assert result["hits"][0]["score"] == pytest.approx(1, abs=1e-5)


def test_search_a_folder_and_its_gallery_alike(tmp_path: Path) -> None:
    folder = answer("search", "cat", "--in", IMAGES, *MODEL)
    out = tmp_path / "g.safetensors"
    assert run("embed", IMAGES, "-o", out, *MODEL).exit_code == 0
    gallery = answer("search", "cat", "--in", out, *MODEL)
    paths = [[hit["path"] for hit in data["results"][0]["hits"]] for data in (folder, gallery)]
    assert paths[0] == paths[1]
    assert sorted(paths[0]) == [str(IMAGES / name) for name in ("a.png", "b.png", "c.jpg")]
    assert [hit["name"] for hit in folder["results"][0]["hits"]] == [Path(path).name for path in paths[0]]


def test_a_folder_that_is_called_like_a_design_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "noto").mkdir()
    Image.new("RGB", (9, 9), "red").save(tmp_path / "noto" / "red.png")
    data = answer("search", "cat", "--in", "noto", *MODEL)
    assert [hit["path"] for hit in data["results"][0]["hits"]] == [str(Path("noto", "red.png"))]


def test_embed_for_numpy(tmp_path: Path) -> None:
    clip = cjkclip.load(TINY, engine="numpy")
    words = [str(IMAGES / "a.png"), "猫", "a cat"]
    data = answer("embed", *words, "--out", tmp_path / "v.npz", *MODEL)
    with np.load(tmp_path / "v.npz", allow_pickle=False) as saved:
        assert list(saved["names"]) == words == data["names"]
        assert str(saved["fingerprint"]) == clip.fingerprint == data["fingerprint"]
        np.testing.assert_allclose(saved["vectors"][0], clip.encode_image([words[0]])[0], atol=1e-6)
        np.testing.assert_allclose(saved["vectors"][1:], clip.encode_text(words[1:]), atol=1e-6)
    assert (data["rows"], data["width"]) == (3, clip.embed_dim)
    assert run("embed", *words, "--out", tmp_path / "v.npy", *MODEL).exit_code == 0
    assert np.load(tmp_path / "v.npy", allow_pickle=False).shape == (3, clip.embed_dim)


def test_embed_lines_and_kinds(tmp_path: Path) -> None:
    out = tmp_path / "v.safetensors"
    data = answer("embed", "--lines", "-", "-o", out, *MODEL, typed="猫\n\n犬\n")
    assert list(Gallery.load(out).names) == ["猫", "犬"] == data["names"]
    assert answer("embed", "--as", "text", "cat.jpg", "-o", out, *MODEL)["rows"] == 1
    assert answer("embed", "--as", "picture", IMAGES, "-o", out, *MODEL)["rows"] == 3


def test_a_query_that_is_cut_is_reported() -> None:
    data = answer("search", "ねこ" * 5000, "-k", "1", *MODEL)
    assert "longer than 77 tokens" in data["notes"][0]
    shown = run("search", "ねこ" * 5000, "-k", "1", *MODEL)
    assert "note: 1 of 1 texts are longer than 77 tokens" in shown.stderr
    assert "… (10,000 characters)" in shown.stdout
    assert len(shown.stdout) < 1000


def test_the_sheet_is_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cjkclip.gallery.sheet.fonts._usual_folders", lambda: [tmp_path])
    monkeypatch.setattr("cjkclip.gallery.sheet.fonts._fontconfig", list)
    sheet = tmp_path / "found.png"
    data = answer("search", "猫", IMAGES / "b.png", "--sheet", sheet, "-k", "2", *MODEL)
    assert data["sheet"] == str(sheet)
    assert "fonts-noto-cjk" in data["notes"][0]
    with Image.open(sheet) as drawn:
        assert (drawn.format, drawn.width) == ("PNG", 2 * 48 + 2 * 188 + 18)
    assert "sheet" in answer("search", "cat", "--in", IMAGES, "--sheet", sheet, *MODEL)


def test_doctor_on_a_model_that_works() -> None:
    data = answer("doctor", TINY, "--engine", "numpy")
    checks = {check["name"]: check for check in data["checks"]}
    assert data["well"] is True
    assert {"engines", "fonts", "hub", "model loads", "texts encode", "pictures encode", "engine agrees"} <= set(checks)
    assert not [check for check in checks.values() if check["status"] == "fail"]


def test_doctor_on_a_model_that_does_not() -> None:
    data = answer("doctor", "no/model/here", code=3)
    assert data["well"] is False
    assert [check["name"] for check in data["checks"] if check["status"] == "fail"] == ["model loads"]


def test_train_goes_on_with_a_model(tmp_path: Path) -> None:
    lines = [f"{IMAGES / name}\t{text}" for name, text in (("a.png", "猫"), ("b.png", "犬"), ("c.jpg", "鳥"))]
    (tmp_path / "pairs.tsv").write_text("\n".join(lines), encoding="utf-8")
    out = tmp_path / "new"
    command = ["train", tmp_path / "pairs.tsv", "--from", TINY, "--out", out, "--steps", "2", "--batch", "3"]
    data = answer(*command)
    assert cjkclip.load(out).fingerprint == data["fingerprint"] != cjkclip.load(TINY).fingerprint
    assert data["losses"][-1]["step"] == 2
    assert "is not overwritten" in answer(*command, code=4)["error"]["message"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\rb\n\x07\x9b", "a\\x0db\\x0a\\x07\\x9b"),
        ("\u202ecod.exe", "\\u202ecod.exe"),
        (os.fsdecode(b"by\xffte"), "by\\xffte"),
        ("\ud800", "\\ud800"),
        ("ねこ 고양이 🧑‍🏫 [red]", "ねこ 고양이 🧑‍🏫 [red]"),
    ],
)
def test_nothing_reaches_the_terminal_that_moves_it(text: str, shown: str) -> None:
    assert safe(text) == shown


def columns(text: str) -> int:
    """How many columns a terminal gives a text without emoji, by Unicode's own table."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def test_tables_are_aligned_with_wide_characters() -> None:
    """The scores of a table begin in the same column, and emoji, whose width is uncertain, come after them."""
    chars = {concept.char for concept in moji.concepts()}
    for language in ("zh", "zh-Hant", "ja", "ko", "en"):
        lines = run("search", "cat", "-k", "9", "--language", language, *MODEL).stdout.splitlines()[2:11]
        heads = [re.split(r"-?0\.\d{3}  ", line) for line in lines]
        assert len({columns(head) for head, _ in heads}) == 1
        assert {last.strip() for _, last in heads} <= chars


def test_the_program_itself() -> None:
    done = program("search", "猫", "-k", "1", *map(str, MODEL), "--json", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert done.returncode == 0
    assert done.stderr == b""
    assert "猫".encode() in done.stdout
    assert json.loads(done.stdout)["results"][0]["query"] == "猫"
    table = program("search", "猫", "-k", "1", *map(str, MODEL), PYTHONIOENCODING="ascii", LC_ALL="C")
    assert table.returncode == 0
    assert b"\\u732b" in table.stdout
