"""Download a single weight file from a URL with its checksum: "https://.../RN50.pt#sha256=..."."""

import re
from pathlib import Path

from huggingface_hub.utils import WeakFileLock

from cjkclip.checkpoints.hub import FILE_SUFFIXES, Where
from cjkclip.checkpoints.hub.download import download
from cjkclip.checkpoints.hub.progress import bytes_bar
from cjkclip.checkpoints.hub.reach import Hub, reach
from cjkclip.errors import ModelNotFoundError, without_secrets
from cjkclip.machine import cache

NAME = re.compile(r"https?://.+/(?P<file>[\w.-]+)(\?[^#]*)?#sha256=(?P<sha256>[0-9A-Fa-f]{64})", re.ASCII)


def fetch(name: str, where: Where) -> Path:
    """Return the file; after the first download it comes from the cache. See `hub.locate`."""
    match = NAME.fullmatch(name)
    if match is None or not match["file"].endswith(FILE_SUFFIXES):
        raise ModelNotFoundError(
            f"{name!r}: expected the URL of a weight file ({', '.join(FILE_SUFFIXES)}) that ends with its checksum, "
            "'https://.../model.pt#sha256=' and 64 hexadecimal digits. Or download it yourself and pass its path"
        )
    if where.revision is not None:
        raise ModelNotFoundError(f"{name!r} is a URL, which has no revision {where.revision!r}. Remove revision=")
    url, sha256 = name.partition("#")[0], match["sha256"].lower()
    home = Path(where.cache) / "urls" if where.cache else cache.folder("urls")
    target = home / sha256 / match["file"]
    hub = Hub(
        title=url,
        offline=where.offline,
        endpoint=without_secrets(url).split("/")[2],
        chosen_by="the URL",
        fetch=lambda: _fetch(url, target, sha256),
        cached=lambda: f"it is not in the cache ({target.parent})",
        rejection=lambda _, status: (
            f"{url} does not return the file ({status}). Check the URL, or pass the path of a local file"
        ),
    )
    return target if target.is_file() else reach(hub)


def _fetch(url: str, target: Path, sha256: str) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    with WeakFileLock(target.with_name(f"{target.name}.lock")), bytes_bar(target.name, None) as bar:
        download(url, target, sha256=sha256, size=None, headers={}, advance=bar.update)
    return target
