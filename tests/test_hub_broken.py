"""Downloads from Hugging Face's hub that break off, stop, or bring other bytes: half a model is never one."""

from pathlib import Path

from cjkclip.checkpoints.hub.reach import REQUESTS
from support.hubstub import REPOSITORIES, WEIGHTS, Stub, ask, killed_half_way

FILES = ["config.json", "merges.txt", "model.safetensors"]


def cached(home: Path) -> dict[str, bytes]:
    """The files of all snapshots in the cache, by name."""
    return {path.name: path.read_bytes() for path in home.glob("hf/hub/models--*/snapshots/*/*")}


def test_a_broken_connection_is_taken_up_where_it_broke(tmp_path: Path, stub: Stub) -> None:
    chunk = 10 << 20  # the client keeps what it has by this much
    weights = WEIGHTS * 21
    stub.repositories["org/clip"] = REPOSITORIES["org/clip"] | {"model.safetensors": weights}
    stub.cuts = ["model.safetensors"]
    [(kind, message, files)] = ask(tmp_path, stub, "org/clip")
    if REQUESTS:  # huggingface_hub before 1.0 gives up, and the next call continues
        assert (kind, "the download failed" in message) == ("HubError", True)
        [(kind, _, files)] = ask(tmp_path, stub, "org/clip")
    assert (kind, files) == ("ok", FILES)
    assert stub.ranges == [f"bytes={chunk}-"]
    assert cached(tmp_path)["model.safetensors"] == weights


def test_a_download_that_is_killed_leaves_no_model_and_is_finished_later(tmp_path: Path, stub: Stub) -> None:
    for file in ("merges.txt", "model.safetensors"):  # weights come last: where they are, everything is
        stub.stalled.clear()
        stub.go_on.clear()
        killed_half_way(tmp_path, stub, "org/clip", file)
        assert "model.safetensors" not in cached(tmp_path)
        [(kind, message, _)] = ask(tmp_path, stub, "org/clip", HF_HUB_OFFLINE="1")
        assert kind == "HubError"
        assert "HF_HUB_OFFLINE is set, and the cache contains only a part of it" in message
    stub.requests.clear()
    assert ask(tmp_path, stub, "org/clip")[0][2] == FILES
    assert cached(tmp_path)["model.safetensors"] == WEIGHTS
    assert not [one for one in stub.requests if one.startswith("GET") and one.endswith("config.json")]  # it was whole


def test_weights_of_another_checksum_leave_the_cache(tmp_path: Path, stub: Stub) -> None:
    stub.sent = {"model.safetensors": WEIGHTS[::-1]}
    [(kind, message, _)] = ask(tmp_path, stub, "org/clip")
    assert kind == "HubError"
    assert "org/clip: model.safetensors: the download has checksum" in message
    assert "Load again" in message
    assert set(cached(tmp_path)) == {"config.json", "merges.txt"}
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size == len(WEIGHTS)]
    stub.sent = {}
    right = ask(tmp_path, stub, "org/clip")
    assert right[0][2] == FILES

    weights = Path(right[0][1]) / "model.safetensors"
    weights.resolve().write_bytes(WEIGHTS[::-1])  # checksums are compared after a download, not at each load
    assert ask(tmp_path, stub, "org/clip") == right


def test_weights_of_another_size_never_enter_the_cache(tmp_path: Path, stub: Stub) -> None:
    stub.sent = {"model.safetensors": WEIGHTS[:-7]}
    [(kind, message, _)] = ask(tmp_path, stub, "org/clip")
    assert kind == "HubError"
    assert "checksum" in message
    assert set(cached(tmp_path)) == {"config.json", "merges.txt"}


def test_a_misspelt_alias_with_a_slash_is_suggested(tmp_path: Path, stub: Stub) -> None:
    typo, other, hidden = ask(tmp_path, stub, "vit-b/23", "org/gone", "org/hidden", HF_TOKEN="hf_secret")
    assert typo[0] == other[0] == hidden[0] == "HubError"
    assert typo[1].endswith("Did you mean 'ViT-B/32'?")
    assert other[1].endswith("HF_TOKEN.")
    assert stub.tokens == {"Bearer hf_secret"}
