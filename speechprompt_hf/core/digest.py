"""Content hashes of files, tensors and configurations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["sha256_of_file", "sha256_of_json", "sha256_of_tensors"]


def sha256_of_file(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes, read in blocks."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_of_json(value: Any) -> str:
    """Hexadecimal SHA-256 of a JSON value; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def sha256_of_tensors(tensors: Mapping[str, Any]) -> str:
    """Hexadecimal SHA-256 of named tensors: names, shapes and values as float32, in the order of names.

    Floating tensors are hashed as float32, so that weights stored in half precision have the same hash before and
    after they are loaded in float32.

    Args:
        tensors (`Mapping[str, ndarray | Tensor]`): arrays of any shape, floating or integer.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        if hasattr(tensor, "detach"):
            tensor = tensor.detach().cpu()
            tensor = tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()
        array = np.ascontiguousarray(tensor)
        if np.issubdtype(array.dtype, np.floating):
            array = array.astype("<f4")
        digest.update(json.dumps([name, list(array.shape), array.dtype.str]).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
