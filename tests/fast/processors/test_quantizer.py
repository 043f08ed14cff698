import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from speechprompt_hf.core.errors import ConfigurationError
from speechprompt_hf.processors.quantizer import Quantizer


def test_units_equal_scikit_learns_predict():
    sklearn_cluster = pytest.importorskip("sklearn.cluster")
    generator = np.random.default_rng(0)
    features = generator.standard_normal((4000, 24)).astype(np.float32)
    kmeans = sklearn_cluster.KMeans(50, n_init=1, random_state=0).fit(features[:1000])
    units = Quantizer(kmeans.cluster_centers_.astype(np.float32)).predict(torch.from_numpy(features))
    assert np.array_equal(units.numpy(), kmeans.predict(features))


def test_the_first_of_equally_near_centroids_wins():
    quantizer = Quantizer(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]))
    units, margins = quantizer.predict_with_margins(torch.tensor([[0.0, 0.0], [0.9, 0.0]]))
    assert units.tolist() == [0, 0]
    assert margins[0] == 0
    assert margins[1] == pytest.approx((0.9**2 + 1 - 0.01) / (0.9**2 + 1))


def test_distances_survive_a_large_common_offset():
    # Features far from the origin: float32 scores of 1e8 cannot tell distances of 1.
    centroids = torch.tensor([[10_000.0], [10_002.0]])
    assert Quantizer(centroids).predict(torch.tensor([[10_000.9], [10_001.1]])).tolist() == [0, 1]


def test_one_centroid_is_enough():
    units, margins = Quantizer(torch.ones(1, 3)).predict_with_margins(torch.zeros(4, 3))
    assert units.tolist() == [0] * 4
    assert torch.isinf(margins).all()


def test_file_round_trip_keeps_bits_and_metadata(tmp_path):
    quantizer = Quantizer(torch.randn(7, 5), {"dense_model": "x", "layer": "6"})
    quantizer.save(tmp_path / "quantizer.safetensors")
    loaded = Quantizer.load(tmp_path / "quantizer.safetensors")
    assert torch.equal(loaded.centroids, quantizer.centroids)
    assert loaded.metadata == quantizer.metadata
    assert loaded.sha256 == quantizer.sha256 != Quantizer(torch.randn(7, 5)).sha256


@pytest.mark.parametrize(
    "centroids",
    [torch.zeros(3), torch.zeros(0, 3), torch.zeros(3, 4, dtype=torch.long), torch.tensor([[float("nan")]])],
)
def test_malformed_centroids_are_refused(centroids):
    with pytest.raises(ConfigurationError, match="centroids"):
        Quantizer(centroids)


def test_features_of_another_size_are_refused():
    with pytest.raises(ConfigurationError, match="features of size 4 meet centroids of size 3"):
        Quantizer(torch.zeros(2, 3)).predict(torch.zeros(1, 4))


def test_a_file_without_centroids_is_named(tmp_path):
    save_file({"other": torch.zeros(1)}, tmp_path / "q.safetensors")
    with pytest.raises(ConfigurationError, match=r"q\.safetensors holds \['other'\]"):
        Quantizer.load(tmp_path / "q.safetensors")
