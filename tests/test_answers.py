"""The schema of all answers: its keys are frozen, and what the commands print are these records."""

import json
from pathlib import Path
from typing import Any, is_typeddict

import pytest

from cjkclip import answers
from cjkclip.answers import records
from cjkclip.errors import InputError
from support.cli import IMAGES, MODEL, answer

pytestmark = pytest.mark.usefixtures("fewer_pictures")

# A key that changes its meaning or goes raises SCHEMA; "?" marks those that are not always there.
KEYS = {
    "BenchAnswer": "model machine quick default settings plain advice",
    "BundledHit": "rank name score char names",
    "Check": "name status found",
    "ClassifyAnswer": "model labels language results",
    "ClassifyResult": "picture predictions",
    "ComparisonRecord": "same first tolerance facts stages",
    "ConvertAnswer": "model folder layout facts files verified?",
    "DoctorAnswer": "model well checks",
    "EmbedAnswer": "model fingerprint out rows width names pictures? seconds?",
    "Failure": "kind message",
    "FileHit": "rank name score path",
    "FileRecord": "name bytes",
    "LabelScore": "label score cosine",
    "LossRecord": "step loss",
    "ModelRecord": "name aliases family layout languages licence bundled note scores",
    "ModelsAnswer": "models",
    "Problem": "input kind message",
    "SearchAnswer": "model in results sheet?",
    "SearchResult": "query kind language hits",
    "StageRecord": "name largest apart relative same note",
    "TrainAnswer": "model out fingerprint losses",
    "VerifyAnswer": "same first tolerance facts stages models",
}


def test_the_keys_are_frozen() -> None:
    kinds: dict[str, Any] = {name: kind for name, kind in vars(records).items() if is_typeddict(kind)}
    keys = {
        name: " ".join(f"{key}{'?' * (key in kind.__optional_keys__)}" for key in kind.__annotations__)
        for name, kind in kinds.items()
    }
    assert keys == KEYS
    assert answers.SCHEMA == 1


def keys(name: str) -> list[str]:
    """The keys that are always there, in their order."""
    return [key for key in KEYS[name].split() if not key.endswith("?")]


@pytest.mark.parametrize("inside", ["noto", str(IMAGES)])
def test_search_prints_these_records(inside: str) -> None:
    data = answer("search", "猫", "--in", inside, "-k", "1", *MODEL)
    assert list(data) == ["schema", "command", *keys("SearchAnswer"), "problems", "notes"]
    [result] = data["results"]
    assert list(result) == keys("SearchResult")
    assert list(result["hits"][0]) == keys("BundledHit" if inside == "noto" else "FileHit")


def test_classify_and_embed_print_these_records(tmp_path: Path) -> None:
    data = answer("classify", IMAGES, tmp_path / "gone.png", "-l", "猫,犬", *MODEL, code=1)
    assert list(data) == ["schema", "command", *keys("ClassifyAnswer"), "problems", "notes"]
    assert list(data["results"][0]) == keys("ClassifyResult")
    assert list(data["results"][0]["predictions"][0]) == keys("LabelScore")
    assert list(data["problems"][0]) == keys("Problem")
    data = answer("embed", "猫", "-o", tmp_path / "v.npy", *MODEL)
    assert list(data) == ["schema", "command", *keys("EmbedAnswer"), "problems", "notes"]


def test_an_error_is_an_answer_too() -> None:
    error = InputError("no such file", listed=["a"])
    data = answers.envelope("search", answers.failure(error), [answers.problem("a.png", error)], ["slow"])
    assert json.loads(json.dumps(data)) == {
        "schema": 1,
        "command": "search",
        "error": {"kind": "InputError", "message": "no such file\n  a"},
        "problems": [{"input": "a.png", "kind": "InputError", "message": "no such file\n  a"}],
        "notes": ["slow"],
    }
