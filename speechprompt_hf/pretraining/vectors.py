"""Rows of integers that are not held one by one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, overload

import numpy as np

__all__ = ["Vectors"]


class Vectors(Sequence[Any]):
    """A sequence of integer vectors, each made when it is asked for."""

    @abstractmethod
    def vector(self, index: int) -> np.ndarray:
        """The vector `(N,)` at an index from 0."""

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...

    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        places = range(len(self))[index]
        return self.vector(places) if isinstance(places, int) else [self.vector(place) for place in places]
