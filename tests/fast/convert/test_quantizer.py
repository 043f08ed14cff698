"""Centroids come out of joblib's files exactly, and nothing in the files is executed."""

import hashlib
import json
import pickle
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.cluster import DBSCAN, KMeans, MiniBatchKMeans

from speechprompt_cli.main import main
from speechprompt_hf.convert.errors import ConversionError
from speechprompt_hf.convert.quantizer import convert_quantizer, read_centroids
from speechprompt_hf.processors.quantizer import QUANTIZER_FILE, Quantizer

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "hubert_km100"


def fitted(estimator=MiniBatchKMeans, dtype=np.float32):
    generator = np.random.RandomState(0)
    return estimator(7, n_init=1, random_state=generator).fit(generator.randn(300, 12).astype(dtype))


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("km") / "km.bin"
    joblib.dump(fitted(), path)
    return path.read_bytes()


@pytest.mark.skipif(not REAL.is_dir(), reason="the released km.bin is not at ../shared/data/hubert_km100")
def test_the_released_quantizer_gives_the_published_centres(tmp_path):
    result = convert_quantizer(REAL / "km.bin", tmp_path)
    expected = np.load(REAL / "centers.npy")
    assert (result["units"], result["features"]) == expected.shape == (100, 768)
    made = Quantizer.load(tmp_path / QUANTIZER_FILE)
    assert np.array_equal(made.centroids.numpy(), expected)
    assert made.metadata["source_sha256"] == hashlib.sha256((REAL / "km.bin").read_bytes()).hexdigest()


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("lzma", 3), ("xz", 3)], ids=str)
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("estimator", [KMeans, MiniBatchKMeans])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_centroids_are_those_of_scikit_learn(tmp_path, estimator, dtype, protocol, compress):
    model = fitted(estimator, dtype)
    joblib.dump(model, tmp_path / "km.bin", protocol=protocol, compress=compress)
    read = read_centroids(tmp_path / "km.bin")
    assert read.dtype == model.cluster_centers_.dtype == dtype
    assert np.array_equal(read, model.cluster_centers_)


@pytest.mark.parametrize("change", [np.asfortranarray, lambda array: array.astype(">f4"), lambda array: array[::2]])
def test_other_layouts_of_the_array_are_read(tmp_path, change):
    model = fitted()
    model.cluster_centers_ = change(model.cluster_centers_)
    model.n_clusters = len(model.cluster_centers_)
    joblib.dump(model, tmp_path / "km.bin")
    assert np.array_equal(read_centroids(tmp_path / "km.bin"), model.cluster_centers_)


@pytest.mark.parametrize(
    ("new", "old"),
    [
        (b"sklearn.cluster._kmeans", b"sklearn.cluster.k_means_"),
        (b"joblib.numpy_pickle", b"sklearn.externals.joblib.numpy_pickle"),
    ],
)
def test_names_of_older_versions_are_read(tmp_path, new, old):
    model = fitted()
    joblib.dump(model, tmp_path / "km.bin", protocol=2)
    content = (tmp_path / "km.bin").read_bytes()
    assert new in content
    (tmp_path / "km.bin").write_bytes(content.replace(new, old))
    assert np.array_equal(read_centroids(tmp_path / "km.bin"), model.cluster_centers_)


def test_units_are_those_of_scikit_learn(tmp_path):
    import torch

    model = fitted()
    joblib.dump(model, tmp_path / "km.bin")
    convert_quantizer(tmp_path / "km.bin", tmp_path)
    features = np.random.RandomState(1).randn(500, 12).astype(np.float32)
    units = Quantizer.load(tmp_path / QUANTIZER_FILE).predict(torch.from_numpy(features))
    assert np.array_equal(units.numpy(), model.predict(features))


@pytest.mark.parametrize("compress", [0, 3])
def test_a_planted_call_is_refused_and_does_not_run(tmp_path, trap, would_run, compress):
    model = fitted()
    model.verbose = trap.planted
    assert would_run(pickle.dumps(model))
    joblib.dump(model, tmp_path / "km.bin", compress=compress)
    with pytest.raises(ConversionError, match=trap.name):
        convert_quantizer(tmp_path / "km.bin", tmp_path / "output")
    assert not trap.mark.exists() and not (tmp_path / "output").exists()


def test_arrays_of_objects_are_refused(tmp_path, trap):
    model = fitted()
    model.cluster_centers_ = np.array([[trap.planted]], dtype=object)
    model.n_clusters = 1
    joblib.dump(model, tmp_path / "km.bin")
    with pytest.raises(ConversionError, match="O8"):
        read_centroids(tmp_path / "km.bin")
    assert not trap.mark.exists()


