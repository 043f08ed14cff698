"""Folders and Hub ids that a user named: one typed sentence where nothing can be read from them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError

from .errors import SpeechPromptError

__all__ = [
    "check_is_there",
    "is_disk_full",
    "is_hub_id",
    "is_of_the_network",
    "is_unreachable",
    "looks_like_a_path",
    "not_reached",
    "reading",
]


def is_hub_id(name: str | None, *, with_organisation: bool = True) -> bool:
    """Whether a name has the form of a Hub id.

    Args:
        name (`str`, *optional*): what was given.
        with_organisation (`bool`, defaults to `True`): whether it must be `organisation/name`, not `name` alone.
    """
    try:
        validate_repo_id(name or "")
    except HFValidationError:
        return False
    return "/" in (name or "") or not with_organisation


def looks_like_a_path(name: str) -> bool:
    """Whether a name can be no Hub id (`name` or `organisation/name`), so that it must be a folder or a file."""
    return os.path.isabs(name) or name.startswith((".", "~")) or name.count("/") > 1 or name.endswith(os.sep)


def check_is_there(
    name: str | os.PathLike[str], error_class: type[SpeechPromptError], what: str, file_name: str, **hub: Any
) -> None:
    """Refuse at once a name that is no folder and of no repository; the clients of the Hub ask for minutes.

    Nothing is asked for a folder, or of what the cache knows. Everything else is one request without a second try.

    Args:
        name (`str | PathLike`): folder or Hub id.
        error_class (`type[SpeechPromptError]`): what to raise.
        what (`str`): what the name shall be, for example `"the base"`.
        file_name (`str`): the file that it must have.
        hub: where and how files are found.

    Raises:
        SpeechPromptError: of `error_class`: there is no such folder, and no such repository or nobody who knows.
    """
    text = os.fspath(name)
    if os.path.isdir(text):
        return
    if os.path.isfile(text):
        raise error_class(f"{text} is a file", hint=f"give a folder or a Hub id for {what}")
    _refuse_absent_path(text, error_class, what)
    if not is_hub_id(text, with_organisation=False):
        raise error_class(
            f"there is no folder {text} for {what}, and no Hub id has this form",
            hint="check the spelling of the folder, or give organisation/name",
        )
    where = {key: hub.get(key) for key in ("subfolder", "revision")}
    path = "/".join(part for part in (where["subfolder"], file_name) if part)
    known = try_to_load_from_cache(text, path, cache_dir=hub.get("cache_dir"), revision=where["revision"])
    if known is not None:
        return
    if hub.get("local_files_only") or constants.HF_HUB_OFFLINE:
        raise not_reached(text, error_class, local_files_only=True)
    try:
        get_hf_file_metadata(hf_hub_url(text, file_name, **where), token=hub.get("token"))
    except GatedRepoError:
        return
    except RepositoryNotFoundError as error:
        raise error_class(
            f"{text} is no folder here, and there is no such repository on the Hub, or you may not see it",
            hint=f"check the spelling, which may be that of a folder; for private ones run `hf auth login` ({what})",
        ) from error
    except Exception as error:
        # Whatever else goes wrong goes wrong again, or not, where the file is fetched.
        if is_unreachable(error):
            raise not_reached(text, error_class) from error


def not_reached(
    name: str, error_class: type[SpeechPromptError], *, local_files_only: bool = False
) -> SpeechPromptError:
    """The error of a name that is no folder and not in the cache, while the Hub does not answer.

    Args:
        name (`str`): what was given.
        error_class (`type[SpeechPromptError]`): of the error.
        local_files_only (`bool`, defaults to `False`): whether the caller forbade to ask the Hub.

    Returns:
        `SpeechPromptError`: of `error_class`; a mistake only where the Hub must not be asked.
    """
    forbidden = local_files_only or constants.HF_HUB_OFFLINE
    return error_class(
        f"{name} is no folder here, the Hub {'must not be asked' if forbidden else 'cannot be reached'}, and it is "
        "not in the cache",
        hint="check the spelling of a folder, the network, HF_HUB_OFFLINE and local_files_only; "
        "without a network only what was opened before can be opened",
        is_mistake=bool(forbidden),
    )


def _refuse_absent_path(name: str, error_class: type[SpeechPromptError], what: str) -> None:
    if looks_like_a_path(name) and not os.path.exists(name):
        raise error_class(f"there is no folder {name} for {what}", hint="check the spelling, or give a Hub id")


@contextmanager
def reading(name: str | os.PathLike[str], error_class: type[SpeechPromptError], what: str) -> Iterator[None]:
    """Turn what transformers and the Hub's client raise while something is loaded into an error of ours.

    Args:
        name (`str | PathLike`): folder or Hub id.
        error_class (`type[SpeechPromptError]`): what to raise.
        what (`str`): what the name shall be, for example `"the base"`.

    Raises:
        SpeechPromptError: of `error_class`: there is no such folder, nothing can be loaded from it, or a file of it is
            damaged.
    """
    text = os.fspath(name)
    _refuse_absent_path(text, error_class, what)
    try:
        yield
    except SpeechPromptError:
        raise
    # The Hub's own errors are OSError or, for impossible names, ValueError; those of its network library are neither.
    except Exception as error:
        if not isinstance(error, OSError | ValueError | SafetensorError) and not is_of_the_network(error):
            raise
        hint = _advice(error, os.path.exists(text))
        raise error_class(f"{what} {text} cannot be loaded: {_first_sentence(error)}", hint=hint) from error


def is_of_the_network(error: BaseException) -> bool:
    """Whether an error says that the Hub could not be reached, broke off, or was busy."""
    response = getattr(error, "response", None)
    if response is not None:
        status = getattr(response, "status_code", 0)
        return status == 429 or status >= 500
    libraries = {base.__module__.partition(".")[0] for base in type(error).__mro__}
    return isinstance(error, ConnectionError | TimeoutError) or bool(libraries & {"httpx", "httpx2", "httpcore"})


def is_unreachable(error: BaseException) -> bool:
    """Whether an error says that no connection to the Hub could be made at all."""
    names = {base.__name__ for base in type(error).__mro__}
    return is_of_the_network(error) and bool(names & {"ConnectError", "ConnectTimeout", "ConnectionRefusedError"})


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that a disk, a quota or a limit leaves no room for a file."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _advice(error: BaseException, is_here: bool) -> str:
    causes = list(_causes(error))
    if any(isinstance(cause, SafetensorError) for cause in causes):
        return "its weights are damaged: copy or save them again" + (
            "" if is_here else ", or download them again with force_download=True"
        )
    if any(is_disk_full(cause) for cause in causes):
        return "make room on the disk, or let HF_HOME name a folder on another one"
    if is_here:
        return "look into the folder"
    if any("Consistency check failed" in str(cause) for cause in causes):
        return "a file broke off, or was changed there while it was read: try again"
    if any(is_of_the_network(cause) for cause in causes):
        return "the Hub was not reached, or is busy: check the network and try again"
    return "give a folder that is there, or check the id"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error, and what led to it."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _first_sentence(error: BaseException) -> str:
    """The first line of what an error says, with the next one where it ends in a colon."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
