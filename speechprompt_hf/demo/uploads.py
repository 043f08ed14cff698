"""Recordings from strangers: no more is read and decoded than the limits allow."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..core.audio_io import check_waveform, load_waveform
from ..core.errors import AudioDecodeError, AudioError, ConfigurationError

__all__ = ["UploadLimits", "read_upload"]


@dataclass(frozen=True)
class UploadLimits:
    """What a page takes, and how long it answers.

    Attributes:
        max_seconds (`float`, defaults to 60.0): of sound.
        max_bytes (`int`, defaults to 20_000_000): of a file.
        max_answer_seconds (`float`, defaults to 30.0): of an answer that is speech; what would last longer is cut.

    Raises:
        ConfigurationError: a limit is not positive.
    """

    max_seconds: float = 60.0
    max_bytes: int = 20_000_000
    max_answer_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("max_seconds", "max_bytes", "max_answer_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)!r}", hint="a number above 0")


def read_upload(
    path: str | os.PathLike[str], limits: UploadLimits, *, target_rate: int, min_samples: int = 1
) -> NDArray[np.float32]:
    """An uploaded recording, decoded no further than the limit of seconds; errors call it by its name without folders.

    Args:
        path (`str | PathLike`): the file.
        limits (`UploadLimits`): what is taken.
        target_rate (`int`): the wanted rate in Hz.
        min_samples (`int`, defaults to 1): at that rate, of one frame of the encoder.

    Returns:
        `NDArray[float32]` of shape `(S,)`: mono samples in [-1, 1] at `target_rate`.

    Raises:
        AudioError: of one of its kinds: the file is too large or too long, no sound, damaged, too short, or of an
            impossible rate.
    """
    name = Path(path).name
    try:
        num_bytes = os.path.getsize(path)
    except OSError as error:
        raise AudioDecodeError(f"{name}: {error.strerror}", hint="upload it again") from error
    if num_bytes > limits.max_bytes:
        raise AudioError(
            f"{name} has {num_bytes / 1e6:.1f} MB, more than {limits.max_bytes / 1e6:g} MB",
            hint="cut it, or save it as ogg, opus or mp3",
        )
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise AudioDecodeError(f"{name}: {error.strerror}", hint="upload it again") from error
    waveform = load_waveform(content, target_rate=target_rate, name=name, max_seconds=limits.max_seconds)
    check_waveform(waveform, name=name, min_samples=min_samples)
    return waveform