def changed(**attributes):
    model = fitted()
    vars(model).update(attributes)
    return model


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: [1, 2], "holds list instead of a k-means"),
        (lambda: np.zeros((3, 4), np.float32), "NumpyArrayWrapper instead of a k-means"),
        (DBSCAN, r"sklearn\.cluster\._dbscan\.DBSCAN"),
        (lambda: KMeans(3), "without cluster_centers_"),
        (lambda: changed(cluster_centers_=[[1.0]]), "without cluster_centers_"),
        (lambda: changed(cluster_centers_=np.zeros(3, np.float32)), r"shape \(3,\)"),
        (lambda: changed(cluster_centers_=np.zeros((7, 12), np.int64)), "int64"),
        (lambda: changed(cluster_centers_=np.zeros((0, 12), np.float32)), r"shape \(0, 12\)"),
        (lambda: changed(n_clusters=8), "n_clusters 8"),
        (lambda: changed(n_features_in_=13), "n_features_in_ 13"),
        (lambda: changed(cluster_centers_=np.full((7, 12), np.nan, np.float32)), "NaN"),
    ],
)
def test_what_is_no_quantizer_is_refused_by_name(tmp_path, content, words):
    joblib.dump(content(), tmp_path / "km.bin")
    with pytest.raises(ConversionError, match=words):
        convert_quantizer(tmp_path / "km.bin", tmp_path / "output")
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("compress", [0, 3, ("bz2", 3), ("xz", 3)], ids=str)
def test_truncated_files_are_refused(tmp_path, compress):
    path = tmp_path / "km.bin"
    joblib.dump(fitted(), path, compress=compress)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), max(1, len(whole) // 60)), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(ConversionError):
            read_centroids(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"order": "K"}, "order other than C or F"),
        ({"shape": [7, 12]}, "shape is not a few sizes"),
        ({"shape": (-7, 12)}, "shape is not a few sizes"),
        ({"shape": (2**39, 2**39)}, "truncated"),
        ({"dtype": "f4"}, "not described by numpy.dtype"),
        ({"dtype": np.dtype([("a", "f4")])}, r"dtype \|V4"),
    ],
)
def test_impossible_arrays_are_refused(tmp_path, changes, words):
    from joblib.numpy_pickle import NumpyArrayWrapper

    def written(**attributes):
        wrapper = NumpyArrayWrapper(np.ndarray, (7, 12), "C", np.dtype("f4"))
        vars(wrapper).update(attributes)
        content = pickle.dumps(changed(cluster_centers_=wrapper, labels_=None, _counts=None, counts_=None), 2)
        # An array's bytes follow the opcode that completes its description.
        end = 1 + content.index(b"ub", content.index(b"numpy_array_alignment_bytes"))
        return content[: end + 1] + bytes([0]) + np.ones((7, 12), np.float32).tobytes() + content[end + 1 :]

    path = tmp_path / "km.bin"
    path.write_bytes(written())
    assert np.array_equal(read_centroids(path), np.ones((7, 12)))
    path.write_bytes(written(**changes))
    with pytest.raises(ConversionError, match=words):
        read_centroids(path)


@pytest.mark.parametrize("compress", [3, ("bz2", 3), ("xz", 3)], ids=str)
def test_damaged_compression_is_refused(tmp_path, compress):
    path = tmp_path / "km.bin"
    joblib.dump(fitted(), path, compress=compress)
    content = bytearray(path.read_bytes())
    content[40:80] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(ConversionError, match="cannot be decompressed"):
        read_centroids(path)


def test_files_that_go_on_are_refused(tmp_path, raw):
    (tmp_path / "km.bin").write_bytes(raw + b"x")
    with pytest.raises(ConversionError, match="goes on after its end, by 1 bytes"):
        read_centroids(tmp_path / "km.bin")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "km.bin").write_bytes(b"ABCD....WAVE")
    with pytest.raises(ConversionError, match="ABCD"):
        read_centroids(tmp_path / "km.bin")
    (tmp_path / "km.bin").write_bytes(b"")
    with pytest.raises(ConversionError, match="is empty"):
        read_centroids(tmp_path / "km.bin")
    with pytest.raises(ConversionError, match="is a folder"):
        read_centroids(tmp_path)
    with pytest.raises(ConversionError, match="no file"):
        read_centroids(tmp_path / "absent")


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("speechprompt_hf.convert.compressed.MAX_BYTES", 100_000)
    joblib.dump(changed(cluster_centers_=np.zeros((7, 40_000), np.float32)), tmp_path / "km.bin", compress=9)
    assert (tmp_path / "km.bin").stat().st_size < 10_000
    with pytest.raises(ConversionError, match="more than 100000"):
        read_centroids(tmp_path / "km.bin")
    (tmp_path / "km.bin").write_bytes(bytes(100_001))
    with pytest.raises(ConversionError, match="100001 bytes, more than 100000"):
        read_centroids(tmp_path / "km.bin")


def test_mutated_files_give_centroids_or_a_typed_error(tmp_path, raw):
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        content = bytearray(raw)
        for position in generator.integers(0, len(content), generator.integers(1, 6)):
            content[position] = generator.integers(0, 256)
        (tmp_path / "km.bin").write_bytes(content)
        try:
            assert read_centroids(tmp_path / "km.bin").ndim == 2
        except ConversionError:
            refused += 1
    assert refused > 50


def test_a_quantizer_is_not_replaced_unasked(tmp_path, raw):
    (tmp_path / "km.bin").write_bytes(raw)
    convert_quantizer(tmp_path / "km.bin", tmp_path, metadata={"layer": "6"})
    assert Quantizer.load(tmp_path / QUANTIZER_FILE).metadata["layer"] == "6"
    with pytest.raises(ConversionError, match="exists"):
        convert_quantizer(tmp_path / "km.bin", tmp_path)
    convert_quantizer(tmp_path / "km.bin", tmp_path, overwrite=True)
    assert "layer" not in Quantizer.load(tmp_path / QUANTIZER_FILE).metadata


def test_command(tmp_path, raw, capsys):
    (tmp_path / "km.bin").write_bytes(raw)
    arguments = ["convert", "quantizer", str(tmp_path / "km.bin"), str(tmp_path / "output")]
    assert main([*arguments, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["units"], result["features"]) == (7, 12)
    assert result["sha256"] == Quantizer.load(tmp_path / "output" / QUANTIZER_FILE).sha256
    assert main(arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0
    assert "7 units" in capsys.readouterr().out
    assert main([*arguments, "--overwrite", "--dict", "dict.txt"]) == 2
