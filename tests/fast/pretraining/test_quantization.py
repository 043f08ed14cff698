import numpy as np
import pytest
from safetensors.numpy import load_file
from sklearn.cluster import KMeans

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.pretraining.quantization import fit_quantizer


def blobs(num_blobs=12, size=200, width=6, seed=0):
    generator = np.random.default_rng(seed)
    centres = generator.normal(0, 10, size=(num_blobs, width))
    frames = np.concatenate([centre + generator.normal(0, 0.1, size=(size, width)) for centre in centres])
    return centres, frames[generator.permutation(len(frames))]


def test_separate_blobs_are_found():
    centres, frames = blobs()
    fit = fit_quantizer(frames, 12, batch_size=300, seed=1, show_progress=False)
    distances = np.linalg.norm(centres[:, None] - fit.centroids[None], axis=-1)
    assert distances.min(axis=1).max() < 0.1
    assert fit.shares.sum() == pytest.approx(1)
    assert fit.inertia == pytest.approx(6 * 0.01, rel=0.1)


def test_as_good_as_scikit_learn_on_frames_without_structure():
    frames = np.random.default_rng(0).standard_normal((4000, 8)).astype(np.float32)
    ours = fit_quantizer(frames, 30, batch_size=500, show_progress=False).inertia
    theirs = KMeans(30, n_init=3, random_state=0).fit(frames).inertia_ / len(frames)
    assert ours < 1.01 * theirs


def test_seed_decides():
    _, frames = blobs(40, 30)
    first, again, other = (fit_quantizer(frames, 25, seed=seed, show_progress=False).centroids for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_saved_centroids_are_float32(tmp_path):
    fit = fit_quantizer(blobs()[1], 5, show_progress=False)
    fit.save(tmp_path / "quantizer.safetensors")
    stored = load_file(tmp_path / "quantizer.safetensors")["centroids"]
    assert stored.dtype == np.float32
    np.testing.assert_array_equal(stored, fit.centroids)


@pytest.mark.parametrize("frames", [np.zeros((3, 4)), np.zeros(12), np.full((20, 4), np.nan)])
def test_impossible_features_are_refused(frames):
    with pytest.raises(ConfigurationError):
        fit_quantizer(frames, 5, show_progress=False)
