"""Files beside the weights that are damaged: a typed error that names the place, and no long wait."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cjkclip
from cjkclip.checkpoints import weights
from cjkclip.errors import MESSAGE, CheckpointError, CjkclipError, FactsError, WeightsError
from families import BUNDLED, GOLDEN

FOLDERS = {"hf": GOLDEN / "hf-clip-eos2", "chinese": GOLDEN / "hf-chinese-clip", "open_clip": GOLDEN / "open-clip"}
FOLDERS |= {"rinna": GOLDEN / "rinna-clip-bert", "moji": BUNDLED, "text": GOLDEN / "hf-clip-text-projection"}
FOLDERS |= {"vision": GOLDEN / "hf-clip-vision-projection"}
CONFIG, PIXELS, OPEN = "config.json", "preprocessor_config.json", "open_clip_config.json"
DAMAGED = "are damaged or of another layout"


@pytest.fixture
def copied(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder of `FOLDERS` that may be spoilt."""
    for file in FOLDERS[request.param].iterdir():
        if file.is_file() and file.suffix in {".json", ".txt", ".model", ".safetensors"}:
            shutil.copy(file, tmp_path)
    cjkclip.load(tmp_path, engine="numpy")
    return tmp_path


def change(file: Path, path: str, value: Any) -> None:
    """Set an entry of a JSON file by its dotted path; ... takes it away."""
    data = json.loads(file.read_text("utf-8"))
    *steps, last = path.split(".")
    table = data
    for step in steps:
        table = table[step]
    if value is ...:
        del table[last]
    else:
        table[last] = value
    file.write_text(json.dumps(data), "utf-8")


CASES: list[tuple[str, str, str, Any, str]] = [
    ("hf", CONFIG, "text_config", "a text", DAMAGED),
    ("hf", CONFIG, "vision_config", None, DAMAGED),
    ("hf", CONFIG, "vision_config.num_hidden_layers", 10**9, "at most 1000 blocks"),
    ("text", CONFIG, "num_hidden_layers", 1 << 30, "at most 1000 blocks"),
    ("vision", CONFIG, "num_attention_heads", 0, "a width that its heads divide"),
    ("hf", CONFIG, "vision_config.patch_size", 0, "widths and sizes above 0"),
    ("hf", CONFIG, "vision_config.patch_size", 1 << 20, "widths and sizes above 0"),
    ("hf", CONFIG, "text_config.hidden_size", 1 << 40, "text.width is"),
    ("hf", CONFIG, "projection_dim", 0, "embed is 0"),
    ("hf", CONFIG, "text_config.layer_norm_eps", float("inf"), "text.eps is inf"),
    ("hf", CONFIG, "text_config.hidden_act", "x" * 100_000, r"text.act is 'xxx"),
    ("hf", PIXELS, "size", [224], DAMAGED),
    ("hf", PIXELS, "size", {"width": 4}, "'height' is missing"),
    ("hf", PIXELS, "resample", [3], DAMAGED),
    ("hf", PIXELS, "image_mean", 0.5, DAMAGED),
    ("hf", PIXELS, "image_mean", [10**400, 0, 0], "image.mean is"),
    ("hf", PIXELS, "image_std", [0, 1, 1], "std .* .not 0."),
    ("hf", PIXELS, "rescale_factor", 1 / 127.5, "rescale_factor 0.00784.* is not supported, expected 1/255"),
    ("hf", PIXELS, "rescale_factor", 0, "rescale_factor 0 is not supported, expected 1/255"),
    ("hf", PIXELS, "rescale_factor", "1/255", DAMAGED),
    ("hf", PIXELS, "rescale_factor", 10**400, DAMAGED),
    ("hf", PIXELS, "do_center_crop", False, "size .'shortest_edge': 32. and no crop gives images that are not sq"),
    ("chinese", CONFIG, "text_config", 3, DAMAGED),
    ("rinna", CONFIG, "text_config", 3, DAMAGED),
    ("rinna", CONFIG, "vision_config", True, DAMAGED),
    ("open_clip", OPEN, "model_cfg", "ViT-B-32", DAMAGED),
    ("open_clip", OPEN, "model_cfg.embed_dim", ..., "'embed_dim' is missing"),
    ("open_clip", OPEN, "model_cfg.vision_cfg", True, DAMAGED),
    ("open_clip", OPEN, "model_cfg.vision_cfg.head_width", 0, DAMAGED),
    ("moji", CONFIG, "family", ..., "'family' is missing"),
    ("moji", CONFIG, "family", {}, DAMAGED),
    ("moji", CONFIG, "model", 1.5, DAMAGED),
    ("moji", CONFIG, "model.vision", 3, "vision.kind is None, expected one of"),
    ("moji", CONFIG, "model.scale", "much", "scale is 'much'"),
    ("moji", CONFIG, "model.image.size", 1 << 30, "size 1073741824 .1 to 4096."),
    ("moji", CONFIG, "tokenizer", 3, DAMAGED),
    ("moji", CONFIG, "tokenizer.context", 1 << 36, "makes rows of 68719476736 ids"),
    ("moji", CONFIG, "tokenizer.kind", [], DAMAGED),
]


