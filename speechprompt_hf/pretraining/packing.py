"""Many short clips laid into windows of a fixed length, as a teacher with fixed windows wants them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SAMPLING_RATE = 16_000
WINDOW_SAMPLES = 30 * SAMPLING_RATE
GAP_SAMPLES = round(0.24 * SAMPLING_RATE)


@dataclass(frozen=True)
class Span:
    """Where one clip (or a piece of a long one) lies.

    Args:
        window (`int`): index of the window.
        start (`int`): first sample within the window.
        clip (`int`): index of the clip in the list that was packed.
        offset (`int`): first sample of the piece within its clip.
        length (`int`): samples of the piece.
    """

    window: int
    start: int
    clip: int
    offset: int
    length: int


def pack_clips(
    lengths: Sequence[int],
    *,
    window_samples: int = WINDOW_SAMPLES,
    gap_samples: int = GAP_SAMPLES,
    open_windows: int = 16,
) -> list[Span]:
    """Assigns clips to windows, in order, with a silent gap after each clip.

    A clip longer than a window is cut into pieces. Among the `open_windows` windows that still have room the
    fullest one that fits is taken.

    Args:
        lengths (`Sequence[int]`): samples of each clip; clips of length 0 are left out.
        window_samples (`int`, *optional*, defaults to 480000): samples of a window.
        gap_samples (`int`, *optional*, defaults to 3840): silence kept after each clip, 0.24 s at 16 kHz.
        open_windows (`int`, *optional*, defaults to 16): how many unfinished windows are kept open.

    Returns:
        `list[Span]`: the pieces, none overlapping another, at least `gap_samples` apart.
    """
    pieces = [
        (clip, offset, min(window_samples, length - offset))
        for clip, length in enumerate(lengths)
        for offset in range(0, length, window_samples)
    ]
    spans: list[Span] = []
    unfinished: list[list[int]] = []  # [window, first free sample]
    num_windows = 0
    for clip, offset, length in pieces:
        fitting = [entry for entry in unfinished if entry[1] + length <= window_samples]
        if fitting:
            entry = max(fitting, key=lambda item: item[1])
        else:
            entry = [num_windows, 0]
            num_windows += 1
            unfinished.append(entry)
            if len(unfinished) > open_windows:
                unfinished.remove(max(unfinished[:-1], key=lambda item: item[1]))
        spans.append(Span(entry[0], entry[1], clip, offset, length))
        entry[1] += length + gap_samples
    return spans


def lay_out(clips: Sequence[np.ndarray], spans: Sequence[Span], *, window_samples: int = WINDOW_SAMPLES) -> np.ndarray:
    """Writes the clips into their windows.

    Args:
        clips (`Sequence[np.ndarray]`): float32 mono waves in [-1, 1], shape (S,).
        spans (`Sequence[Span]`): what [`pack_clips`] returned for their lengths.
        window_samples (`int`, *optional*, defaults to 480000): samples of a window.

    Returns:
        `np.ndarray`: int16 of shape (windows, window_samples), zero in the gaps.
    """
    num_windows = 1 + max((span.window for span in spans), default=-1)
    windows = np.zeros((num_windows, window_samples), dtype=np.int16)
    for span in spans:
        piece = clips[span.clip][span.offset : span.offset + span.length]
        windows[span.window, span.start : span.start + span.length] = np.round(
            np.clip(piece, -1.0, 1.0) * 32767
        ).astype(np.int16)
    return windows


def speech_frames(spans: Sequence[Span], num_windows: int, num_frames: int, *, hop_samples: int = 320) -> np.ndarray:
    """Marks the teacher's frames whose centre (sample `hop_samples` x index) lies inside a clip.

    Returns:
        `np.ndarray`: bool of shape (num_windows, num_frames).
    """
    marks = np.zeros((num_windows, num_frames), dtype=bool)
    for span in spans:
        first = -(-span.start // hop_samples)
        last = (span.start + span.length - 1) // hop_samples
        marks[span.window, first : last + 1] = True
    return marks
