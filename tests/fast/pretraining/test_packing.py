from itertools import pairwise

import numpy as np
import pytest

from speechprompt_hf.pretraining.packing import lay_out, pack_clips, speech_frames


@pytest.mark.parametrize("seed", range(5))
def test_every_sample_lies_in_one_place_with_gaps_between(seed):
    generator = np.random.default_rng(seed)
    lengths = [int(n) for n in generator.integers(1, 2500, size=40)]
    spans = pack_clips(lengths, window_samples=1000, gap_samples=50, open_windows=3)
    covered = {clip: np.zeros(length, dtype=int) for clip, length in enumerate(lengths)}
    for span in spans:
        assert span.start + span.length <= 1000
        covered[span.clip][span.offset : span.offset + span.length] += 1
    assert all((count == 1).all() for count in covered.values())
    by_window = {}
    for span in spans:
        by_window.setdefault(span.window, []).append(span)
    for inside in by_window.values():
        inside.sort(key=lambda span: span.start)
        for left, right in pairwise(inside):
            assert right.start - (left.start + left.length) >= 50


def test_short_clips_fill_windows_well():
    lengths = [int(n) for n in np.random.default_rng(0).integers(5_000, 80_000, size=300)]
    spans = pack_clips(lengths)
    num_windows = 1 + max(span.window for span in spans)
    assert sum(lengths) / (num_windows * 480_000) > 0.8


def test_laid_out_windows_hold_the_clips_and_silence():
    clips = [np.full(100, 0.5, dtype=np.float32), np.full(30, -0.25, dtype=np.float32)]
    spans = pack_clips([100, 30], window_samples=200, gap_samples=40)
    windows = lay_out(clips, spans, window_samples=200)
    assert windows.shape == (1, 200)
    assert (windows[0, :100] == 16384).all()
    assert (windows[0, 100:140] == 0).all()
    assert (windows[0, 140:170] == -8192).all()


def test_speech_frames_are_those_centred_inside_clips():
    spans = pack_clips([640, 320], window_samples=4800, gap_samples=640)
    marks = speech_frames(spans, 1, 15)
    assert np.flatnonzero(marks[0]).tolist() == [0, 1, 4]  # centres 0, 320 and 1280; 640 and 1600 lie behind the ends


def test_empty_clips_are_left_out():
    assert [span.clip for span in pack_clips([0, 10, 0])] == [1]
