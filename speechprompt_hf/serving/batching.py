"""Dynamic batches: rows that wait are answered together, by one thread that owns the model."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import ConfigurationError
from .refusals import BusyError, ModelEndedError, RequestRefusedError

__all__ = ["BatchSettings", "DynamicBatcher", "Row", "choose_batch"]

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchSettings:
    """How large batches become.

    Attributes:
        max_batch_size (`int`, defaults to 32): rows of a batch.
        max_wait_ms (`float`, defaults to 5.0): how long the first row waits for others while the model is idle.
        max_batch_seconds (`float`, defaults to 120.0): of a batch's recordings, each counted as the longest; one row
            goes alone whatever its length.

    Raises:
        ConfigurationError: a value that cannot be.
    """

    max_batch_size: int = 32
    max_wait_ms: float = 5.0
    max_batch_seconds: float = 120.0

    def __post_init__(self) -> None:
        size = self.max_batch_size
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ConfigurationError(f"max_batch_size is {size!r}", hint="a whole number, at least 1")
        if not 0 <= self.max_wait_ms <= 10_000:
            raise ConfigurationError(f"max_wait_ms is {self.max_wait_ms!r}", hint="0 to 10000")
        if not self.max_batch_seconds > 0:
            raise ConfigurationError(f"max_batch_seconds is {self.max_batch_seconds!r}", hint="a number above zero")


@dataclass(eq=False)
class Row:
    """Something to be answered.

    Attributes:
        group (`Hashable`): only rows of one group share a batch.
        item (`Any`): what the model is given.
        seconds (`float`): how long its recording lasts.
        deadline (`float`): of `time.monotonic`; later nobody wants an answer.
        future (`Future`): of the answer.
        submitted (`float`): of `time.monotonic`.
    """

    group: Hashable
    item: Any
    seconds: float
    deadline: float
    future: Future[Any] = field(default_factory=Future)
    submitted: float = field(default_factory=time.monotonic)


def choose_batch(waiting: Sequence[Row], settings: BatchSettings) -> list[Row]:
    """The oldest row and those of its group whose recordings are most nearly as long.

    The oldest is always among them, so that none waits for ever.

    Args:
        waiting (`Sequence[Row]`): at least one, the oldest first.
        settings (`BatchSettings`): the largest batch.

    Returns:
        `list[Row]`: rising in length.
    """
    oldest = waiting[0]
    others = [row for row in waiting if row.group == oldest.group and row is not oldest]
    if len(others) >= settings.max_batch_size:
        others.sort(key=lambda row: abs(row.seconds - oldest.seconds))
    chosen, longest = [oldest], oldest.seconds
    for row in others:
        if len(chosen) == settings.max_batch_size:
            break
        if max(longest, row.seconds) * (len(chosen) + 1) <= settings.max_batch_seconds:
            chosen.append(row)
            longest = max(longest, row.seconds)
    return sorted(chosen, key=lambda row: row.seconds)


class DynamicBatcher:
    """A bounded queue and the one thread that answers it.

    While a batch is computed the next rows come together, so batches grow with the load. Rows whose client has gone
    (their future is cancelled) or whose time is out are dropped before they cost anything. If a batch fails, its
    halves are tried, and so on: a row that fails does so alone.

    Args:
        answer (`Callable[[Hashable, list], Sequence]`): a group and its items → an answer, or an exception, an item.
        settings (`BatchSettings`, *optional*): the largest batch.
        max_queue (`int`, defaults to 256): rows that wait; more are refused.
        on_batch (`Callable[[Hashable, int], None]`, *optional*): told of every batch and its rows.
        on_drop (`Callable[[str], None]`, *optional*): told of every row that was dropped: `"cancelled"` or
            `"expired"`.
        on_failure (`Callable[[BaseException], None]`, *optional*): told why the thread ended unasked.

    Attributes:
        has_failed (`bool`): whether it did.
    """

    def __init__(
        self,
        answer: Callable[[Hashable, list[Any]], Sequence[Any]],
        settings: BatchSettings | None = None,
        *,
        max_queue: int = 256,
        on_batch: Callable[[Hashable, int], None] | None = None,
        on_drop: Callable[[str], None] | None = None,
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.settings = settings or BatchSettings()
        self.max_queue = max_queue
        self._answer = answer
        self._on_batch = on_batch or (lambda group, rows: None)
        self._on_drop = on_drop or (lambda reason: None)
        self._on_failure = on_failure or (lambda error: _logger.error("the model has ended: %r", error))
        self._condition = threading.Condition()
        self._waiting: deque[Row] = deque()
        self._jobs: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._closing = False
        self.has_failed = False
        self._thread = threading.Thread(target=self._work, name="speechprompt-model", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread answers."""
        return self._thread.is_alive()

    @property
    def queue_length(self) -> int:
        """Rows that wait."""
        return len(self._waiting)

    def submit(self, group: Hashable, item: Any, *, seconds: float, deadline: float) -> Future[Any]:
        """Queue a row.

        Args:
            group (`Hashable`): only rows of one group share a batch.
            item (`Any`): what the model is given.
            seconds (`float`): how long its recording lasts.
            deadline (`float`): of `time.monotonic`.

        Returns:
            `Future`: of the answer; cancel it if nobody wants it any more. It raises `TimeoutError` when the deadline
            passed before its turn.

        Raises:
            BusyError: `max_queue` rows wait, or the batcher is closed.
            ModelEndedError: the thread ended unasked.
        """
        row = Row(group, item, seconds, deadline)
        with self._condition:
            if self._closing or not self.is_alive:
                raise self._refusal()
            if len(self._waiting) >= self.max_queue:
                raise BusyError(f"{self.max_queue} requests are waiting already; try again later")
            self._waiting.append(row)
            self._condition.notify()
        return row.future

    def run(self, job: Callable[[], Any]) -> Future[Any]:
        """Do something with the model between two batches.

        Args:
            job (`Callable`): without arguments.

        Returns:
            `Future`: of what it returns.

        Raises:
            BusyError: the batcher is closed.
            ModelEndedError: the thread ended unasked.
        """
        future: Future[Any] = Future()
        with self._condition:
            if self._closing or not self.is_alive:
                raise self._refusal()
            self._jobs.append((job, future))
            self._condition.notify()
        return future

    def close(self, timeout_s: float | None = None) -> None:
        """Take no more, answer what waits, and end the thread.

        Args:
            timeout_s (`float`, *optional*): the longest that is waited for.
        """
        with self._condition:
            self._closing = True
            self._condition.notify()
        if self.is_alive:
            self._thread.join(timeout_s)

    def _work(self) -> None:
        try:
            while self._step():
                pass
        except BaseException as error:
            with self._condition:
                self.has_failed = self._closing = True
                left = [row.future for row in self._waiting] + [future for _, future in self._jobs]
                self._waiting.clear()
                self._jobs.clear()
            for future in left:
                if future.set_running_or_notify_cancel():
                    future.set_exception(ModelEndedError())
            self._on_failure(error)

    def _refusal(self) -> RequestRefusedError:
        return ModelEndedError() if self.has_failed else BusyError("the service is shutting down")

    def _step(self) -> bool:
        """One job or batch; `False` when there will be no more."""
        with self._condition:
            while not self._waiting and not self._jobs and not self._closing:
                self._condition.wait()
            if self._jobs:
                job, future = self._jobs.popleft()
                batch = None
            elif self._waiting:
                self._wait_for_more()
                batch = choose_batch(list(self._waiting), self.settings)
                taken = set(map(id, batch))
                self._waiting = deque(row for row in self._waiting if id(row) not in taken)
            else:
                return False
        if batch is not None:
            self._answer_rows([row for row in batch if self._is_wanted(row)])
        elif future.set_running_or_notify_cancel():
            try:
                future.set_result(job())
            except Exception as error:
                future.set_exception(error)
            except BaseException:
                future.set_exception(ModelEndedError())
                raise
        return True

    def _wait_for_more(self) -> None:
        """Until a batch is full or the oldest row has waited long enough."""
        until = self._waiting[0].submitted + self.settings.max_wait_ms / 1000
        while len(self._waiting) < self.settings.max_batch_size and not self._jobs and not self._closing:
            remaining = until - time.monotonic()
            if remaining <= 0:
                return
            self._condition.wait(remaining)

    def _is_wanted(self, row: Row) -> bool:
        if not row.future.set_running_or_notify_cancel():
            self._on_drop("cancelled")
            return False
        if time.monotonic() >= row.deadline:
            self._on_drop("expired")
            row.future.set_exception(TimeoutError("the request's time was out before its turn"))
            return False
        return True

    def _answer_rows(self, rows: list[Row]) -> None:
        if not rows:
            return
        self._on_batch(rows[0].group, len(rows))
        try:
            answers = self._answer(rows[0].group, [row.item for row in rows])
            if len(answers) != len(rows):
                raise RuntimeError(f"{len(answers)} answers for {len(rows)} rows")
        except Exception as error:
            if len(rows) == 1:
                rows[0].future.set_exception(error)
                return
            _logger.warning("a batch of %d rows failed and is tried in halves: %r", len(rows), error)
            middle = len(rows) // 2
            self._answer_rows(rows[:middle])
            self._answer_rows(rows[middle:])
            return
        except BaseException:
            for row in rows:
                row.future.set_exception(ModelEndedError())
            raise
        for row, answer in zip(rows, answers, strict=True):
            if isinstance(answer, Exception):
                row.future.set_exception(answer)
            else:
                row.future.set_result(answer)