@pytest.mark.parametrize(
    ("copied", "file", "path", "value", "words"),
    CASES,
    ids=[f"{case[0]}-{case[2]}-{i}" for i, case in enumerate(CASES)],
    indirect=["copied"],
)
def test_an_entry_that_nobody_writes(copied, file, path, value, words):
    change(copied / file, path, value)
    start = time.perf_counter()
    with pytest.raises(FactsError, match=words) as caught:
        cjkclip.load(copied, engine="numpy")
    assert time.perf_counter() - start < 2
    assert len(str(caught.value)) < MESSAGE


@pytest.mark.parametrize("copied", ["hf"], indirect=True)
@pytest.mark.parametrize("name", [CONFIG, PIXELS, "tokenizer_config.json"])
@pytest.mark.parametrize("content", ['{"a": ' * 100_000, "[" * 100_000, '{"a": 1' + "0" * 5000 + "}", "[]", "", "\xff"])
def test_json_that_cannot_be_read(copied, name, content):
    (copied / name).write_bytes(content.encode("latin-1"))
    with pytest.raises(CheckpointError, match=rf"{name}: (not readable as JSON|contains a list)"):
        cjkclip.load(copied, engine="numpy")


@pytest.mark.parametrize("copied", ["hf"], indirect=True)
@pytest.mark.parametrize("factor", [1 / 255, 0.00392156862745098, 0.003921568859368563])
def test_the_factor_of_a_byte_is_read_with_the_digits_of_any_writer(copied: Path, factor: float) -> None:
    change(copied / PIXELS, "rescale_factor", factor)
    assert cjkclip.load(copied, engine="numpy").config.image is not None


@pytest.mark.parametrize("copied", ["hf"], indirect=True)
@pytest.mark.parametrize("scale", [500.0, -500.0, np.nan, np.inf])
def test_a_scale_that_is_none(copied, scale):
    tensors = weights.read(copied / "model.safetensors")
    (copied / "model.safetensors").unlink()
    weights.write(copied / "model.safetensors", tensors | {"logit_scale": np.float32(scale)[...]})
    with pytest.raises(WeightsError, match=r"logit_scale is .*, expected the logarithm of a scale"):
        cjkclip.load(copied, engine="numpy")


def test_a_message_without_end_loses_its_middle():
    message = str(CjkclipError("a" + "b" * 100_000 + "c"))
    assert len(message) <= MESSAGE
    assert (message[0], message[-1]) == ("a", "c")
    assert str(CjkclipError("b" * MESSAGE)) == "b" * MESSAGE


@pytest.mark.parametrize("value", [[], {}, 3, None])
def test_a_model_type_that_is_no_name_is_not_looked_up(value: object, tmp_path: Path) -> None:
    """Only forms whose names another form has as well ask for it; the others load whatever it says."""
    folder = shutil.copytree(GOLDEN / "hf-clip-eos2", tmp_path / "m")
    record = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(record | {"model_type": value}), "utf-8")
    assert cjkclip.load(folder, engine="numpy").family.name == "openai"
