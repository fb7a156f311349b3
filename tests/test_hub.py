"""Names to paths: what is local, what is fetched from Hugging Face's hub, and what is said when it cannot be."""

import itertools
import json
import re
from pathlib import Path

import pytest

from cjkclip.checkpoints.hub import Where, complete, locate, needed, suggest
from cjkclip.checkpoints.weights import FILES
from cjkclip.errors import HubError, ModelNotFoundError
from support.hubstub import REFUSALS, REPOSITORIES, SHA, ask


def test_only_what_is_needed_is_fetched_and_then_read_from_the_cache(tmp_path, stub):
    (kind, folder, files), again = ask(tmp_path, stub, "org/clip", "hf-hub:org/clip@v2", HF_TOKEN="hf_secret")
    assert (kind, files) == ("ok", ["config.json", "merges.txt", "model.safetensors"])
    assert (Path(folder) / "model.safetensors").read_bytes() == REPOSITORIES["org/clip"]["model.safetensors"]
    assert Path(folder).is_relative_to(tmp_path / "hf")
    assert again[:2] == ("ok", folder)
    fetched = [request for request in stub.requests if request.startswith("GET") and "/resolve/" in request]
    assert sorted(request.rpartition("/")[2] for request in fetched) == files  # each once, and nothing else
    assert stub.tokens == {"Bearer hf_secret"}  # and to the place that HF_ENDPOINT names

    stub.requests.clear()
    offline = ask(tmp_path, stub, "org/clip", "org/clip@v3", HF_HUB_OFFLINE="1")
    assert offline[0] == ("ok", folder, files)
    assert offline[1][0] == "HubError"
    assert stub.requests == []

    stub.server_close()  # nothing listens any more
    assert ask(tmp_path, stub, "org/clip") == [("ok", folder, files)]


def test_each_refusal_says_what_to_do(tmp_path, stub):
    names = [*REFUSALS, "org/clip@nowhere", "org/no-weights", "org/no-hub", "org/a..b"]
    answers = dict(zip(names, ask(tmp_path, stub, *names), strict=True))
    words = {
        "org/gone": "no directory of that name",
        "org/hidden": "private or does not exist.*hf auth login",
        "org/bad-token": "check the current token",
        "org/forbidden": "check the current token",
        "org/gated": "Agree to its terms",
        "org/busy": "rejected org/busy .418.",
        "org/fault": "has a server error .501., and it is not in the cache",
        "org/clip@nowhere": "no revision 'nowhere'",
        "org/no-weights": "no readable weights.*rust_model.ot",
        "org/no-hub": "is not a hub.*Check HF_ENDPOINT",
        "org/a..b": "is not a valid hub name",
    }
    for name, pattern in words.items():
        kind, message, _ = answers[name]
        assert kind == ("ModelNotFoundError" if name == "org/a..b" else "HubError"), name
        assert re.search(pattern, message, re.DOTALL), (name, message)


def test_without_a_cache_and_without_the_network_the_error_says_why(tmp_path, stub):
    offline = ask(tmp_path, stub, "org/clip", HF_HUB_OFFLINE="1")[0]
    assert offline[0] == "HubError"
    assert "HF_HUB_OFFLINE is set, and it is not in the cache" in offline[1]
    assert "pass the path of their directory" in offline[1]
    assert stub.requests == []
    stub.server_close()
    down = ask(tmp_path, stub, "org/clip")[0]
    assert down[0] == "HubError"
    assert "the download failed (Connect" in down[1]


def test_half_a_snapshot_is_not_a_model(tmp_path, stub):
    folder = tmp_path / "hf/hub/models--org--clip"
    (folder / "snapshots" / SHA).mkdir(parents=True)
    (folder / "snapshots" / SHA / "config.json").write_text("{}")
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(SHA)
    kind, message, _ = ask(tmp_path, stub, "org/clip", HF_HUB_OFFLINE="1")[0]
    assert kind == "HubError"
    assert "contains only a part" in message


