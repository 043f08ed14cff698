"""Which rows of a batch are computed together, so that little of it is padding."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["partition_by_length"]


def partition_by_length(lengths: Sequence[float], overhead: float) -> list[list[int]]:
    """Divide rows into parts that cost the least together.

    A part costs as many times its longest row as it has rows, and an overhead of its own. Of all divisions of the
    sorted rows the cheapest is found, by dynamic programming.

    Args:
        lengths (`Sequence[float]` of length B): of the rows.
        overhead (`float`): what a part costs beside its rows, as a length; infinite makes one part.

    Returns:
        `list[list[int]]`: numbers of rows; every row is in one part, and lengths rise.
    """
    order = sorted(range(len(lengths)), key=lambda row: lengths[row])
    if overhead == float("inf"):
        return [order] if order else []
    costs, starts = [0.0], [0]
    for stop in range(1, len(order) + 1):
        longest = lengths[order[stop - 1]]
        options = [costs[start] + (stop - start) * longest + overhead for start in range(stop)]
        starts.append(min(range(stop), key=options.__getitem__))
        costs.append(options[starts[-1]])
    parts, stop = [], len(order)
    while stop:
        parts.append(order[starts[stop] : stop])
        stop = starts[stop]
    return parts[::-1]
