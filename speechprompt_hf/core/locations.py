"""Folders and Hub ids that a user named: one typed sentence where nothing can be read from them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from safetensors import SafetensorError

from .errors import SpeechPromptError

__all__ = ["looks_like_a_path", "reading"]


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
    # The Hub's own errors are OSError or, for impossible names, ValueError.
    except (OSError, ValueError, SafetensorError) as error:
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        hint = "look into the folder" if os.path.exists(text) else "give a folder that is there, or check the id"
        if isinstance(error, SafetensorError):
            hint = "its weights are damaged: copy or save them again"
        raise error_class(f"{what} {text} cannot be loaded: {first}", hint=hint) from error
