"""Set up every test: checked array shapes, no network, no cache outside a temporary directory.

The import hook must be installed before cjkclip is imported, so it is at the top of this file. With it, every annotated
function of cjkclip checks its arguments and results with beartype, including array shapes.
"""

import atexit
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from typing import Any

import jaxtyping
import pytest

pytest.register_assert_rewrite("support")  # an assertion in a shared helper shows its values, as in a test

from support import typechecker  # noqa: E402  (after the line above, which must come first)
from support.hubstub import Stub, served  # noqa: E402

jaxtyping.install_import_hook("cjkclip", f"{typechecker.__name__}.check")

os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="cjkclip-hf-")
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
_connect = socket.socket.connect


def _refuse(self: socket.socket, address: Any) -> None:
    """Connect to this machine; fail for any other address."""
    if self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost"):
        return _connect(self, address)
    raise AssertionError(f"an offline test reached for {address}; mark it `hub` if it must")


@pytest.fixture(autouse=True)
def offline(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every test without the `hub` marker fail if it uses the network."""
    if request.node.get_closest_marker("hub") is None:
        monkeypatch.setattr(socket.socket, "connect", _refuse)


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A local stub of the model hubs."""
    with served() as one:
        yield one


@pytest.fixture
def fewer_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every twentieth of the package's pictures, and the panda: to encode all takes seconds."""
    from cjkclip import moji

    whole = {design: moji.gallery(design) for design in moji.DESIGNS}
    kept = {
        design: tuple(p for i, p in enumerate(w) if i % 20 == 0 or p[0].char == "🐼") for design, w in whole.items()
    }
    monkeypatch.setattr(moji, "gallery", kept.__getitem__)
