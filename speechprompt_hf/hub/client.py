"""The Hub's client with patience, and with errors that say what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..core.errors import HubError
from ..core.locations import is_disk_full, is_of_the_network

__all__ = ["NOT_DONE", "head_of", "patiently", "talking_to_the_hub"]

_BUSY = (429, 500, 502, 503, 504)
NOT_DONE = (429, 503)
"""Statuses of a Hub that has certainly done nothing."""

_ATTEMPTS = 4
# Somebody else was faster, and statuses of clients that did nothing wrong.
_NO_MISTAKE = (408, 409, 412)
_Result = TypeVar("_Result")


@contextmanager
def talking_to_the_hub(repo_id: str, doing: str) -> Iterator[None]:
    """Turn what the Hub's client raises into one sentence.

    Args:
        repo_id (`str`): the repository, for the message.
        doing (`str`): what was tried, for example `"push to"`.

    Raises:
        HubError: what went wrong, and what to do. It is no mistake of the user's (`is_mistake`) where the Hub could
            not be reached, was busy, or was changed by somebody else, or where a disk is full.
    """
    try:
        yield
    except HubError:
        raise
    except LocalTokenNotFoundError as error:
        raise HubError(f"cannot {doing} {repo_id}: you are not logged in", hint="run `hf auth login`") from error
    except (RepositoryNotFoundError, GatedRepoError) as error:
        raise HubError(
            f"cannot {doing} {repo_id}: there is no such repository, or you may not see it",
            hint="check the name; for private ones run `hf auth login`",
        ) from error
    except RevisionNotFoundError as error:
        raise HubError(f"cannot {doing} {repo_id}: it has no such branch, tag or commit") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise HubError(
            f"cannot {doing} {repo_id}: the Hub cannot be reached",
            hint="check the network and HF_HUB_OFFLINE",
            is_mistake=constants.HF_HUB_OFFLINE,
        ) from error
    except EntryNotFoundError as error:
        raise HubError(f"cannot {doing} {repo_id}: a file is missing there: {_first_line(error)}") from error
    except HFValidationError as error:
        raise HubError(f"{repo_id!r} is no repository id", hint="give organisation/name") from error
    except HfHubHTTPError as error:
        raise _refusal(error, repo_id, doing) from error
    except Exception as error:
        # Uploads of large files hide what happened in a RuntimeError.
        cause = error.__cause__ if isinstance(error, RuntimeError) else None
        if isinstance(cause, HfHubHTTPError):
            raise _refusal(cause, repo_id, doing) from error
        if is_disk_full(error):
            raise HubError(
                f"cannot {doing} {repo_id}: no room on the disk ({_first_line(error)})",
                hint="make room, or let HF_HOME name a folder on another disk; nothing was changed on the Hub",
                is_mistake=False,
            ) from error
        if not is_of_the_network(error) and not (cause and is_of_the_network(cause)):
            raise
        raise HubError(
            f"cannot {doing} {repo_id}: the connection failed ({type(error).__name__}: {_first_line(error)})",
            hint="check the network and try again; a push is one commit, so the repository is as it was or as you "
            "wanted it",
            is_mistake=False,
        ) from error


def head_of(api: HfApi, repo_id: str, revision: str | None = None) -> str:
    """The commit that a branch, tag or commit stands for.

    Raises:
        HubError: there is no such repository or revision.
    """
    with talking_to_the_hub(repo_id, "read"):
        sha = patiently(lambda: api.repo_info(repo_id, revision=revision)).sha
    return str(sha)


def patiently(call: Callable[[], _Result], busy: tuple[int, ...] = _BUSY) -> _Result:
    """Call again where the Hub says that it is busy, four times at most.

    Args:
        call (`Callable`): what asks the Hub.
        busy (`tuple[int, ...]`, *optional*): statuses that mean it; by default also those after which it may have
            done what was asked.

    Returns:
        What `call` returns.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return call()
        except (HfHubHTTPError, RuntimeError) as error:
            answer = error if isinstance(error, HfHubHTTPError) else error.__cause__
            if not isinstance(answer, HfHubHTTPError) or _status(answer) not in busy or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(min(30.0, _retry_after(answer) or 0.5 * 2**attempt))
    raise AssertionError("unreachable")


def _refusal(error: HfHubHTTPError, repo_id: str, doing: str) -> HubError:
    status = _status(error)
    is_mistake = status is not None and 400 <= status < 500 and status not in (*_BUSY, *_NO_MISTAKE)
    return HubError(f"cannot {doing} {repo_id}: {_reason(error)}", hint=_advice(error), is_mistake=is_mistake)


def _status(error: HfHubHTTPError) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _retry_after(error: HfHubHTTPError) -> float | None:
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        return float(headers.get("Retry-After", ""))
    except ValueError:
        return None


def _reason(error: HfHubHTTPError) -> str:
    status = _status(error)
    if status in (401, 403):
        return f"the Hub refused it ({status})"
    if status in (409, 412):
        return "somebody else changed it in the meantime"
    if status in _BUSY:
        return f"the Hub is busy ({status})"
    return _first_line(error)


def _advice(error: HfHubHTTPError) -> str:
    status = _status(error)
    if status in (401, 403):
        return "log in with `hf auth login`, with a token that may write there"
    if status in (409, 412):
        return "look at it, then push again"
    if status in _BUSY and status not in NOT_DONE:
        return "the push is one commit: the repository is as it was or as you wanted it; look there, then push again"
    return "the repository is as it was; try again later"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
