"""What every test stands on: checked array shapes, no network, no cache outside the test's own folder.

The import hook has to be in place before cjkclip is imported, so it stands at the top of this file. It makes
every annotated function of cjkclip check its arguments and results with beartype, array shapes included.
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

from hubstub import Stub, served

jaxtyping.install_import_hook("cjkclip", "typechecker.check")

os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="cjkclip-hf-")
atexit.register(shutil.rmtree, os.environ["HF_HOME"], ignore_errors=True)
_connect = socket.socket.connect


def _refuse(self: socket.socket, address: Any) -> None:
    """Connect to this machine only."""
    if self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1", "localhost"):
        return _connect(self, address)
    raise AssertionError(f"an offline test reached for {address}; mark it `hub` if it must")


@pytest.fixture(autouse=True)
def offline(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test but the `hub` ones fails when it reaches for the network."""
    if request.node.get_closest_marker("hub") is None:
        monkeypatch.setattr(socket.socket, "connect", _refuse)


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A hub of our own."""
    with served() as one:
        yield one