def test_a_path_that_exists_is_returned_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "org" / "clip").mkdir(parents=True)
    (tmp_path / "ViT-B-32.pt").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert locate("org/clip") == Path("org/clip")
    assert locate(str(tmp_path / "ViT-B-32.pt")) == tmp_path / "ViT-B-32.pt"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/org") == tmp_path / "org"
    with pytest.raises(ModelNotFoundError, match="no revision"):
        locate("org/clip", Where(revision="v2"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit-b32", "is not a model. Expected a directory, a file, or a hub name"),
        ("", "is not a model"),
        ("日本語", "is not a model"),
        ("./clip", "no file or directory './clip'"),
        ("/srv/models/clip", "no file or directory"),
        ("models/ViT-B-32.pt", "no file or directory"),
        ("ViT-B-32.pt", "no file or directory"),
        ("C:\\models\\clip", "no file or directory"),
        ("~nobody-of-that-name/clip", "no file or directory"),
        ("org/name/more", "no file or directory"),
        ("x" * 5000, "is not a model"),
    ],
)
def test_what_is_neither_path_nor_hub_name_is_said_to_be_so(name, words):
    with pytest.raises(ModelNotFoundError, match=words):
        locate(name)


def test_two_revisions_contradict():
    with pytest.raises(ModelNotFoundError, match="'v1', but revision='v2'"):
        locate("org/clip@v1", Where(revision="v2"))


def test_weights_are_chosen_in_the_order_of_a_folder():
    files = [
        "pytorch_model.bin",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "open_clip_config.json",
        "optimizer.pt",
        "spiece.model",
        "tokenizer.json",
        "flax_model.msgpack.index.json",
    ]
    kept = ["open_clip_config.json", "spiece.model", "tokenizer.json"]
    assert needed(files) == sorted([*files[1:4], *kept])
    assert needed(["pytorch_model.bin", *kept]) == sorted(["pytorch_model.bin", *kept])
    assert needed(["clip_cn_rn50.pt", "optimizer.pt", *kept]) == sorted(["clip_cn_rn50.pt", *kept])
    assert needed(["a.pt", "b.pt", *kept]) == []
    parts = ["flax_model-00001-of-00002.msgpack", "flax_model-00002-of-00002.msgpack", "flax_model.msgpack.index.json"]
    assert needed([*parts, "tf_model.h5", "own.pt"]) == parts
    for earlier, later in itertools.combinations([*FILES, "own.pt"], 2):
        assert earlier in needed([later, earlier])
        assert later not in needed([later, earlier])


def test_open_clips_weights_are_fetched_where_the_others_are_timms_image_encoder():
    """By a listing alone: transformers' models have a processor beside them."""
    both = ["config.json", "open_clip_config.json", "tokenizer.json"]
    weights = ["model.safetensors", "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin"]
    assert needed([*both, *weights]) == sorted([*both, "open_clip_model.safetensors"])
    assert needed([*both, *weights[2:]]) == sorted([*both, "open_clip_pytorch_model.bin"])
    assert needed([*both, weights[0]]) == sorted([*both, "model.safetensors"])
    for processor in ("preprocessor_config.json", "processor_config.json"):
        assert needed([*both, *weights, processor]) == sorted([*both, processor, "model.safetensors"])


def test_weights_in_parts_are_complete_with_every_part(tmp_path):
    parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    index = {"weight_map": dict(zip("ab", parts, strict=True))}
    assert not complete(tmp_path)
    for name, text in ((parts[0], ""), ("model.safetensors.index.json", json.dumps(index))):
        (tmp_path / name).write_text(text)
        assert not complete(tmp_path)
    (tmp_path / parts[1]).write_text("")
    assert complete(tmp_path)
    (tmp_path / "model.safetensors").write_text("")
    assert complete(tmp_path)


DAMAGED = (
    "<html>",
    "",
    "\xff",
    "[" * 100_000,
    "{}",
    "[]",
    "3",
    '{"weight_map": ["x"]}',
    '{"weight_map": {"x": ["y"]}}',
)


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: repr(content[:30]))
def test_an_index_that_cannot_be_read_is_not_complete(content, tmp_path):
    folder = tmp_path / "models--org--clip" / "snapshots" / SHA
    folder.mkdir(parents=True)
    (tmp_path / "models--org--clip/refs").mkdir()
    (tmp_path / "models--org--clip/refs/main").write_text(SHA)
    (folder / "model.safetensors.index.json").write_bytes(content.encode("latin-1"))
    (folder / "model-00001-of-00001.safetensors").write_text("")
    with pytest.raises(HubError, match="contains only a part of it"):
        locate("org/clip", Where(cache=str(tmp_path), offline=True))


def test_suggestions():
    known = ["ViT-B/32", "ViT-B/16", "RN50", "moji"]
    assert suggest("vit-b32", known) == "Did you mean 'ViT-B/32' or 'ViT-B/16'?"
    assert suggest("xyz", known) == "Known names: 'RN50', 'ViT-B/16', 'ViT-B/32', 'moji'."
    assert suggest("xyz", []) == ""
