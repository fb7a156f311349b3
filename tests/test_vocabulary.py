"""A release whose vocabulary lies in another repository, fetched from a hub on this machine by a fresh process."""

import subprocess
import sys
from pathlib import Path

import cjkclip
from families import GOLDEN
from support.hubstub import Stub, environment

MODEL, SHARED = "rinna/japanese-clip-vit-b-16", "rinna/japanese-roberta-base"
LOAD = f"""
import sys, cjkclip
from cjkclip.errors import HubError
try:
    clip = cjkclip.load({MODEL!r}, engine="numpy")
    print(clip.tokenize(["犬と猫"]).ids[0, :6].tolist(), clip.encode_text(["犬と猫"]).shape)
except HubError as error:
    print("HubError", error)
"""


def serve(stub: Stub, *, shared: bool = True) -> None:
    golden = GOLDEN / "rinna-clip"
    stub.repositories[MODEL] = {n: (golden / n).read_bytes() for n in ("config.json", "pytorch_model.bin")}
    other = {"spiece.model": (golden / "spiece.model").read_bytes(), "pytorch_model.bin": b"another model"}
    stub.repositories[SHARED] = other if shared else {"pytorch_model.bin": b"another model"}


def load(home: Path, stub: Stub, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", LOAD],
        env=environment(home, stub.address, **env),
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    return done.stdout.strip()


def test_the_vocabulary_comes_with_the_model_and_from_the_cache(tmp_path: Path, stub: Stub) -> None:
    serve(stub)
    told = load(tmp_path, stub)
    beside = cjkclip.load(GOLDEN / "rinna-clip", engine="numpy")
    assert told == f"{beside.tokenize(['犬と猫']).ids[0, :6].tolist()} (1, {beside.embed_dim})"
    fetched = {path.rpartition("/")[2] for path in stub.requests if "/resolve/" in path and SHARED in path}
    assert fetched == {"spiece.model"}  # and not the other model's weights
    stub.requests.clear()
    assert load(tmp_path, stub, HF_HUB_OFFLINE="1") == told
    assert stub.requests == []


def test_a_vocabulary_that_is_not_there_is_told(tmp_path: Path, stub: Stub) -> None:
    serve(stub, shared=False)
    assert "has no file 'spiece.model'" in load(tmp_path, stub)
    assert "spiece.model of rinna/japanese-roberta-base: HF_HUB_OFFLINE is set" in load(
        tmp_path, stub, HF_HUB_OFFLINE="1"
    )
    del stub.repositories[SHARED]
    assert "has no repository 'rinna/japanese-roberta-base'" in load(tmp_path, stub)


PARTS = """
import sys
from cjkclip.compat.transformers import AutoTokenizer
from cjkclip.errors import HubError
import cjkclip
for step in sys.argv[1:]:
    try:
        if step == "tokenizer":
            print(len(AutoTokenizer.from_pretrained("org/small")(["a cat"])["input_ids"]))
        else:
            print(cjkclip.load("org/small", engine="numpy").embed_dim)
    except HubError as error:
        print("HubError", error)
"""


def test_a_tokenizer_comes_without_the_weights_and_is_no_model(tmp_path: Path, stub: Stub) -> None:
    golden = GOLDEN / "hf-clip-eos2"
    names = ("config.json", "tokenizer_config.json", "vocab.json", "merges.txt", "model.safetensors")
    stub.repositories["org/small"] = {name: (golden / name).read_bytes() for name in names}

    def run(*steps: str, **env: str) -> list[str]:
        command = [sys.executable, "-W", "error", "-c", PARTS, *steps]
        settings = environment(tmp_path, stub.address, **env)
        done = subprocess.run(command, env=settings, cwd=tmp_path, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    assert run("tokenizer") == ["1"]
    assert not [path for path in stub.requests if path.endswith("model.safetensors")]
    tokenizer, model = run("tokenizer", "model", HF_HUB_OFFLINE="1")
    assert tokenizer == "1"
    assert "HF_HUB_OFFLINE is set, and the cache contains only a part of it" in model
    assert run("model", "tokenizer") == ["32", "1"]
    assert run("model", "tokenizer", HF_HUB_OFFLINE="1") == ["32", "1"]
