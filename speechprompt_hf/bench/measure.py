"""What a cell costs: the peak of the process's memory while it runs."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

import torch

__all__ = ["PeakMemory", "quick_collection"]

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@contextmanager
def quick_collection() -> Iterator[None]:
    """Leave what exists now out of garbage collection, which every cell starts with: imports are most objects."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


class PeakMemory:
    """Measures the memory that a block takes: `with PeakMemory() as memory: ...`, then its attributes.

    Linux alone lets a process set its peak back; elsewhere the numbers are `None`. What was freed before is given back
    to the system first, so that a cell does not look cheap because it finds the memory of an earlier one.

    Attributes:
        before (`int | None`): bytes of resident memory when the block started.
        peak (`int | None`): the most resident bytes inside the block.
        cuda_peak (`int | None`): the most bytes of tensors on the GPU inside the block; `None` without a GPU.
    """

    before: int | None = None
    peak: int | None = None
    cuda_peak: int | None = None

    def __enter__(self) -> PeakMemory:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        if sys.platform == "linux":
            with suppress(AttributeError, OSError):  # not every C library has it
                ctypes.CDLL(None).malloc_trim(0)
            try:
                _CLEAR.write_text("5")
            except OSError:  # forbidden here: the peak would be that of the whole process
                return self
            self.before = _resident("VmRSS")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.before is not None:
            self.peak = _resident("VmHWM")
        if torch.cuda.is_available():
            self.cuda_peak = torch.cuda.max_memory_allocated()


def _resident(name: str) -> int | None:
    for line in _STATUS.read_text().splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    return None
