"""Images by URL: a local server that answers correctly, wrongly, late and with redirects."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from cjkclip.compat.transformers import pipelines
from cjkclip.compat.transformers.pipelines import pipeline
from cjkclip.errors import ImageError
from support.compat import PANDA, TASK, close


@pytest.fixture(scope="module")
def bundled() -> Any:
    return pipeline(TASK, model="moji")


class Answers(BaseHTTPRequestHandler):
    """Answer with an image, or with one of the failures of a server."""

    def do_GET(self) -> None:
        if self.path == "/slow.png":
            time.sleep(1)
            return
        if self.path in ("/away", "/file", "/ftp"):
            self.send_response(302)
            to = {"/away": "/panda.webp", "/file": "file:///etc/hostname", "/ftp": "ftp://127.0.0.1/x"}[self.path]
            self.send_header("Location", to)
            self.end_headers()
            return
        self.send_response(404 if self.path == "/none.png" else 200)
        self.end_headers()
        self.wfile.write(PANDA if self.path in ("/panda.webp", "/%ED%8C%90%EB%8B%A4.webp") else b"no picture")

    def log_message(self, *args: Any) -> None:
        """Print nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()
        thread.join()


def test_addresses(bundled: Any, server: str) -> None:
    asked = {"candidate_labels": ["판다", "자동차"], "hypothesis_template": "{}"}
    want = bundled(PANDA, **asked)
    close(bundled(images=f"{server}/panda.webp", **asked), want)
    close(bundled(images=f"{server}/판다.webp", **asked), want)
    away, here = bundled([f"{server}/away", PANDA], **asked)
    close(away, want)
    close(here, want)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/none.png", "404"),
        ("/text.png", "not in an image format"),
        ("/file", "download failed"),
        ("/ftp", "download failed"),
        ("/slow.png", "timed out"),
    ],
)
def test_addresses_that_are_no_picture(path: str, words: str, bundled: Any, server: str) -> None:
    with pytest.raises(ImageError, match=words):
        bundled(server + path, candidate_labels=["판다"], timeout=0.5)


def test_an_answer_that_is_too_long(bundled: Any, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines, "LARGEST", 100)
    with pytest.raises(ImageError, match="more than 100 bytes"):
        bundled(f"{server}/panda.webp", candidate_labels=["판다"])
