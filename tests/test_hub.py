"""Names to paths: what is local, what is fetched from a hub, and what is said when it cannot be.

The hub is a small one of our own on this machine. huggingface_hub reads its settings when it is imported, so
each question to it is put in a fresh process, as a user's would be.
"""

import itertools
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cjkclip.errors import ModelNotFoundError
from cjkclip.hub import locate, needed, suggest
from cjkclip.weights import FILES

SHA = "0123456789abcdef0123456789abcdef01234567"
REPOSITORIES = {
    "org/clip": {
        "README.md": b"# clip",
        "config.json": b"{}",
        "merges.txt": b"#version: 0.2\n",
        "model.safetensors": b"safe" * 500,
        "pytorch_model.bin": b"pickled" * 500,
        "flax_model.msgpack": b"flax",
        "onnx/model.onnx": b"onnx",
        "sub/config.json": b"{}",
    },
    "org/no-weights": {"README.md": b"#", "config.json": b"{}", "rust_model.ot": b"rust"},
}
REFUSALS = {  # status, X-Error-Code, X-Error-Message
    "org/gone": (404, "RepoNotFound", "Repository not found"),
    "org/hidden": (401, "", "Invalid username or password."),
    "org/bad-token": (401, "", "Invalid credentials in Authorization header"),
    "org/forbidden": (403, "", "Your token lacks a permission"),
    "org/gated": (403, "GatedRepo", "Access to this model is restricted"),
    "org/busy": (418, "", "later"),
    "org/fault": (501, "", "down"),
}
ASK = """
import json, sys
from cjkclip.errors import CjkclipError
from cjkclip.hub import locate
answers = []
for name in sys.argv[1:]:
    try:
        folder = locate(name)
        files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
        answers.append(["ok", str(folder), files])
    except CjkclipError as error:
        answers.append([type(error).__name__, str(error), []])
print(json.dumps(answers))
"""


class Hub(BaseHTTPRequestHandler):
    """The few calls of the hub's API that fetching a snapshot makes."""

    requests: list[str]
    tokens: set[str | None]

    def do_GET(self) -> None:
        self.requests.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0].removeprefix("/api/models").strip("/")
        repository, rest = "/".join(path.split("/")[:2]), path.split("/")[2:]
        files = REPOSITORIES.get(repository)
        if files is not None:
            self.tokens.add(self.headers.get("Authorization"))
        if repository == "org/no-hub":
            self.reply(200, b"<html>Hello</html>", {})
        elif files is None:
            status, code, message = REFUSALS.get(repository, (404, "", "no such page"))
            self.reply(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message})
        elif rest[:1] == ["revision"] and rest[1] not in {"main", "v2", SHA}:
            self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif not rest or rest[0] == "revision":
            siblings = [{"rfilename": name} for name in files]
            self.reply(200, json.dumps({"id": repository, "sha": SHA, "siblings": siblings}).encode(), {})
        elif rest[0] == "tree":
            tree = [{"type": "file", "path": n, "size": len(b), "oid": "0" * 40} for n, b in files.items()]
            self.reply(200, json.dumps(tree).encode(), {})
        else:
            name = "/".join(rest[2:])
            self.reply(200, files[name], {"ETag": f'"{name}-1"', "X-Repo-Commit": SHA})

    do_HEAD = do_GET  # noqa: N815  (the name is http.server's)

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name is http.server's)
        """Keep quiet."""


