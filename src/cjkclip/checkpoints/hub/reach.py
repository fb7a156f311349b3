"""What every source shares: what is done when it refuses, has a fault, or cannot be reached.

huggingface_hub's session carries every request, so that HF_HUB_OFFLINE, proxies and certificates are honoured by all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import cast

from huggingface_hub import errors

from cjkclip.errors import HubError, ModelNotFoundError

_STATUS = cast(type[Exception], errors.HfHubHTTPError.__bases__[0])
REQUESTS = issubclass(_STATUS, OSError)  # huggingface_hub before 1.0 stands on requests, later ones on httpx
# Without a connection huggingface_hub raises the errors of its HTTP library. httpx's base is the base of its own error;
# requests' base is one below that, since its HTTPError stands for statuses alone.
FAILED = cast(type[Exception], _STATUS.__base__) if REQUESTS else _STATUS


@dataclass(frozen=True, kw_only=True)
class Source:
    """A place to fetch one model from."""

    named: str  # what is fetched, for messages
    endpoint: str
    chosen_by: str  # what names the endpoint
    fetch: Callable[[], Path]  # may raise whatever the hub client raises
    cached: Callable[[], Path | str]  # what an earlier fetch left whole, or words on why nothing helps
    offline: bool  # the caller wants what is in the cache, and nothing asked
    refusal: Callable[[Exception, int], str]  # what a status below 500 means, and what to do


def reach(source: Source) -> Path:
    """Fetch, or use the cache when the source cannot be reached. Raises HubError, ModelNotFoundError."""
    if source.offline:
        return _cached(source, None, "only local files were asked for")
    try:
        return source.fetch()
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise HubError(source.refusal(error, status)) from error
        return _cached(source, error, f"the hub has a fault ({status})")
    except errors.OfflineModeIsEnabled as error:
        return _cached(source, error, "HF_HUB_OFFLINE is set")
    except errors.HFValidationError as error:
        raise ModelNotFoundError(f"{source.named!r} cannot be a hub name: {str(error)[:200]}") from error
    except (ValueError, KeyError, TypeError) as error:
        where = f"{source.chosen_by} ({source.endpoint})"
        raise HubError(f"what answers for {source.named} is no hub ({error!r:.200}); check {where}") from error
    except (OSError, FAILED) as error:
        why = f"it could not be fetched ({type(error).__name__}: {str(error)[:200]})"
        return _cached(source, error, why)


def _cached(source: Source, error: BaseException | None, why: str) -> Path:
    """What the cache holds, or HubError that says `why` it was not fetched."""
    found = source.cached()
    if isinstance(found, Path):
        return found
    raise HubError(
        f"{source.named}: {why}, and {found}. Load it once with the network on (HF_HUB_OFFLINE unset; the hub is "
        f"{source.endpoint}), or copy its files here and pass the folder's path"
    ) from error


def said(repository: str, revision: str | None) -> str:
    """A repository as messages name it."""
    return repository if revision is None else f"{repository} (revision {revision})"
