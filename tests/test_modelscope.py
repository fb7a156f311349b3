"""ModelScope as a source, over a small ModelScope of our own: whole, resumed, refused, offline, and never half."""

import errno
import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

import cjkclip
from cjkclip.checkpoints.hub import Where, download, locate
from cjkclip.errors import HubError, ModelNotFoundError
from families import GOLDEN
from support.hubstub import REPOSITORIES, WEIGHTS, Stub, close_session, killed_half_way

FILES = ["config.json", "merges.txt", "model.safetensors"]
CLIP = "modelscope:org/clip"


@pytest.fixture
def scope(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """The stub as this process's ModelScope, with an empty cache under the test's folder."""
    for name in os.environ:
        if name.lower().endswith("_proxy") or name.startswith("MODELSCOPE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / ".cache"))
    monkeypatch.setenv("MODELSCOPE_DOMAIN", stub.address)
    close_session()
    return stub


def fetched(scope: Stub) -> list[str]:
    """The files that were asked for, in order."""
    return [one.rpartition("FilePath=")[2] for one in scope.requests if "FilePath=" in one]


def whole(home: Path) -> list[Path]:
    """The snapshots that could be loaded, wherever they lie."""
    return [path.parent for path in home.rglob("model.safetensors") if path.parent.suffix != ".part"]


def test_only_what_is_needed_is_fetched_and_once(scope: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-secret")
    folder = locate(CLIP)
    assert folder.is_relative_to(tmp_path / ".cache/cjkclip/modelscope/org--clip/snapshots")
    assert sorted(path.name for path in folder.iterdir()) == sorted(fetched(scope)) == FILES
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert scope.tokens == {"Bearer ms-secret"}
    assert locate(CLIP) == locate(f"{CLIP}@v2") == locate(CLIP, Where(revision="v2")) == folder
    assert len(fetched(scope)) == len(FILES)

    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "theirs"))
    assert locate(CLIP).is_relative_to(tmp_path / "theirs" / "cjkclip")


def test_two_repositories_never_share_a_folder(scope: Stub, tmp_path: Path) -> None:
    """The last of these has the folder that names with one hyphen always had."""
    names = ["org--a/b", "org/a--b", "org--a--b/c", "org/a--b--c", "org-/a", "org/a-b"]
    for name in names:
        scope.repositories[name] = REPOSITORIES["org/clip"] | {"model.safetensors": name.encode()}
        assert (locate(f"modelscope:{name}") / "model.safetensors").read_bytes() == name.encode()
    homes = [path.name for path in (tmp_path / ".cache/cjkclip/modelscope").iterdir()]
    assert len(homes) == len(names)
    assert {"org--a-b", "org---a"} < set(homes)
    scope.status = 503
    for name in names:
        assert (locate(f"modelscope:{name}") / "model.safetensors").read_bytes() == name.encode()


def test_a_changed_repository_is_another_snapshot(scope: Stub) -> None:
    before = locate(CLIP)
    scope.repositories["org/clip"] = REPOSITORIES["org/clip"] | {"model.safetensors": WEIGHTS[::-1]}
    after = locate(CLIP)
    assert after != before
    assert [(path / "model.safetensors").read_bytes() for path in (before, after)] == [WEIGHTS, WEIGHTS[::-1]]
    assert [path.name for path in before.parent.iterdir() if path.suffix == ".part"] == []


def test_a_model_loads(scope: Stub) -> None:
    source = GOLDEN / "hf-clip-gelu"
    scope.repositories["org/tiny"] = {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()}
    clip = cjkclip.load("modelscope:org/tiny", engine="numpy")
    assert clip.fingerprint == cjkclip.load(source, engine="numpy").fingerprint
    assert "expected.npz" not in fetched(scope)


def test_offline_the_last_snapshot_is_used(scope: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = locate(CLIP)
    scope.status = 503
    assert locate(CLIP) == folder
    scope.requests.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    close_session()
    assert locate(CLIP) == folder
    with pytest.raises(HubError, match=r"revision v2\): HF_HUB_OFFLINE is set, and it is not in the cache"):
        locate(f"{CLIP}@v2")
    assert scope.requests == []


def test_a_broken_connection_is_taken_up_where_it_broke(scope: Stub) -> None:
    scope.cuts = ["model.safetensors", "model.safetensors"]
    folder = locate(CLIP)
    half = len(WEIGHTS) // 2
    assert scope.ranges == [f"bytes={half}-", f"bytes={half + half // 2}-"]
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_download_that_is_killed_is_no_model_and_goes_on_later(
    scope: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = str(tmp_path / "theirs")
    monkeypatch.setenv("MODELSCOPE_CACHE", theirs)
    killed_half_way(tmp_path, scope, CLIP, "model.safetensors", begun="model.safetensors.part", MODELSCOPE_CACHE=theirs)
    assert whole(tmp_path) == []
    with monkeypatch.context() as offline:
        offline.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        close_session()
        with pytest.raises(HubError, match="the cache contains only a part of it"):
            locate(CLIP)
    close_session()
    scope.requests.clear()
    folder = locate(CLIP)
    assert fetched(scope) == ["model.safetensors"]  # the others had come whole
    [asked] = scope.ranges
    assert int(asked[len("bytes=") : -1]) > len(WEIGHTS) // 4
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_server_without_ranges_sends_all_again(scope: Stub) -> None:
    scope.ignores_ranges, scope.cuts = True, ["model.safetensors"] * 3
    with pytest.raises(HubError, match="the download failed"):  # each time as far as before: it would never end
        locate(CLIP)
    assert fetched(scope).count("model.safetensors") == 2
    scope.cuts = []
    assert (locate(CLIP) / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("name", ["model.safetensors", "merges.txt"])
def test_what_is_not_as_listed_is_removed(scope: Stub, tmp_path: Path, name: str) -> None:
    """ModelScope tells the sha256 of the weights here, and of merges.txt only the size."""
    scope.sent = {name: REPOSITORIES["org/clip"][name][1:] + (b"?" if name == "model.safetensors" else b"")}
    with pytest.raises(HubError, match=r"the download has checksum .*, expected .*Load again") as caught:
        locate(CLIP)
    assert name in str(caught.value)
    assert whole(tmp_path) == []
    assert not [path for path in tmp_path.rglob(f"{name}*") if path.is_file()]
    scope.sent = {}
    assert sorted(path.name for path in locate(CLIP).iterdir()) == FILES


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("org/gone", 200, r"has no repository 'org/gone' with a revision 'master'.*\(404\).*MODELSCOPE_API_TOKEN"),
        ("org/clip@v9", 200, "with a revision 'v9'"),
        ("org/clip", 401, r"does not show org/clip \(401\)\. Set MODELSCOPE_API_TOKEN"),
        ("org/clip", 403, "or check its current value"),
        ("org/clip", 418, r"rejected org/clip \(418\)"),
        ("org/clip", 500, r"has a server error \(500\), and it is not in the cache"),
        ("org/code", 200, r"rejected org/code \(10010205001\): not today"),
        ("org/no-hub", 200, "is not a hub.*Check MODELSCOPE_DOMAIN"),
        ("org/no-weights", 200, "no readable weights.*rust_model.ot"),
    ],
)
def test_each_refusal_says_what_to_do(scope: Stub, tmp_path: Path, name: str, status: int, words: str) -> None:
    scope.status = status
    with pytest.raises(HubError, match=words):
        locate(f"modelscope:{name}")
    assert whole(tmp_path) == []


def test_nobody_listens(scope: Stub) -> None:
    folder = locate(CLIP)
    scope.server_close()
    close_session()
    assert locate(CLIP) == folder
    with pytest.raises(HubError, match=r"the download failed \(Connect.*it is not in the cache"):
        locate("modelscope:org/other")


def test_names() -> None:
    for name in ("modelscope:clip", "modelscope:", "modelscope:org/clip/more", "hf-hub:clip"):
        with pytest.raises(ModelNotFoundError, match=r"is not a hub name\. Expected 'org/name' or 'org/name@revision'"):
            locate(name)
    with pytest.raises(ModelNotFoundError, match="'v1', but revision='v2'"):
        locate("modelscope:org/clip@v1", Where(revision="v2"))


def test_a_full_disk_is_said_before_and_after(scope: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as small:
        small.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(HubError, match=r"MB remain to be downloaded .*Free some space, then load again"):
            locate(CLIP)

    def full(*_: object) -> bool:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as small:
        small.setattr(download, "_grow", full)
        with pytest.raises(HubError, match="is full\\. Free some space, then load again"):
            locate(CLIP)
    assert whole(tmp_path) == []
    assert locate(CLIP) == whole(tmp_path)[0]


def test_two_at_once_fetch_once(scope: Stub) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(locate(CLIP))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1
    assert sorted(fetched(scope)) == FILES
