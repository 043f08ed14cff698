"""Long recordings in bounded memory: chunks without overlap, and batches of chunks of similar length.

Chunks are upstream's, so that long recordings get upstream's units. They are not quite those of one pass: of 320 s of
read speech in chunks of 100 s, the embedded encoder gives 1.9 % of the frames another unit (35 % within 5 frames of a
border, 1.8 % further than a second from it, as attention sees less), and each border loses the frame that would
straddle it, or two. With chunks of 10 s it is 5.6 %.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.errors import ConfigurationError

__all__ = ["UPSTREAM_CHUNK_SAMPLES", "group_by_length", "split_into_chunks"]

# fairseq's and SpeechPrompt's `max_chunk`: 100 s at 16 kHz.
UPSTREAM_CHUNK_SAMPLES = 1_600_000


def split_into_chunks(num_samples: int, chunk_samples: int, min_samples: int) -> list[tuple[int, int]]:
    """Borders of the chunks of one recording.

    Chunks do not overlap. A tail too short for one frame, at which upstream crashes, joins the chunk before it.

    Args:
        num_samples (`int`): samples of the recording.
        chunk_samples (`int`): samples of a chunk, at least `min_samples`.
        min_samples (`int`): samples of one frame.

    Returns:
        `list[tuple[int, int]]`: start and stop of every chunk, in order; empty for an empty recording. Every chunk but
        the last has `chunk_samples`; the last one has from `min_samples` up to `chunk_samples + min_samples - 1`
        (fewer only where the whole recording is shorter than one frame).

    Raises:
        ConfigurationError: a chunk could not hold one frame.

    Source:
        fairseq `examples/textless_nlp/gslm/speech2unit/pretrained/hubert_feature_reader.py`, `get_feats`.
    """
    if chunk_samples < max(min_samples, 1):
        raise ConfigurationError(
            f"chunks of {chunk_samples} samples are shorter than one frame of {min_samples}",
            hint=f"set chunk_samples to {UPSTREAM_CHUNK_SAMPLES}, as upstream does",
        )
    if num_samples <= 0:
        return []
    starts = list(range(0, num_samples, chunk_samples))
    if len(starts) > 1 and num_samples - starts[-1] < min_samples:
        starts.pop()
    return list(zip(starts, [*starts[1:], num_samples], strict=True))


def group_by_length(
    lengths: Sequence[int], *, max_padded_samples: int, min_fill: float = 0.8, max_rows: int | None = None
) -> list[list[int]]:
    """Batches of similar length, longest first.

    Args:
        lengths (`Sequence[int]`): samples of each row.
        max_padded_samples (`int`): rows times the longest row in one batch; a longer single row is a batch of its own.
        min_fill (`float`, defaults to 0.8): every row is at least this fraction of the longest one in its batch.
        max_rows (`int`, *optional*): most rows in one batch.

    Returns:
        `list[list[int]]`: indices into `lengths`; each appears once.
    """
    groups: list[list[int]] = []
    longest = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        group = groups[-1] if groups else None
        fits = (
            group is not None
            and (len(group) + 1) * longest <= max_padded_samples
            and lengths[index] >= min_fill * longest
            and (max_rows is None or len(group) < max_rows)
        )
        if fits and group is not None:
            group.append(index)
        else:
            groups.append([index])
            longest = lengths[index]
    return groups
