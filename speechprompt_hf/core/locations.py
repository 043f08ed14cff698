"""Folders and Hub ids that a user named: one typed sentence where nothing can be read from them."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError

from .errors import SpeechPromptError

__all__ = ["is_disk_full", "is_hub_id", "is_of_the_network", "looks_like_a_path", "reading"]


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
    if looks_like_a_path(text) and not os.path.exists(text):
        raise error_class(f"there is no folder {text} for {what}", hint="check the spelling, or give a Hub id")
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
