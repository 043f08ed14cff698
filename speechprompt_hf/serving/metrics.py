"""Counts of a service in the form that Prometheus reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.extras import require

__all__ = ["ServingMetrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128)


class ServingMetrics:
    """Counters of one service, in a registry of their own.

    Names of adapters are label values only while they are served, so that what strangers ask for makes no series.

    Args:
        queue_length (`Callable[[], int]`): rows that wait for the model now.
        in_flight (`Callable[[], int]`): requests that are being dealt with now.

    Raises:
        MissingDependencyError: prometheus_client is not installed.
    """

    def __init__(self, queue_length: Callable[[], int], in_flight: Callable[[], int]) -> None:
        client: Any = require("prometheus_client", "serve")
        self._client = client
        self._registry = client.CollectorRegistry()
        kinds: dict[str, Any] = {"registry": self._registry, "namespace": "speechprompt"}
        self._requests = client.Counter(
            "requests", "Requests by adapter, task and status.", ("model", "task", "status"), **kinds
        )
        self._seconds = client.Histogram(
            "request_seconds", "From the first byte to the answer.", ("task",), buckets=_SECONDS, **kinds
        )
        self._batches = client.Histogram("batch_rows", "Rows of a batch.", ("task",), buckets=_ROWS, **kinds)
        self._dropped = client.Counter(
            "dropped_rows",
            "Rows that were not computed: no client any more, or no time.",
            ("reason",),
            **kinds,
        )
        self._audio = client.Counter("audio_seconds", "Seconds of recordings that were answered.", ("task",), **kinds)
        client.Gauge("queue_length", "Rows that wait for the model.", **kinds).set_function(queue_length)
        client.Gauge("requests_in_flight", "Requests that are being dealt with.", **kinds).set_function(in_flight)
        client.ProcessCollector(registry=self._registry)

    def count_request(self, model: str, task: str, status: int, seconds: float) -> None:
        """A request has ended.

        Args:
            model (`str`): the adapter; empty where there is none of that name.
            task (`str`): of the adapter, or empty.
            status (`int`): of HTTP; 499 where the client had gone.
            seconds (`float`): that it took.
        """
        self._requests.labels(model, task, str(status)).inc()
        self._seconds.labels(task).observe(seconds)

    def count_batch(self, group: Any, rows: int) -> None:
        """A batch begins.

        Args:
            group: of the engine; begins with the task.
            rows (`int`): in it.
        """
        self._batches.labels(group[0]).observe(rows)

    def count_drop(self, reason: str) -> None:
        """A row was dropped.

        Args:
            reason (`str`): `"cancelled"` or `"expired"`.
        """
        self._dropped.labels(reason).inc()

    def count_audio(self, task: str, seconds: float) -> None:
        """A recording was answered.

        Args:
            task (`str`): of the adapter.
            seconds (`float`): that it lasts.
        """
        self._audio.labels(task).inc(seconds)

    def forget(self, model: str) -> None:
        """Drop the series of an adapter that is no longer served.

        Args:
            model (`str`): its name.
        """
        self._requests.remove_by_labels({"model": model})

    def text(self) -> tuple[bytes, str]:
        """All figures, and their content type."""
        return self._client.generate_latest(self._registry), self._client.CONTENT_TYPE_LATEST
