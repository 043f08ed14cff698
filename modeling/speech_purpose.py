"""Doors for labels and texts say which one is for speech."""

from __future__ import annotations

from typing import Any

from ..core.errors import AdapterError

__all__ = ["SPEECH_HINT", "refuse_speech"]

SPEECH_HINT = "use speechprompt generate ADAPTER RECORDING..., or try it out with speechprompt demo ADAPTER"


def refuse_speech(model: Any, instead: str, name: str | None = None) -> None:
    """Refuse an adapter that answers with speech where labels or texts are wanted.

    Args:
        model (`PreTrainedModel | SpeechPromptConfig`): an adapter of any kind, or its configuration.
        instead (`str`): what is wanted, as `"predict says labels and texts"`.
        name (`str`, *optional*): of the adapter; what it was opened as by default.

    Raises:
        AdapterError: it answers with speech.
    """
    # Not by its class, of which code that travels may have another copy.
    config = getattr(model, "config", model)
    if getattr(config, "generates_speech", False):
        named = name or getattr(config, "_name_or_path", "") or "this adapter"
        raise AdapterError(f"{named} answers with speech, and {instead}", hint=SPEECH_HINT)
