"""Download from any hub: handle rejected requests, server errors and missing connections in one way.

Every request uses huggingface_hub's session, so HF_HUB_OFFLINE, proxies and certificates apply to all hubs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import cast

from huggingface_hub import errors

from cjkclip.errors import HubError, ModelNotFoundError, without_secrets

_STATUS = cast(type[Exception], errors.HfHubHTTPError.__bases__[0])
REQUESTS = issubclass(_STATUS, OSError)  # huggingface_hub before 1.0 uses requests, later versions use httpx
# Without a connection huggingface_hub raises the errors of its HTTP library. With httpx, their base class is _STATUS;
# with requests, it is the base of _STATUS, since requests.HTTPError is only for HTTP statuses.
FAILED = cast(type[Exception], _STATUS.__base__) if REQUESTS else _STATUS


@dataclass(frozen=True, kw_only=True)
class Hub:
    """One model on one hub."""

    title: str  # the model's name in messages
    endpoint: str
    chosen_by: str  # the setting for the endpoint
    fetch: Callable[[], Path]  # may raise any error of the hub client
    cached: Callable[[], Path | str]  # a complete earlier download, or the reason why it is missing
    offline: bool  # use only the cache
    rejection: Callable[[Exception, int], str]  # the message for a status below 500


def reach(hub: Hub) -> Path:
    """Download, or use the cache if the hub cannot be reached. Raises HubError, ModelNotFoundError."""
    if hub.offline:
        return _cached(hub, None, "only local files were requested")
    try:
        return hub.fetch()
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise HubError(hub.rejection(error, status)) from _shown(error)
        return _cached(hub, error, f"the hub has a server error ({status})")
    except errors.OfflineModeIsEnabled as error:
        return _cached(hub, error, "HF_HUB_OFFLINE is set")
    except errors.HFValidationError as error:
        why = without_secrets(str(error))[:200]
        raise ModelNotFoundError(f"{hub.title!r} is not a valid hub name: {why}") from _shown(error)
    except (ValueError, KeyError, TypeError) as error:
        where = f"{hub.chosen_by} ({hub.endpoint})"
        why = without_secrets(repr(error))[:200]
        raise HubError(f"the server that answered for {hub.title} is not a hub ({why}). Check {where}") from _shown(
            error
        )
    except (OSError, FAILED) as error:
        why = f"the download failed ({type(error).__name__}: {without_secrets(str(error))[:200]})"
        return _cached(hub, error, why)


def _cached(hub: Hub, error: BaseException | None, why: str) -> Path:
    """Return the cached snapshot, or raise HubError with the reason `why` it was not downloaded."""
    snapshot = hub.cached()
    if isinstance(snapshot, Path):
        return snapshot
    raise HubError(
        f"{hub.title}: {why}, and {snapshot}. Load it once with network access (HF_HUB_OFFLINE unset; the hub is "
        f"{hub.endpoint}), or copy its files to this machine and pass the path of their directory"
    ) from _shown(error)


def _shown(error: BaseException | None) -> BaseException | None:
    """Return an error as the cause of another, or None if a traceback would show what may be secret."""
    return None if error is None or without_secrets(str(error)) != str(error) else error


def title_of(repository: str, revision: str | None) -> str:
    """Return the title of a repository for messages."""
    return repository if revision is None else f"{repository} (revision {revision})"
