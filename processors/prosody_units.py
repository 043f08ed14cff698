"""Prosody of merged units: from frames to one vector a unit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..core.errors import UnitError
from .chunking import split_into_chunks
from .frame_geometry import FrameGeometry
from .prosody import ProsodyFrames

__all__ = ["PROSODY_FEATURES", "PROSODY_SCALES", "frame_centres", "unit_prosody"]

PROSODY_FEATURES = ("pitch", "slope", "level", "voiced", "duration", "balance")
"""Columns of `unit_prosody`."""
PROSODY_SCALES = (3.0, 2.0, 8.0, 0.5, 1.0, 8.0)
"""By what each column is divided before distances are measured: a spread that is worth hearing."""

# Below this share of voiced frames a unit has no pitch.
_VOICED_SHARE = 0.3
# The speaker's floor: this percentile of the voiced frames' pitch.
_FLOOR_PERCENTILE = 10.0
_LEVEL_PERCENTILE = 90.0
_LOWEST_LEVEL_DB = -40.0


def frame_centres(num_samples: int, geometry: FrameGeometry, chunk_samples: int) -> NDArray[np.int64]:
    """The sample in the middle of every frame of an encoder.

    Args:
        num_samples (`int`): of the recording.
        geometry (`FrameGeometry`): of the encoder.
        chunk_samples (`int`): samples of its chunks.

    Returns:
        `NDArray[int64]` of shape `(T,)`, rising.

    Raises:
        ConfigurationError: a chunk could not hold one frame.
    """
    chunks = split_into_chunks(num_samples, chunk_samples, geometry.min_samples)
    middle = geometry.min_samples // 2
    return np.concatenate(
        [
            np.zeros(0, dtype=np.int64),
            *(
                start + middle + geometry.hop_samples * np.arange(geometry.num_frames(end - start))
                for start, end in chunks
            ),
        ]
    )


def unit_prosody(frames: ProsodyFrames, durations: NDArray[np.integer], hop_seconds: float) -> NDArray[np.float64]:
    """Prosody of merged units: means over their frames.

    Args:
        frames (`ProsodyFrames` of T frames): of one whole recording.
        durations (`NDArray[integer]` of shape `(U,)`): frames per unit; they sum up to T.
        hop_seconds (`float`): from frame to frame.

    Returns:
        `NDArray[float64]` of shape `(U, 6)`, the columns of `PROSODY_FEATURES`: pitch in semitones above the 10th
        percentile of the recording, over voiced frames; its slope in semitones per 0.1 s; level in dB against the
        recording's 90th percentile, at least -40; share of voiced frames; binary logarithm of the duration in frames;
        spectral balance in dB. Pitch and slope are 0 where at most 30 % of the frames are voiced.

    Raises:
        UnitError: the durations do not sum up to T.
    """
    counts = np.asarray(durations, dtype=np.int64)
    if counts.size == 0 or counts.min() < 1 or int(counts.sum()) != len(frames):
        raise UnitError(
            f"{len(frames)} frames of prosody met {counts.size} units of {int(counts.sum())} frames",
            hint="units and prosody must come from the same recording and encoder",
        )
    starts = np.cumsum(counts) - counts
    voiced = frames.f0 > 0
    num_voiced = np.add.reduceat(voiced.astype(np.int64), starts)
    has_pitch = num_voiced > _VOICED_SHARE * counts
    pitch, slope = _pitch_and_slope(frames.f0, voiced, hop_seconds)
    level = frames.level - np.percentile(frames.level, _LEVEL_PERCENTILE)
    if frames.level.max() < 0:  # only silence has no loudest frame
        level = np.full_like(level, _LOWEST_LEVEL_DB)
    columns = np.empty((counts.size, len(PROSODY_FEATURES)))
    for column, values in enumerate((pitch, slope)):
        means = np.add.reduceat(values * voiced, starts) / np.maximum(num_voiced, 1)
        columns[:, column] = np.where(has_pitch, means, 0.0)
    columns[:, 2] = np.add.reduceat(np.maximum(level, _LOWEST_LEVEL_DB), starts) / counts
    columns[:, 3] = num_voiced / counts
    columns[:, 4] = np.log2(counts)
    columns[:, 5] = np.add.reduceat(frames.balance, starts) / counts
    return columns


def _pitch_and_slope(
    f0: NDArray[np.float64], voiced: NDArray[np.bool_], hop_seconds: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Semitones above the floor, straight through unvoiced frames, and their slope over five frames."""
    if not voiced.any():
        return np.zeros_like(f0), np.zeros_like(f0)
    semitones = 12 * np.log2(f0[voiced])
    pitch = np.interp(np.arange(f0.size), np.flatnonzero(voiced), semitones)
    pitch -= np.percentile(semitones, _FLOOR_PERCENTILE)
    smooth = np.convolve(np.pad(pitch, 2, mode="edge"), np.full(5, 0.2), mode="valid")
    slope = np.gradient(smooth) * (0.1 / hop_seconds) if f0.size > 1 else np.zeros_like(f0)
    return pitch, slope
