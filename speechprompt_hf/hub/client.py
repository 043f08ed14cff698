"""One commit to a repository on the Hub, whole or not at all, with errors that say what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from ..core.errors import HubError
from ..core.locations import is_disk_full, is_of_the_network

__all__ = ["Published", "head_of", "publish_folder", "talking_to_the_hub"]

_BUSY = (429, 500, 502, 503, 504)
_NOT_DONE = (429, 503)
_ATTEMPTS = 4
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Published:
    """What a push made.

    Attributes:
        repo_id (`str`): the repository.
        commit (`str`): its commit, 40 hexadecimal digits.
        url (`str`): where to look at it.
        files (`tuple[str, ...]`): paths in it that were pushed.
        num_bytes (`int`): their size.
    """

    repo_id: str
    commit: str
    url: str
    files: tuple[str, ...]
    num_bytes: int


@contextmanager
def talking_to_the_hub(repo_id: str, doing: str) -> Iterator[None]:
    """Turn what the Hub's client raises into one sentence.

    Args:
        repo_id (`str`): the repository, for the message.
        doing (`str`): what was tried, for example `"push to"`.

    Raises:
        HubError: what went wrong, and what to do.
    """
    try:
        yield
    except HubError:
        raise
    except (RepositoryNotFoundError, GatedRepoError) as error:
        raise HubError(
            f"cannot {doing} {repo_id}: there is no such repository, or you may not see it",
            hint="check the name; for private ones run `hf auth login`",
        ) from error
    except RevisionNotFoundError as error:
        raise HubError(f"cannot {doing} {repo_id}: it has no such branch, tag or commit") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise HubError(
            f"cannot {doing} {repo_id}: the Hub cannot be reached", hint="check the network and HF_HUB_OFFLINE"
        ) from error
    except EntryNotFoundError as error:
        raise HubError(f"cannot {doing} {repo_id}: a file is missing there: {_first_line(error)}") from error
    except HFValidationError as error:
        raise HubError(f"{repo_id!r} is no repository id", hint="give organisation/name") from error
    except HfHubHTTPError as error:
        raise HubError(f"cannot {doing} {repo_id}: {_reason(error)}", hint=_advice(error)) from error
    except Exception as error:
        # Uploads of large files hide what happened in a RuntimeError.
        cause = error.__cause__ if isinstance(error, RuntimeError) else None
        if isinstance(cause, HfHubHTTPError):
            raise HubError(f"cannot {doing} {repo_id}: {_reason(cause)}", hint=_advice(cause)) from error
        if is_disk_full(error):
            raise HubError(
                f"cannot {doing} {repo_id}: no room on the disk ({_first_line(error)})",
                hint="make room, or let HF_HOME name a folder on another disk; nothing was changed on the Hub",
            ) from error
        if not is_of_the_network(error) and not (cause and is_of_the_network(cause)):
            raise
        raise HubError(
            f"cannot {doing} {repo_id}: the connection failed ({type(error).__name__}: {_first_line(error)})",
            hint="try again; a push is one commit, so the repository is as it was or as you wanted it",
        ) from error


def head_of(api: HfApi, repo_id: str, revision: str | None = None) -> str:
    """The commit that a branch, tag or commit stands for.

    Raises:
        HubError: there is no such repository or revision.
    """
    with talking_to_the_hub(repo_id, "read"):
        sha = _patiently(lambda: api.repo_info(repo_id, revision=revision)).sha
    return str(sha)


def publish_folder(
    api: HfApi,
    repo_id: str,
    folder: Path,
    *,
    message: str,
    branch: str | None = None,
    private: bool | None = None,
    create_pr: bool = False,
    parent: str | None = None,
    replaces: Callable[[str], bool] = lambda path: False,
) -> Published:
    """Upload a folder as one commit on top of the branch's head; the repository is made if it is not there.

    Args:
        api (`HfApi`): with endpoint and token.
        repo_id (`str`): the repository.
        folder (`Path`): everything in it is uploaded.
        message (`str`): first line of the commit.
        branch (`str`, *optional*): `main` by default; made if it is not there.
        private (`bool`, *optional*): for a new repository.
        create_pr (`bool`, defaults to `False`): open a pull request instead.
        parent (`str`, *optional*): the commit that the folder was made for: if the branch has gone on since, nothing
            is changed. What the branch holds by now, by default.
        replaces (`Callable`): which paths of the repository are deleted if the folder does not hold them.

    Returns:
        `Published`.

    Raises:
        HubError: nothing was changed, or the message says that it is not known.
    """
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    with talking_to_the_hub(repo_id, "push to"):
        _patiently(lambda: api.create_repo(repo_id, exist_ok=True, private=private))
        if branch is not None and branch != "main":
            _patiently(lambda: api.create_branch(repo_id, branch=branch, exist_ok=True))
        before = _patiently(lambda: api.model_info(repo_id, revision=branch))
        stale = [
            sibling.rfilename
            for sibling in before.siblings or []
            if sibling.rfilename not in files and replaces(sibling.rfilename)
        ]

        def commit() -> Any:
            # Operations remember what was uploaded and are made anew for each attempt.
            additions = [CommitOperationAdd(path, str(file)) for path, file in files.items()]
            return api.create_commit(
                repo_id,
                [*additions, *(CommitOperationDelete(path) for path in stale)],
                commit_message=message,
                revision=branch,
                create_pr=create_pr,
                parent_commit=None if create_pr else parent or before.sha,
            )

        # A gateway may answer with other statuses after the commit was made.
        done = _patiently(commit, busy=_NOT_DONE)
    return Published(
        repo_id=repo_id,
        commit=str(done.oid),
        url=str(done.commit_url),
        files=tuple(files),
        num_bytes=sum(file.stat().st_size for file in files.values()),
    )


def _patiently(call: Callable[[], _Result], busy: tuple[int, ...] = _BUSY) -> _Result:
    """Try again where the Hub says that it is busy."""
    for attempt in range(_ATTEMPTS):
        try:
            return call()
        except (HfHubHTTPError, RuntimeError) as error:
            answer = error if isinstance(error, HfHubHTTPError) else error.__cause__
            if not isinstance(answer, HfHubHTTPError) or _status(answer) not in busy or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(min(30.0, _retry_after(answer) or 0.5 * 2**attempt))
    raise AssertionError("unreachable")


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
    if status in _BUSY and status not in _NOT_DONE:
        return "the push is one commit: the repository is as it was or as you wanted it; look there, then push again"
    return "the repository is as it was; try again later"


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
