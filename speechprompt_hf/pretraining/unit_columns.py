"""Units of a data set as NumPy arrays, out of its Arrow table and some thousand rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..core.errors import DatasetError
from .vectors import Vectors

__all__ = ["UnitColumn"]

_ROWS_AT_ONCE = 2_000


class UnitColumn(Vectors):
    """The column `units` of a data set, read anew whenever it is gone through: only the number of units is held.

    Args:
        table (`Dataset`): its column `units` holds lists of integers.

    Attributes:
        lengths (`NDArray[int64]` of shape `(R,)`): units of each of R rows.

    Raises:
        DatasetError: the column holds something else, or a row has no units or a hole in them.

    Example:
        `list(UnitColumn(table))` are R integer vectors of shape `(U,)`.
    """

    def __init__(self, table: Any) -> None:
        self._table = table.select_columns("units").with_format("arrow")
        lengths = [np.zeros(0, dtype=np.int64)]
        for column in self._columns():
            _check(column, start=sum(map(len, lengths)))
            lengths.append(_lengths(column))
        self.lengths = np.concatenate(lengths)

    def __len__(self) -> int:
        return len(self._table)

    def vector(self, index: int) -> np.ndarray:
        """The units `(U,)` of row `index`."""
        return _values(_joined(self._table[index : index + 1]["units"]))

    def __iter__(self) -> Iterator[np.ndarray]:
        for column in self._columns():
            yield from np.split(_values(column), np.cumsum(_lengths(column))[:-1])

    def blocks(self) -> Iterator[np.ndarray]:
        """The units of all rows, one after the other, in integer vectors that end where a row ends."""
        return map(_values, self._columns())

    def _columns(self) -> Iterator[pa.Array]:
        for batch in self._table.iter(_ROWS_AT_ONCE):
            yield _joined(batch["units"])


def _joined(column: Any) -> pa.Array:
    return pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column


def _lengths(column: pa.Array) -> np.ndarray:
    return pc.list_value_length(column).to_numpy(zero_copy_only=False).astype(np.int64)


def _values(column: pa.Array) -> np.ndarray:
    return column.flatten().to_numpy(zero_copy_only=False)


def _check(column: pa.Array, start: int) -> None:
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not is_list or not pa.types.is_integer(kind.value_type):
        raise DatasetError(
            f"the column units holds {kind}, not lists of integers",
            hint="speechprompt units --dataset … makes it from recordings",
        )
    if column.null_count:
        row = start + pc.index(column.is_null(), True).as_py()
        raise DatasetError(f"row {row} of the corpus has no units", hint="leave the row out")
    if column.flatten().null_count:
        units = next(row for row, units in enumerate(column.to_pylist()) if None in units)
        raise DatasetError(f"row {start + units} of the corpus lacks some of its units", hint="leave the row out")
