"""User info, tokens and queries of URLs stand in no message, no JSON answer and no traceback."""

import json
import logging
import traceback
from pathlib import Path
from typing import Any

import pytest

import cjkclip
from cjkclip.checkpoints.hub import Where, locate
from cjkclip.compat import cn_clip, open_clip
from cjkclip.compat import transformers as compat
from cjkclip.errors import CjkclipError, InputError, ModelNotFoundError, without_secrets
from support.cli import run
from support.hubstub import Stub, close_session

SECRETS = ("s3cret", "T0K", "fr4g")
TAILS = ("x.pt?token=T0K&a=1#fr4g", "x.pt?T0K", "x.pt#fr4g", "a/b/c?x=T0K#sha256=" + "0" * 64, "x.png?sig=T0K")
URLS = [f"{scheme}://user:s3cret@host.invalid/{tail}" for scheme in ("https", "http", "s3") for tail in TAILS]


def assert_clean(text: str) -> None:
    assert not [secret for secret in SECRETS if secret in text], text


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) if "<" not in str(error) else repr(error)


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(
    "call",
    [
        cjkclip.load,
        lambda url: cjkclip.load(Path(url)),
        lambda url: cjkclip.load("moji", image_tower=url),
        lambda url: cjkclip.load("moji", engine="numpy").encode_image([url]),
        lambda url: cjkclip.load("moji", engine="numpy").encode_image([Path(url)]),
        lambda url: cn_clip.load_from_name(url, device="cpu"),
        lambda url: open_clip.create_model_and_transforms("ViT-B-32", pretrained=url),
        compat.AutoProcessor.from_pretrained,
        compat.CLIPModel.from_pretrained,
    ],
)
def test_no_error_repeats_a_secret(call: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    close_session()
    with pytest.raises(CjkclipError) as caught:
        call(url)
    assert_clean(str(caught.value))
    assert_clean(repr(caught.value))
    cause: BaseException | None = caught.value
    while cause is not None:
        assert_clean(str(cause))
        cause = cause.__cause__


@pytest.mark.parametrize("status", [404, 403, 500])
def test_a_server_that_refuses(stub: Stub, status: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stub.status = status
    plain = stub.address.removeprefix("http://")
    url = f"http://user:s3cret@{plain}/files/gone.pt?token=T0K#sha256={'0' * 64}"
    with caplog.at_level(logging.WARNING), pytest.raises(CjkclipError) as caught:
        locate(url, Where(cache=str(tmp_path)))
    assert plain in str(caught.value)
    assert_clean(shown(caught.value) + caplog.text)


COMMANDS = (
    ("embed", "x", "-o", "y.npz", "-m"),
    ("classify", "x", "-l", "a", "-m"),
    ("verify", "moji"),
    ("convert",),
)


@pytest.mark.parametrize("url", URLS[:2])
@pytest.mark.parametrize(
    "command",
    [("embed", "x", "-o", "y.npz", "-m"), ("classify", "x", "-l", "a", "-m"), ("verify", "moji"), ("convert",)],
)
@pytest.mark.parametrize("more", [(), ("--json",)])
def test_the_command_line(command: tuple[str, ...], more: tuple[str, ...], url: str, tmp_path: Path) -> None:
    place = (str(tmp_path / "out"), "--layout", "cjkclip") if command[0] == "convert" else ()
    result = run(*command, url, *place, *more)
    assert result.exit_code
    assert_clean(result.output + result.stderr)
    if more:
        assert_clean(json.dumps(json.loads(result.stdout)))


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("at 'https://u:p@h/a?b=c#d': no", "at 'https://h/a': no"),
        ("https://h/x.pt#sha256=ab and https://u@h", "https://h/x.pt#sha256=ab and https://h"),
        ("https:/u:p@h/a", "https:/h/a"),
        ("C:/me@home/a#1?.png", "C:/me@home/a#1?.png"),
        ("me@host, 3:/4, why?", "me@host, 3:/4, why?"),
        (
            "see https://h/x?a=b, https://h/y?c: and (https://h/z#d).",
            "see https://h/x, https://h/y: and (https://h/z).",
        ),
        ("git+ssh://u:p@h/x", "git+ssh://h/x"),
    ],
)
def test_what_is_cut_out(text: str, plain: str) -> None:
    assert without_secrets(text) == plain
    assert str(InputError(text)) == plain
    assert InputError("x", listed=[text]).lines[1].strip() == plain


def test_a_very_long_name_ends_at_once() -> None:
    for name in ("a" * 5_000_000, "org/name@" + "a" * 200_000, "https://h/" + "a" * 200_000):
        with pytest.raises(ModelNotFoundError, match="characters, expected a name of at most 4096"):
            cjkclip.load(name)
