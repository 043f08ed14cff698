"""Batches of recordings of similar lengths, and their units; a bad recording does not take its neighbours along."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ..core.errors import AudioError
from ..core.units import UnitSequence

__all__ = ["batches_by_length", "encode_batch"]

# Samples of one padded batch (60 s at 16 kHz).
_BATCH_SAMPLES = 960_000


def batches_by_length(waves: Mapping[str, np.ndarray]) -> Iterator[list[str]]:
    """Keys of similar lengths whose padded size stays bounded; a longer recording goes alone.

    Args:
        waves (`Mapping[str, NDArray[float32]]`): samples of shape `(S,)` by key.
    """
    batch: list[str] = []
    for key in sorted(waves, key=lambda key: len(waves[key])):
        if batch and (len(batch) + 1) * len(waves[key]) > _BATCH_SAMPLES:
            yield batch
            batch = []
        batch.append(key)
    if batch:
        yield batch


def encode_batch(
    waves: Mapping[str, np.ndarray], processor: Any, rate: int
) -> tuple[dict[str, UnitSequence], dict[str, tuple[str, str]]]:
    """Units of one batch.

    Args:
        waves (`Mapping[str, NDArray[float32]]`): samples of shape `(S,)` by key.
        processor (`SpeechUnitProcessor`): makes the units.
        rate (`int`): of the samples in Hz.

    Returns:
        `tuple`: units by key, and of the keys without units the name of the error class and the message.
    """
    try:
        return dict(zip(waves, processor.encode_units(list(waves.values()), sampling_rate=rate), strict=True)), {}
    except AudioError:
        pass
    # One row is bad: find it.
    units: dict[str, UnitSequence] = {}
    reasons: dict[str, tuple[str, str]] = {}
    for key, wave in waves.items():
        try:
            (units[key],) = processor.encode_units([wave], sampling_rate=rate)
        except AudioError as error:
            # Several rows may hold this recording, so the message names none of them.
            reasons[key] = (type(error).__name__, re.sub(r"\bitem 0\b", "the recording", str(error)))
    return units, reasons
