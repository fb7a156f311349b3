"""Single files at a URL with a checksum, and loading one by a release's name."""

import hashlib
import os
from pathlib import Path

import pytest

import cjkclip
from cjkclip.checkpoints.families import find_release
from cjkclip.checkpoints.hub import Where, locate
from cjkclip.errors import HubError, ModelNotFoundError
from families import FAMILIES, GOLDEN
from support.hubstub import WEIGHTS, Stub, close_session, sha256

RIGHT, OTHER = sha256(WEIGHTS), "0" * 64


@pytest.fixture
def server(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """The stub, with an empty cache under the test's folder."""
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    close_session()
    return stub


def test_a_file_is_fetched_once_and_resumed(server: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.cuts = ["model.pt"]
    name = f"{server.address}/files/model.pt#sha256={RIGHT.upper()}"
    file = locate(name)
    assert file == tmp_path / ".cache/cjkclip/urls" / RIGHT / "model.pt"
    assert file.read_bytes() == WEIGHTS
    assert server.ranges == [f"bytes={len(WEIGHTS) // 2}-"]
    asked = len(server.requests)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    close_session()
    assert locate(name) == file
    assert len(server.requests) == asked


def test_another_checksum_leaves_nothing(server: Stub, tmp_path: Path) -> None:
    with pytest.raises(HubError, match=f"has checksum {RIGHT}, expected {OTHER}"):
        locate(f"{server.address}/files/model.pt#sha256={OTHER}")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 0]


def test_each_refusal_says_what_to_do(server: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = f"{server.address}/files/gone.pt#sha256={OTHER}"
    with pytest.raises(HubError, match=r"does not return the file \(404\)\. Check the URL"):
        locate(gone)
    server.status = 500
    with pytest.raises(HubError, match=r"has a server error \(500\), and it is not in the cache"):
        locate(gone)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    close_session()
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        locate(gone)


@pytest.mark.parametrize(
    "name",
    [
        "https://example.org/model.pt",
        "https://example.org/model.pt#sha256=abc",
        f"https://example.org/#sha256={OTHER}",
        f"https://example.org/page.html#sha256={OTHER}",
    ],
)
def test_a_url_without_a_checksum_or_a_file_is_refused(name: str) -> None:
    with pytest.raises(ModelNotFoundError, match=r"expected the URL of a weight file .*that ends with its checksum"):
        locate(name)


def test_a_url_has_no_revision() -> None:
    with pytest.raises(ModelNotFoundError, match="no revision 'v2'"):
        locate(f"https://example.org/model.pt#sha256={OTHER}", Where(revision="v2"))


def test_a_resnet_loads_by_its_name(server: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny archive of OpenAI's kind in place of the published one."""
    case = next(case for case in FAMILIES if case.name == "openai-rn")
    file = (GOLDEN / "openai-rn" / "model.pt").read_bytes()
    server.files["RN50.pt"] = file
    found = find_release("RN50")
    assert found is not None
    url = f"{server.address}/files/RN50.pt#sha256={hashlib.sha256(file).hexdigest()}"
    monkeypatch.setitem(vars(found[1]), "url", url)
    clip = cjkclip.load("rn50", engine="numpy", facts=case.facts)
    assert clip.release is found[1]
    assert clip.fingerprint == case.load().fingerprint
