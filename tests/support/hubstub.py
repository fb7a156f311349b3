"""A small local hub server with the interfaces of Hugging Face and ModelScope, and plain files.

Each can break off a download, stop in the middle, or send other bytes than it lists. huggingface_hub reads its settings
at import, so `ask` sends its requests from a new process, like a user's.
"""

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from huggingface_hub import utils

from support.processes import SRC

SHA = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = bytes(range(256)) * 4096  # 1 MiB, more than one chunk of any client
REPOSITORIES = {
    "org/clip": {
        "README.md": b"# clip",
        "config.json": b"{}",
        "merges.txt": b"#version: 0.2\n",
        "model.safetensors": WEIGHTS,
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
from cjkclip.checkpoints.hub import locate
answers = []
for name in sys.argv[1:]:
    try:
        folder = locate(name, known=["ViT-B/32", "RN50"])
        files = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
        answers.append(["ok", str(folder), files])
    except CjkclipError as error:
        answers.append([type(error).__name__, str(error), []])
print(json.dumps(answers))
"""
Answer = tuple[str, str, list[str]]


def close_session() -> None:
    """Make huggingface_hub read its environment anew at the next request, whatever its version calls this."""
    (getattr(utils, "close_session", None) or utils.reset_sessions)()  # pyright: ignore[reportAttributeAccessIssue]


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def is_large(name: str) -> bool:
    """Whether the hub stores a file outside the git repository, with its sha256."""
    return name.endswith((".safetensors", ".bin", ".msgpack"))


class Stub(ThreadingHTTPServer):
    """A server of all three interfaces, which records its requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = dict(REPOSITORIES)
        self.files = {"model.pt": WEIGHTS}
        self.requests: list[str] = []
        self.ranges: list[str] = []
        self.tokens: set[str | None] = set()
        self.cuts: list[str] = []  # names of files to break off, each once
        self.stall = ""  # a file whose download stops half way, until `go_on`
        self.stalled, self.go_on = threading.Event(), threading.Event()
        self.sent: dict[str, bytes] = {}  # bytes to send instead of the listed ones
        self.status = 200  # HTTP status from ModelScope, and for a missing file
        self.ignores_ranges = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore errors, since clients may disconnect."""


class _Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_GET(self) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        if "/org/" in self.path:
            self.server.tokens.add(self.headers.get("Authorization"))
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path.startswith("/api/v1/models/"):
            self.modelscope(parts.path.removeprefix("/api/v1/models/"), query)
        elif parts.path.startswith("/files/"):
            name = parts.path.removeprefix("/files/")
            if name in self.server.files:
                self.file(name, self.server.files[name], {})
            else:
                self.reply(self.server.status if self.server.status != 200 else 404, b"", {})
        else:
            self.huggingface(parts.path.removeprefix("/api/models").strip("/"), query)

    do_HEAD = do_GET  # noqa: N815  (the name is http.server's)

    def huggingface(self, path: str, query: dict[str, str]) -> None:
        """Answer the few requests that a snapshot download sends."""
        repository, rest = "/".join(path.split("/")[:2]), path.split("/")[2:]
        files = self.server.repositories.get(repository)
        if repository == "org/no-hub":
            self.reply(200, b"<html>Hello</html>", {})
        elif files is None:
            status, code, message = REFUSALS.get(repository, (404, "", "no such page"))
            self.reply(status, b"{}", {"X-Error-Code": code, "X-Error-Message": message})
        elif rest[:1] == ["revision"] and rest[1] not in {"main", "v2", SHA}:
            self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif not rest or rest[0] == "revision":
            siblings = [{"rfilename": n} | (self.large(n, b, "sha256") if query else {}) for n, b in files.items()]
            self.reply(200, json.dumps({"id": repository, "sha": SHA, "siblings": siblings}).encode(), {})
        elif rest[0] == "tree":
            tree = [{"type": "file", "path": n, "oid": "0" * 40} | self.large(n, b, "oid") for n, b in files.items()]
            self.reply(200, json.dumps(tree).encode(), {})
        else:
            name = "/".join(rest[2:])
            etag = sha256(files[name]) if is_large(name) else f"{name}-1"
            self.file(name, files[name], {"ETag": f'"{etag}"', "X-Repo-Commit": SHA})

    def large(self, name: str, body: bytes, called: str) -> dict[str, object]:
        told: dict[str, object] = {"size": len(body)}
        return told | ({"lfs": {called: sha256(body), "size": len(body), "pointerSize": 130}} if is_large(name) else {})

    def modelscope(self, path: str, query: dict[str, str]) -> None:
        repository, rest = "/".join(path.split("/")[:2]), "/".join(path.split("/")[2:])
        files = self.server.repositories.get(repository)
        if self.server.status != 200:
            self.reply(self.server.status, b"{}", {})
        elif repository == "org/code":
            self.reply(200, json.dumps({"Code": 10010205001, "Message": "not today", "Data": None}).encode(), {})
        elif repository == "org/no-hub":
            self.reply(200, b"<html>Hello</html>", {})
        elif files is None or query["Revision"] not in {"master", "v2"}:
            self.reply(404, b'{"Code": 404, "Message": "not found"}', {})
        elif rest == "repo/files":
            listed = [
                {"Name": n, "Path": n, "Type": "blob", "Size": len(b), "Sha256": sha256(b) if is_large(n) else ""}
                for n, b in files.items()
                if "/" not in n
            ]
            listed.append({"Name": "onnx", "Path": "onnx", "Type": "tree", "Size": 0})
            self.reply(200, json.dumps({"Code": 200, "Data": {"Files": listed}}).encode(), {})
        else:
            self.file(query["FilePath"], files[query["FilePath"]], {})

    def file(self, name: str, body: bytes, headers: dict[str, str]) -> None:
        """Send a file, whole or from the requested offset."""
        body = self.server.sent.get(name, body)
        asked = None if self.server.ignores_ranges else self.headers.get("Range")
        if asked is None:
            self.reply(200, body, headers, name)
            return
        self.server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        span = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
        self.reply(206 if start < len(body) else 416, body[start:], headers | span, name)

    def reply(self, status: int, body: bytes, headers: dict[str, str], name: str = "") -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "GET":
            return
        half = len(body) // 2
        if name in self.server.cuts:
            self.server.cuts.remove(name)
            self.wfile.write(body[:half])
            return
        self.wfile.write(body[:half])
        if name and name == self.server.stall:
            self.wfile.flush()
            self.server.stalled.set()
            self.server.go_on.wait(60)
        self.wfile.write(body[half:])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (the name is http.server's)
        """Print nothing."""


@contextmanager
def served() -> Iterator[Stub]:
    """Run a stub server during the block."""
    stub = Stub()
    thread = threading.Thread(target=stub.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield stub
    finally:
        stub.go_on.set()
        stub.shutdown()
        stub.server_close()
        thread.join()


def environment(home: Path, address: str, **more: str) -> dict[str, str]:
    """Return the environment of a user with an empty home directory, whose hubs are all at `address`."""
    inherited = {
        k: v
        for k, v in os.environ.items()
        if not k.lower().endswith("_proxy") and not k.startswith(("HF_", "MODELSCOPE_", "XDG_"))
    }
    own = {
        "PYTHONPATH": str(SRC),
        "HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_ENDPOINT": address,
        "HF_HUB_DISABLE_XET": "1",
        "MODELSCOPE_DOMAIN": address,
    }
    return {**inherited, **own, **more}


def start(home: Path, stub: Stub, *names: str, **env: str) -> subprocess.Popen[str]:
    """Start a new process that requests `names`."""
    return subprocess.Popen(
        [sys.executable, "-c", ASK, *names],
        env=environment(home, stub.address, **env),
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ask(home: Path, stub: Stub, *names: str, **env: str) -> list[Answer]:
    """Return the answer of a new process for each name: ("ok", folder, its files) or (error, message, [])."""
    process = start(home, stub, *names, **env)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return [tuple(answer) for answer in json.loads(out)]


def killed_half_way(home: Path, stub: Stub, name: str, file: str, *, begun: str = "", **env: str) -> None:
    """Request `name`, and kill the process when half of one file was sent.

    `begun` is a glob pattern of a file below `home` that must then contain more than a quarter of the weights.
    """
    stub.stall = file
    process = start(home, stub, name, **env)
    assert stub.stalled.wait(30)
    time.sleep(0.5)  # time for downloads that would continue beside the stopped file
    while begun and not [path for path in home.rglob(begun) if path.stat().st_size > len(WEIGHTS) // 4]:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.communicate(timeout=30)
    stub.stall = ""
    stub.go_on.set()
