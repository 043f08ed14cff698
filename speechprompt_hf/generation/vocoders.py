"""Which vocoder makes an adapter's units sound: the one that was asked for, or the one that it names."""

from __future__ import annotations

import os
from typing import Any

from ..core.errors import AdapterError, ConfigurationError
from ..modeling.unit_speech import load_vocoder

__all__ = ["open_vocoder"]


def open_vocoder(
    given: str | os.PathLike[str] | None,
    named: str | None = None,
    revision: str | None = None,
    *,
    of: str = "the adapter",
    **hub: Any,
) -> Any:
    """Open the vocoder that was asked for, else the one that an adapter names, if it is on this machine.

    Args:
        given (`str | PathLike`, *optional*): folder or Hub id; it may be downloaded.
        named (`str`, *optional*): the adapter's `vocoder_name_or_path`; it is never downloaded unless it was given.
        revision (`str`, *optional*): the adapter's `vocoder_revision`.
        of (`str`, defaults to `"the adapter"`): whose units it says, for messages.
        hub: `token`, `cache_dir`, `local_files_only`.

    Returns:
        `PreTrainedModel`: in evaluation mode, without gradients.

    Raises:
        ConfigurationError: none was given, and none is named.
        AdapterError: there is none of this name, or it is no vocoder, or not on this machine.
    """
    if given is not None:
        return load_vocoder(given, revision=revision if os.fspath(given) == named else None, **hub)
    if named is None:
        raise ConfigurationError(
            f"no vocoder is named that makes the units of {of} sound",
            hint="give the folder or Hub id of one that was trained on the same units (--vocoder DIR_OR_ID)",
        )
    try:
        return load_vocoder(named, revision=revision, **{**hub, "local_files_only": True})
    except AdapterError as error:
        raise AdapterError(
            f"{of} names the vocoder {named}, which is not on this machine: {Exception.__str__(error)}",
            hint=f"ask for it (--vocoder {named}), or name another one",
        ) from error
