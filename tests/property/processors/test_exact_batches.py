import functools
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechprompt_hf.processors.chunking import group_by_length, split_into_chunks
from speechprompt_hf.processors.frame_geometry import FrameGeometry
from speechprompt_hf.processors.quantizer import Quantizer
from tests.fixtures.speech_encoders import unit_encoder, waveforms

KINDS = ["hubert_base", "hubert_large", "hubert_two_convolutions", "hubert_batch_norm", "wavlm_large", "data2vec"]


@functools.cache
def encoder(kind):
    return unit_encoder(kind, chunk_samples=12000)


@pytest.mark.parametrize("kind", KINDS)
@given(lengths=st.lists(st.integers(720, 20000), min_size=2, max_size=6), seed=st.integers(0, 2**16))
@settings(max_examples=8, deadline=None)
def test_units_do_not_depend_on_the_batch(kind, lengths, seed):
    encoder(kind).batch_samples = 200_000
    waves = waveforms(lengths, seed)
    together = encoder(kind).encode_frames(waves)
    for row, wave in enumerate(waves):
        (features,) = encoder(kind).features([wave])
        units, margins = encoder(kind).quantizer.predict_with_margins(features)
        clear = margins.numpy() > 1e-6
        assert np.array_equal(together[row][clear], units.numpy()[clear])
        assert len(together[row]) == encoder(kind).num_frames(len(wave))


@given(
    num_samples=st.integers(1, 20_000),
    min_samples=st.integers(1, 1000),
    extra=st.integers(0, 10_000),
)
def test_chunks_cover_everything_once(num_samples, min_samples, extra):
    chunks = split_into_chunks(num_samples, min_samples + extra, min_samples)
    assert chunks[0][0] == 0
    assert chunks[-1][1] == num_samples
    assert all(one[1] == other[0] for one, other in itertools.pairwise(chunks))
    sizes = [stop - start for start, stop in chunks]
    assert all(size == min_samples + extra for size in sizes[:-1])
    assert sizes[-1] < extra + 2 * min_samples
    assert sizes[-1] >= min(min_samples, num_samples)


@given(
    lengths=st.lists(st.integers(1, 10**5), max_size=40),
    budget=st.integers(1, 10**6),
    min_fill=st.floats(0.1, 1.0),
)
def test_groups_are_a_partition_within_the_limits(lengths, budget, min_fill):
    groups = group_by_length(lengths, max_padded_samples=budget, min_fill=min_fill)
    assert sorted(index for group in groups for index in group) == list(range(len(lengths)))
    for group in groups:
        longest = max(lengths[index] for index in group)
        assert len(group) == 1 or longest * len(group) <= budget
        assert min(lengths[index] for index in group) >= min_fill * longest


@given(
    layers=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 5)), min_size=1, max_size=5),
    num_samples=st.integers(0, 5000),
)
def test_frame_arithmetic_is_that_of_the_convolutions(layers, num_samples):
    kernels, strides = zip(*layers, strict=True)
    geometry = FrameGeometry(tuple(kernels), tuple(strides))
    frames = num_samples
    for kernel, stride in layers:
        frames = len(range(0, frames - kernel + 1, stride))
    assert geometry.num_frames(num_samples) == frames
    assert geometry.num_frames(geometry.min_samples) == 1
    assert geometry.num_frames(geometry.min_samples - 1) == 0
    assert geometry.num_frames(geometry.min_samples + geometry.hop_samples) == 2
    assert geometry.num_frames(geometry.min_samples + geometry.hop_samples - 1) == 1


@given(seed=st.integers(0, 2**16), num_units=st.integers(1, 30), size=st.integers(1, 20))
def test_the_quantizer_picks_a_nearest_centroid(seed, num_units, size):
    generator = np.random.default_rng(seed)
    centroids = generator.standard_normal((num_units, size)).astype(np.float32)
    features = generator.standard_normal((25, size)).astype(np.float32)
    units = Quantizer(centroids).predict(torch.from_numpy(features)).numpy()
    distances = ((features[:, None].astype(np.float64) - centroids[None]) ** 2).sum(-1)
    chosen = distances[np.arange(25), units]
    assert (chosen <= distances.min(1) * (1 + 1e-9) + 1e-12).all()