@pytest.fixture
def hub() -> Iterator[ThreadingHTTPServer]:
    Hub.requests, Hub.tokens = [], set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def ask(home: Path, hub: ThreadingHTTPServer | int, *names: str, **env: str) -> list[tuple[str, str, list[str]]]:
    """What a fresh process answers for `names`: ("ok", folder, its files) or (error, message, [])."""
    port = hub if isinstance(hub, int) else hub.server_address[1]
    inherited = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and k[:3] != "HF_"}
    source = str(Path(__file__).parents[1] / "src")
    run = subprocess.run(
        [sys.executable, "-c", ASK, *names],
        env={
            **inherited,
            "PYTHONPATH": source,
            "HOME": str(home),
            "HF_HOME": str(home / "hf"),
            "HF_ENDPOINT": f"http://127.0.0.1:{port}",
            "HF_HUB_DISABLE_XET": "1",
            **env,
        },
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 0, run.stderr
    return [tuple(answer) for answer in json.loads(run.stdout)]


def test_only_what_is_needed_is_fetched_and_then_read_from_the_cache(tmp_path, hub):
    (kind, folder, files), again = ask(tmp_path, hub, "org/clip", "hf-hub:org/clip@v2", HF_TOKEN="hf_secret")
    assert (kind, files) == ("ok", ["config.json", "merges.txt", "model.safetensors"])
    assert (Path(folder) / "model.safetensors").read_bytes() == REPOSITORIES["org/clip"]["model.safetensors"]
    assert Path(folder).is_relative_to(tmp_path / "hf")
    assert again[:2] == ("ok", folder)
    fetched = [request for request in Hub.requests if request.startswith("GET") and "/resolve/" in request]
    assert sorted(request.rpartition("/")[2] for request in fetched) == files  # each once, and nothing else
    assert Hub.tokens == {"Bearer hf_secret"}

    Hub.requests.clear()
    offline = ask(tmp_path, hub, "org/clip", "org/clip@v3", HF_HUB_OFFLINE="1")
    assert offline[0] == ("ok", folder, files)
    assert offline[1][0] == "HubError"
    assert Hub.requests == []

    hub.server_close()  # nothing listens any more
    assert ask(tmp_path, hub.server_address[1], "org/clip") == [("ok", folder, files)]


def test_each_refusal_says_what_to_do(tmp_path, hub):
    names = [*REFUSALS, "org/clip@nowhere", "org/no-weights", "org/no-hub", "org/a..b"]
    answers = dict(zip(names, ask(tmp_path, hub, *names), strict=True))
    words = {
        "org/gone": "no folder of that name",
        "org/hidden": "private, or not there.*hf auth login",
        "org/bad-token": "check the token",
        "org/forbidden": "check the token",
        "org/gated": "agree to its terms",
        "org/busy": "refused org/busy .418.",
        "org/fault": "has a fault .501., and the cache does not hold it",
        "org/clip@nowhere": "no revision 'nowhere'",
        "org/no-weights": "no weights.*rust_model.ot",
        "org/no-hub": "is no hub.*check HF_ENDPOINT",
        "org/a..b": "cannot be a hub name",
    }
    for name, pattern in words.items():
        kind, message, _ = answers[name]
        assert kind == ("ModelNotFoundError" if name == "org/a..b" else "HubError"), name
        assert re.search(pattern, message, re.DOTALL), (name, message)


def test_without_a_cache_and_without_the_network_the_error_says_why(tmp_path, hub):
    offline = ask(tmp_path, hub, "org/clip", HF_HUB_OFFLINE="1")[0]
    assert offline[0] == "HubError"
    assert "HF_HUB_OFFLINE is set, and the cache does not hold it" in offline[1]
    assert "pass the folder's path" in offline[1]
    assert Hub.requests == []
    hub.server_close()
    down = ask(tmp_path, hub.server_address[1], "org/clip")[0]
    assert down[0] == "HubError"
    assert "could not be fetched (Connect" in down[1]


def test_half_a_snapshot_is_not_a_model(tmp_path, hub):
    folder = tmp_path / "hf/hub/models--org--clip"
    (folder / "snapshots" / SHA).mkdir(parents=True)
    (folder / "snapshots" / SHA / "config.json").write_text("{}")
    (folder / "refs").mkdir()
    (folder / "refs/main").write_text(SHA)
    kind, message, _ = ask(tmp_path, hub, "org/clip", HF_HUB_OFFLINE="1")[0]
    assert kind == "HubError"
    assert "holds only a part" in message


def test_a_path_that_exists_is_returned_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "org" / "clip").mkdir(parents=True)
    (tmp_path / "ViT-B-32.pt").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    assert locate("org/clip") == Path("org/clip")
    assert locate(str(tmp_path / "ViT-B-32.pt")) == tmp_path / "ViT-B-32.pt"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert locate("~/org") == tmp_path / "org"
    with pytest.raises(ModelNotFoundError, match="no revision"):
        locate("org/clip", revision="v2")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vit-b32", "is no model: expected a folder, a file, or a hub name"),
        ("", "is no model"),
        ("日本語", "is no model"),
        ("./clip", "no file or folder './clip'"),
        ("/srv/models/clip", "no file or folder"),
        ("models/ViT-B-32.pt", "no file or folder"),
        ("ViT-B-32.pt", "no file or folder"),
        ("C:\\models\\clip", "no file or folder"),
        ("~nobody-of-that-name/clip", "no file or folder"),
        ("org/name/more", "no file or folder"),
        ("x" * 5000, "is no model"),
    ],
)
def test_what_is_neither_path_nor_hub_name_is_said_to_be_so(name, words):
    with pytest.raises(ModelNotFoundError, match=words):
        locate(name)


def test_two_revisions_contradict():
    with pytest.raises(ModelNotFoundError, match="'v1', but revision='v2'"):
        locate("org/clip@v1", revision="v2")


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


def test_suggestions():
    known = ["ViT-B/32", "ViT-B/16", "RN50", "moji"]
    assert suggest("vit-b32", known) == "Did you mean 'ViT-B/32' or 'ViT-B/16'?"
    assert suggest("xyz", known) == "Known names: 'RN50', 'ViT-B/16', 'ViT-B/32', 'moji'."
    assert suggest("xyz", []) == ""
