"""A progress bar on stderr that is silent where nobody looks."""

from __future__ import annotations

from types import TracebackType

__all__ = ["ProgressBar"]


class ProgressBar:
    """Progress of one loop, with the measured rate and the time that is left.

    Args:
        label (`str`): what is counted, in the plural.
        total (`int`): how many there are.
        show (`bool`, defaults to `True`): `False` draws nothing.
    """

    def __init__(self, label: str, *, total: int, show: bool = True) -> None:
        self._progress = None
        if show and total > 0:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._task = self._progress.add_task(label, total=total, rate="")

    def advance(self, count: int = 1) -> None:
        """Report `count` more."""
        if self._progress is not None:
            task = self._progress.tasks[0]
            seconds = task.elapsed or 0.0
            rate = f"{(task.completed + count) / seconds:.1f}/s" if seconds > 0 else ""
            self._progress.update(self._task, advance=count, rate=rate)

    def __enter__(self) -> ProgressBar:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
