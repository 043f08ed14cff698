import pytest

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.processors.chunking import UPSTREAM_CHUNK_SAMPLES, group_by_length, split_into_chunks
from speechprompt_hf.processors.frame_geometry import FrameGeometry

HUBERT_BASE = FrameGeometry((10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2))


@pytest.mark.parametrize(
    ("num_samples", "expected"),
    [
        (0, []),
        (399, [(0, 399)]),
        (400, [(0, 400)]),
        (1_600_000, [(0, 1_600_000)]),
        # A tail shorter than one frame, at which upstream crashes.
        (1_600_100, [(0, 1_600_100)]),
        (1_600_399, [(0, 1_600_399)]),
        (1_600_400, [(0, 1_600_000), (1_600_000, 1_600_400)]),
        (3_200_001, [(0, 1_600_000), (1_600_000, 3_200_001)]),
    ],
)
def test_chunks_follow_upstream_and_short_tails_join_the_chunk_before(num_samples, expected):
    assert split_into_chunks(num_samples, UPSTREAM_CHUNK_SAMPLES, 400) == expected


def test_chunks_shorter_than_a_frame_are_refused():
    with pytest.raises(ConfigurationError, match="chunks of 300 samples"):
        split_into_chunks(1000, 300, 400)


def test_geometry_of_hubert_base():
    assert (HUBERT_BASE.min_samples, HUBERT_BASE.hop_samples) == (400, 320)
    assert [HUBERT_BASE.num_frames(n) for n in (0, 399, 400, 719, 720, 48_077)] == [0, 0, 1, 1, 2, 149]
    assert HUBERT_BASE.frames_after(16_000, 1) == (16_000 - 10) // 5 + 1


def test_geometry_comes_from_the_config():
    small = FrameGeometry((400, 3), (160, 2))
    assert (small.min_samples, small.hop_samples, small.num_frames(16_000)) == (720, 320, 48)


def test_groups_hold_similar_lengths_within_the_budget():
    lengths = [100, 10, 95, 50, 49, 99, 11, 400]
    groups = group_by_length(lengths, max_padded_samples=300, min_fill=0.8)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    assert groups == [[7], [0, 5, 2], [3, 4], [6, 1]]


def test_groups_are_limited_in_rows():
    assert group_by_length([5, 5, 5], max_padded_samples=100, max_rows=2) == [[0, 1], [2]]
