"""What happens to a request between HTTP and the model: let in, decoded, batched, answered; adapters come and go."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from ..core.audio_io import Waveform
from ..core.errors import SpeechPromptError
from ..core.locations import is_hub_id
from .admission import Admission
from .answers import answer_document
from .batching import BatchSettings, DynamicBatcher
from .bodies import Parameters, decode_recording, read_body
from .engine import Question, ServedModel, ServingEngine, check_name
from .engine_process import EngineProcess
from .limits import AdapterPermissions, ServingLimits
from .metrics import ServingMetrics
from .refusals import RequestRefusedError

__all__ = ["SpeechPromptService"]

_logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Entry:
    """A name that requests find, and how many of them are on their way."""

    model: ServedModel
    in_flight: int = 0
    is_idle: asyncio.Event = field(default_factory=asyncio.Event)


class SpeechPromptService:
    """Answers requests for the adapters of an engine.

    Files are decoded by a few threads, rows are answered by the batcher's thread or, with an `EngineProcess`, by a
    process that it waits for, and the event loop waits for both.

    Args:
        engine (`ServingEngine | EngineProcess`): with its adapters; from now on the batcher's thread alone uses it.
        limits (`ServingLimits`, *optional*): of requests.
        batches (`BatchSettings`, *optional*): the largest batch.
        permissions (`AdapterPermissions`, *optional*): which adapters may be loaded while it runs; none by default.

    Attributes:
        on_model_end (`Callable[[BaseException], None]`): called by the batcher's thread if the model ends, after which
            no request is answered; it logs that by default.

    Raises:
        MissingDependencyError: prometheus_client is not installed.
    """

    def __init__(
        self,
        engine: ServingEngine | EngineProcess,
        *,
        limits: ServingLimits | None = None,
        batches: BatchSettings | None = None,
        permissions: AdapterPermissions | None = None,
    ) -> None:
        self.limits = limits or ServingLimits()
        self.permissions = permissions or AdapterPermissions()
        self.admission = Admission(self.limits)
        self.metrics = ServingMetrics(lambda: self.batcher.queue_length, lambda: self.admission.num_requests)
        self.batcher = DynamicBatcher(
            engine.answer,
            batches,
            max_queue=self.limits.max_queue,
            on_batch=self.metrics.count_batch,
            on_drop=self.metrics.count_drop,
            on_failure=lambda error: self.on_model_end(error),
        )
        self.on_model_end: Callable[[BaseException], None] = _log_the_end
        self._engine = engine
        self._extractor = engine.feature_extractor
        self._entries = {name: _Entry(model) for name, model in engine.models.items()}
        self._changing: set[str] = set()
        self._decoders = ThreadPoolExecutor(self.limits.decoding_threads, thread_name_prefix="speechprompt-decoder")

    def start(self) -> None:
        """Begin to answer."""
        self.batcher.start()

    def close(self) -> None:
        """Answer what was taken, then end the threads and the model's process; once more does nothing."""
        self._decoders.shutdown(cancel_futures=True)
        self.batcher.close()
        self._engine.close()

    @property
    def is_healthy(self) -> bool:
        """Whether the model answers."""
        return self.batcher.is_alive and self._engine.is_alive

    @property
    def models(self) -> list[ServedModel]:
        """What is served now."""
        return [entry.model for entry in self._entries.values()]

    def find(self, name: str) -> ServedModel:
        """What is served under a name.

        Args:
            name (`str`): of an adapter.

        Raises:
            RequestRefusedError: nothing is.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise RequestRefusedError(404, f"there is no model {name[:80]!r} here; GET /models names those there are")
        return entry.model

    async def answer(self, model: ServedModel, body: bytes, content_type: str, ticket: Any, deadline: float) -> Any:
        """The document that answers a request.

        Args:
            model (`ServedModel`): of `find`.
            body (`bytes`): as it came.
            content_type (`str`): the header.
            ticket (`Ticket`): of the request's place.
            deadline (`float`): of `time.monotonic`.

        Raises:
            RequestRefusedError: the request cannot be answered.
            SpeechPromptError: the recording cannot be used.
        """
        entry = self._entries.get(model.name)
        if entry is None or entry.model is not model:
            raise RequestRefusedError(404, f"the model {model.name!r} was unloaded")
        entry.in_flight += 1
        try:
            loop = asyncio.get_running_loop()
            waveform, parameters = await loop.run_in_executor(
                self._decoders, self._decode, body, content_type, model.task, deadline
            )
            del body
            ticket.hold(waveform.nbytes)
            question = Question(model.name, waveform, parameters.num_beams)
            seconds = len(waveform) / self._extractor.sampling_rate
            group = self._engine.group_of(question)
            future = self.batcher.submit(group, question, seconds=seconds, deadline=deadline)
            answer = await asyncio.wrap_future(future)
        finally:
            entry.in_flight -= 1
            if not entry.in_flight:
                entry.is_idle.set()
        self.metrics.count_audio(model.task, seconds)
        return answer_document(answer, parameters)

    def _decode(self, body: bytes, content_type: str, task: str, deadline: float) -> tuple[Waveform, Parameters]:
        if time.monotonic() >= deadline:
            raise TimeoutError("the request's time was out before it was read")
        content, parameters = read_body(body, content_type, task, self.limits)
        return decode_recording(content, self._extractor, self.limits), parameters

    async def load(self, name: str, adapter: Any) -> ServedModel:
        """Serve a further adapter.

        Args:
            name (`str`): in its URL.
            adapter (`str`): folder or Hub id, of those that are allowed.

        Raises:
            RequestRefusedError: the name or the adapter cannot be, or is not allowed.
            SpeechPromptError: the adapter cannot be opened over this base.
        """
        if not isinstance(adapter, str) or not adapter:
            raise RequestRefusedError(400, 'the body must be {"adapter": a folder or a Hub id}')
        check_name(name)
        place = self.permissions.locate(adapter)
        if name in self._entries or name in self._changing:
            raise RequestRefusedError(409, f"there is a model {name!r} already; DELETE it first")
        self._changing.add(name)
        try:
            place = await asyncio.to_thread(_fetched, place)
            model = await asyncio.wrap_future(self.batcher.run(lambda: self._engine.load(name, place)))
            self._entries[name] = _Entry(model)
        finally:
            self._changing.discard(name)
        return model

    async def unload(self, name: str) -> None:
        """Stop serving an adapter, after the requests for it that were taken are answered.

        Args:
            name (`str`): of the adapter.

        Raises:
            RequestRefusedError: there is none.
        """
        self.find(name)
        entry = self._entries.pop(name)
        self._changing.add(name)
        try:
            while entry.in_flight:
                entry.is_idle.clear()
                await entry.is_idle.wait()
            await asyncio.wrap_future(self.batcher.run(lambda: self._engine.unload(name)))
            self.metrics.forget(name)
        finally:
            self._changing.discard(name)


def _log_the_end(error: BaseException) -> None:
    _logger.error("no request is answered any more: %r", error)


def _fetched(place: str) -> str:
    """The folder of an adapter; one of the Hub is downloaded first, while the model goes on answering."""
    if not is_hub_id(place):
        return place
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(place, allow_patterns=["*.json", "*.safetensors", "*.txt"])
    except SpeechPromptError:
        raise
    except (OSError, ValueError) as error:
        raise RequestRefusedError(422, f"{place} cannot be downloaded: {type(error).__name__}") from error
