"""numpy arrays as joblib writes them: described in the pickle, their bytes behind the description."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from .byte_stream import ByteStream
from .errors import ConversionError
from .pickle_machine import Global, Record
from .pickle_names import PlainRules

__all__ = ["JoblibRules"]

_WRAPPER = Global("joblib.numpy_pickle", "NumpyArrayWrapper")
_VENDORED_WRAPPER = "sklearn.externals.joblib.numpy_pickle.NumpyArrayWrapper"
_KIND = re.compile(r"b1|[iu][1248]|f[248]|c(8|16)|[SU]\d{1,4}|V\d{1,4}")
_BYTE_ORDERS = ("<", ">", "|", "=")


class JoblibRules(PlainRules):
    """Admits estimators of scikit-learn and the arrays of joblib, and reads the arrays' bytes.

    The `state` of an array's `Record` is the array.
    """

    def __init__(self) -> None:
        estimators = {
            f"sklearn.cluster.{module}.{name}"
            for module in ("_kmeans", "k_means_")
            for name in ("MiniBatchKMeans", "KMeans")
        }
        random_states = {
            "numpy.random.mtrand.RandomState",
            *(f"numpy.random._pickle.__{name}_ctor" for name in ("randomstate", "generator", "bit_generator")),
            "numpy.random._mt19937.MT19937",
        }
        super().__init__(frozenset({*estimators, *random_states, str(_WRAPPER), _VENDORED_WRAPPER}))

    def built(self, record: Record, stream: ByteStream) -> None:
        """Read the array whose description is complete."""
        if str(record.kind) in (str(_WRAPPER), _VENDORED_WRAPPER):
            record.state = _read_array(record.state, stream)


def _read_array(state: Any, stream: ByteStream) -> np.ndarray:
    if not isinstance(state, dict) or not {"shape", "order", "dtype"} <= state.keys():
        raise ConversionError(f"{stream.name} describes an array without shape, order or dtype")
    dtype, shape, order = _dtype(state["dtype"], stream.name), _shape(state["shape"], stream.name), state["order"]
    if order not in ("C", "F"):
        raise ConversionError(f"{stream.name} holds an array in an order other than C or F")
    if state.get("numpy_array_alignment_bytes") is not None:
        stream.skip(stream.read_exactly(1)[0])
    content = stream.read_exactly(math.prod(shape) * dtype.itemsize)
    array = np.frombuffer(content, dtype)
    return array.reshape(shape) if order == "C" else array.reshape(shape[::-1]).T


def _shape(value: Any, name: str) -> tuple[int, ...]:
    if (
        not isinstance(value, tuple)
        or len(value) > 8
        or not all(type(size) is int and 0 <= size < 2**40 for size in value)
    ):
        raise ConversionError(f"{name} holds an array whose shape is not a few sizes")
    return value


def _dtype(value: Any, name: str) -> np.dtype:
    """The dtype that numpy's own `Record` describes: `dtype("f4", False, True)` and `(3, "<", …)`."""
    if not isinstance(value, Record) or str(value.kind) != "numpy.dtype" or not value.args:
        raise ConversionError(f"{name} holds an array whose dtype is not described by numpy.dtype")
    kind = value.args[0]
    order = value.state[1] if isinstance(value.state, tuple) and len(value.state) > 1 else "="
    if not isinstance(kind, str) or not _KIND.fullmatch(kind) or order not in _BYTE_ORDERS:
        raise ConversionError(
            f"{name} holds an array of dtype {str(kind)[:40] if isinstance(kind, str) else type(kind).__name__}",
            hint="only numbers are read; arrays of Python objects are pickles again",
        )
    return np.dtype(kind if order == "|" else order + kind)
