"""k-means quantizers in joblib files of scikit-learn → `quantizer.safetensors`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ConfigurationError
from ..processors.quantizer import QUANTIZER_FILE, Quantizer
from .array_stream import JoblibRules
from .byte_stream import ByteStream
from .compressed import open_decompressed
from .errors import ConversionError
from .file_kinds import expecting
from .pickle_machine import Record, load_inert

__all__ = ["convert_quantizer", "read_centroids"]

_MAX_UNITS, _MAX_FEATURES = 100_000, 65_536


def read_centroids(source: str | Path) -> np.ndarray:
    """Centroids of a `KMeans` or `MiniBatchKMeans` that joblib saved; nothing in the file is executed.

    Args:
        source (`str | Path`): for example `km.bin`, compressed or not.

    Returns:
        `ndarray` of shape `(K, F)`, float32 or float64, as stored.

    Raises:
        ConversionError: the file is damaged, names something else than k-means and arrays, or has no usable centroids.
    """
    with expecting("quantizer", source):
        return _read_centroids(source)


def _read_centroids(source: str | Path) -> np.ndarray:
    with open_decompressed(Path(source)) as file:
        stream = ByteStream(file, str(source))
        content = load_inert(stream, JoblibRules())
        if stream.tell() != stream.size:
            raise ConversionError(f"{source} goes on after its end, by {stream.size - stream.tell()} bytes")
    if not isinstance(content, Record) or not str(content.kind).startswith("sklearn."):
        kind = content.kind if isinstance(content, Record) else type(content).__name__
        raise ConversionError(f"{source} holds {kind} instead of a k-means of scikit-learn")
    found = content.state.get("cluster_centers_") if isinstance(content.state, dict) else None
    if not isinstance(found, Record) or not isinstance(found.state, np.ndarray):
        raise ConversionError(f"{source} holds {content.kind} without cluster_centers_", hint="it was never fitted")
    centroids = found.state
    _check(centroids, content.state, str(source))
    # A copy of its own, in this machine's byte order.
    return np.array(centroids, dtype=centroids.dtype.newbyteorder("="), order="C")


def convert_quantizer(
    source: str | Path, destination: str | Path, *, metadata: dict[str, str] | None = None, overwrite: bool = False
) -> dict[str, Any]:
    """Write the centroids of a joblib file as `quantizer.safetensors`.

    Args:
        source (`str | Path`): the joblib file.
        destination (`str | Path`): folder of the result; made if it is absent.
        metadata (`dict[str, str]`, *optional*): what to store beside them: dense model, layer, data.
        overwrite (`bool`, defaults to `False`): replace a quantizer that is there.

    Returns:
        `dict`: `output`, `units`, `features`, `source_sha256`, and `sha256` of the centroids.

    Raises:
        ConversionError: the file cannot be read as a quantizer, or there is a quantizer already.
    """
    path = Path(destination) / QUANTIZER_FILE
    if path.exists() and not overwrite:
        raise ConversionError(
            f"{path} exists, and language models and adapters may stand on its units",
            hint="choose another folder, or replace it with overwrite=True (--overwrite)",
        )
    centroids = read_centroids(source)
    with Path(source).open("rb") as file:
        source_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    try:
        quantizer = Quantizer(
            centroids, {"source": Path(source).name, "source_sha256": source_sha256, **(metadata or {})}
        )
    except ConfigurationError as error:
        raise ConversionError(f"{source}: {Exception.__str__(error)}", hint=error.hint) from error
    quantizer.save(path)
    return {
        "output": str(path),
        "units": quantizer.num_units,
        "features": quantizer.feature_size,
        "source_sha256": source_sha256,
        "sha256": quantizer.sha256,
    }


def _check(centroids: np.ndarray, state: dict[str, Any], source: str) -> None:
    if centroids.ndim != 2 or centroids.dtype.kind != "f":
        raise ConversionError(
            f"cluster_centers_ in {source} has shape {centroids.shape} and dtype {centroids.dtype}",
            hint="centroids are a floating array (number of units, feature size)",
        )
    if not 1 <= centroids.shape[0] <= _MAX_UNITS or not 1 <= centroids.shape[1] <= _MAX_FEATURES:
        raise ConversionError(f"cluster_centers_ in {source} has shape {centroids.shape}, which no quantizer has")
    clusters, features = state.get("n_clusters"), state.get("n_features_in_")
    for claimed, size, name in (
        (clusters, centroids.shape[0], "n_clusters"),
        (features, centroids.shape[1], "n_features_in_"),
    ):
        if type(claimed) is int and claimed != size:
            raise ConversionError(f"{source} says {name} {claimed}, but cluster_centers_ has shape {centroids.shape}")
