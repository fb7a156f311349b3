"""A release is known by every name that its repository has: its facts, vocabulary and image tower come with it."""

import shutil
from pathlib import Path

import pytest

from cjkclip import checkpoints
from cjkclip.checkpoints import hub
from cjkclip.checkpoints.families import find_release
from cjkclip.checkpoints.hub import Where
from families import GOLDEN
from support.hubstub import SHA

FORMS = ("{}", "hf-hub:{}", "{}@v1", "hf-hub:{}@v1")
TOWER = "openai/clip-vit-large-patch14"
TAIYI = "IDEA-CCNL/Taiyi-CLIP-RoBERTa-102M-ViT-L-Chinese"
RINNA = "rinna/japanese-clip-vit-b-16"


def put(cache: Path, repository: str, source: Path, *names: str) -> None:
    """A repository in Hugging Face's cache, whose revision v1 is the newest."""
    home = cache / f"models--{repository.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    for name in ("main", "v1"):
        (home / "refs" / name).write_text(SHA)
    snapshot = home / "snapshots" / SHA
    snapshot.mkdir(parents=True)
    for name in names or [path.name for path in source.iterdir() if path.is_file()]:
        shutil.copy(source / name, snapshot)


def read(name: str, cache: Path) -> checkpoints.Found:
    return checkpoints.read(checkpoints.resolve(name, Where(cache=str(cache), offline=True)))


@pytest.mark.parametrize("form", FORMS)
def test_a_release_of_text_alone_gets_its_image_tower(form: str, tmp_path: Path) -> None:
    put(tmp_path, TAIYI, GOLDEN / "taiyi-pooler-gelu/text")
    put(tmp_path, TOWER, GOLDEN / "taiyi-pooler-gelu/image")
    found = read(form.format(TAIYI), tmp_path)
    assert found.config.vision is not None
    assert (found.family.name, found.release and found.release.name) == ("taiyi", TAIYI)


@pytest.mark.parametrize("form", FORMS)
def test_a_release_without_a_vocabulary_gets_its_own(form: str, tmp_path: Path) -> None:
    put(tmp_path, RINNA, GOLDEN / "rinna-clip", "config.json", "pytorch_model.bin")
    put(tmp_path, "rinna/japanese-roberta-base", GOLDEN / "rinna-clip", "spiece.model")
    found = read(form.format(RINNA), tmp_path)
    assert found.tokenizer is not None


@pytest.mark.parametrize("form", FORMS)
def test_the_family_of_a_release_is_its_own(form: str, tmp_path: Path) -> None:
    name = "Bingsu/clip-vit-base-patch32-ko"
    put(tmp_path, name, GOLDEN / "koclip")
    found = read(form.format(name.lower()), tmp_path)
    assert (found.family.name, found.release and found.release.languages) == ("koclip", ("ko", "en"))


def test_a_revision_goes_to_the_hub_with_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "locate", lambda name, *_, **__: Path(name))
    wide = "openai/clip-vit-large-patch14-336"
    asked = {
        f"{TOWER}@v1": f"{TOWER}@v1",
        f"hf-hub:{TOWER}": f"hf-hub:{TOWER}",
        f"{TOWER.upper()}@V1": f"{TOWER}@V1",
        "ViT-L/14@336px": wide,
        "vit-l/14": TOWER,
        "Taiyi-CLIP-RoBERTa-102M-ViT-L-Chinese": TAIYI,
    }
    assert {name: str(checkpoints.resolve(name).path) for name in asked} == asked


@pytest.mark.parametrize(
    "name", ["modelscope:" + RINNA, "hf-hub:ViT-B/32", "hf-hub:moji", "moji@v1", "RN50@v1", "./" + RINNA]
)
def test_what_names_another_place_is_no_release(name: str) -> None:
    assert find_release(name) is None
