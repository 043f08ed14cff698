"""Where the processor beside a saved adapter says that its encoder is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..core.embedded import EMBEDDED_BASES, resolve_base
from ..core.locations import is_hub_id, looks_like_a_path
from .adapter_files import ADAPTER_CONFIG
from .base_loading import public_base_name
from .configuration_speechprompt import SpeechPromptConfig

__all__ = ["save_processor"]


def save_processor(
    processor: Any, folder: str | os.PathLike[str], config: SpeechPromptConfig, *, on_the_hub: bool = False
) -> bool:
    """Write a processor beside an adapter; encoder and centroids stay in the base that holds them, which it names.

    An adapter that carries its own encoder keeps it, wherever it is saved.

    Args:
        processor (`SpeechUnitProcessor`): makes the units.
        folder (`str | PathLike`): of the adapter.
        config (`SpeechPromptConfig`): of the adapter; its base, at its revision, is what the processor names unless
            the encoder lies elsewhere.
        on_the_hub (`bool`, defaults to `False`): name nothing that others cannot reach.

    Returns:
        `bool`: `False` if nothing was written, because no place of the encoder has a name.
    """
    encoder = getattr(processor, "unit_encoder", None)
    if encoder is None:
        return False
    location = encoder.location
    if location is not None and os.path.isdir(location):
        if os.path.realpath(location) == os.path.realpath(folder):
            return True
        if encoder.description.source == "." and (Path(location) / ADAPTER_CONFIG).is_file():
            processor.save_pretrained(folder, save_encoder=True)
            return True
    base = config.base_model_name_or_path
    source, revision = processor.base_source, encoder.description.revision or encoder.location_revision
    if source is None and location is not None:
        source = public_base_name(location)
    is_reached = is_hub_id(source) and source not in EMBEDDED_BASES and not os.path.isdir(source or "")
    if (on_the_hub and not is_reached) or (source is None and _holds_an_encoder(base)):
        source = base
    if source is None:
        return False
    processor.save_pretrained(
        folder, base_source=source, base_revision=config.base_revision if source == base else revision
    )
    return True


def _holds_an_encoder(base: str | None) -> bool:
    """Whether a folder does; of a repository it is believed, since saving asks no network."""
    if base is None or not looks_like_a_path(resolve_base(base)):
        return base is not None
    return (Path(resolve_base(base)) / "quantizer.safetensors").is_file()
