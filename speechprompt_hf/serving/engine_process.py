"""An engine in a process of its own, so that HTTP and decoding never take the interpreter's lock from the model."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from typing import Any, Literal

from ..core.errors import SpeechPromptError
from .engine import Question, ServedModel, ServingEngine, group_of

__all__ = ["EngineEndedError", "EngineProcess"]


class EngineEndedError(BaseException):
    """The model's process has ended. No `Exception`: whoever owns the engine must end, too, rather than try again."""


class EngineProcess:
    """What `ServingEngine` is, with base and adapters in a process beside this one.

    Its thread-bound methods (`answer`, `load`, `unload`) are used by one thread at a time, which waits without holding
    the interpreter's lock. The process ends with this object's process.

    Args:
        adapters (`Mapping[str, str | PathLike]`): name → folder or Hub id; base and processor are the first one's.
        device (`str`, *optional*): where to compute; the CPU by default.
        start_method (`str`, *optional*): `"fork"` or `"spawn"`; by default a fork where that is safe, which a process
            that has computed with torch or started threads should not make: name `"spawn"` there.

    Raises:
        ConfigurationError: there is none, a name cannot be one, or there is no such device.
        AdapterError: one cannot be read.
        FingerprintMismatchError: one was trained on another base or other units.
    """

    def __init__(
        self,
        adapters: Mapping[str, str | os.PathLike[str]],
        *,
        device: str | None = None,
        start_method: Literal["fork", "spawn"] | None = None,
    ) -> None:
        # A fork has everything imported already; a device's driver does not survive one.
        may_fork = sys.platform == "linux" and device in (None, "cpu")
        method = start_method or ("fork" if may_fork else "spawn")
        is_forked = method == "fork"
        context: Any = multiprocessing.get_context(method)
        self._connection, other = context.Pipe()
        self._process = context.Process(
            target=_work,
            args=(other, self._connection if is_forked else None, dict(adapters), device),
            name="speechprompt-model",
            daemon=True,
        )
        self._process.start()
        self._has_ended = False
        other.close()
        # At the end of the program multiprocessing joins its processes, and this one ends with its connection alone.
        self._end = Finalize(self, _end, (self._connection, self._process), exitpriority=10)
        try:
            self._models, self._extractor = self._receive()
        except EngineEndedError as error:
            self.close()
            raise RuntimeError("the model's process ended while it opened the adapters; is memory short?") from error
        except BaseException:
            self.close()
            raise

    @property
    def models(self) -> dict[str, ServedModel]:
        """Name → what is served under it."""
        return dict(self._models)

    @property
    def feature_extractor(self) -> Any:
        """What recordings are decoded for."""
        return self._extractor

    @property
    def is_alive(self) -> bool:
        """Whether the process is there."""
        return not self._has_ended and bool(self._process.is_alive())

    def load(self, name: str, adapter: str | os.PathLike[str]) -> ServedModel:
        """Open an adapter over the base; arguments and errors as in `ServingEngine.load`."""
        model: ServedModel = self._ask("load", name, os.fspath(adapter))
        self._models[name] = model
        return model

    def unload(self, name: str) -> None:
        """Forget an adapter; arguments and errors as in `ServingEngine.unload`."""
        self._ask("unload", name)
        del self._models[name]

    def group_of(self, question: Question) -> Hashable:
        """Which questions may share a batch; see `ServingEngine.group_of`."""
        return group_of(self._models[question.name], question)

    def answer(self, group: Hashable, questions: Sequence[Question]) -> list[Any]:
        """Answers of one batch; see `ServingEngine.answer`."""
        answers: list[Any] = self._ask("answer", group, list(questions))
        return answers

    def close(self) -> None:
        """End the process, if it has not ended."""
        self._end()

    def _ask(self, method: str, *arguments: Any) -> Any:
        try:
            self._connection.send((method, arguments))
        except OSError:
            raise self._ended() from None
        return self._receive()

    def _receive(self) -> Any:
        try:
            is_error, value = self._connection.recv()
        except (EOFError, OSError):
            raise self._ended() from None
        if is_error:
            raise value
        return value

    def _ended(self) -> EngineEndedError:
        # Known from its closed connection, perhaps before the system says so.
        self._has_ended = True
        return EngineEndedError("the model's process has ended")


def _end(connection: Connection, process: Any) -> None:
    connection.close()
    process.join(5)
    if process.is_alive():
        process.kill()
        process.join(5)


def _work(connection: Connection, other: Connection | None, adapters: dict[str, Any], device: str | None) -> None:
    """The process: one question after another, until the other end is closed."""
    # Ctrl-C goes to all processes of a terminal; the first one decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if other is not None:
        other.close()
    # oneDNN keeps what it made for each of 1,024 shapes; batches have ever new ones, and memory would grow for long.
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    # The other end may be closed at any time.
    with suppress(EOFError, BrokenPipeError):
        engine = None
        try:
            engine = ServingEngine.from_adapters(adapters, device=device)
            first: tuple[bool, Any] = (False, (engine.models, engine.feature_extractor))
        except Exception as error:
            first = (True, error)
        _send(connection, *first)
        while engine is not None:
            method, arguments = connection.recv()
            try:
                answer = (False, getattr(engine, method)(*arguments))
            except Exception as error:
                answer = (True, error)
            _send(connection, *answer)


def _send(connection: Connection, is_error: bool, value: Any) -> None:
    if is_error and not isinstance(value, SpeechPromptError):
        # Errors of libraries need not survive the way; what they say does.
        value = RuntimeError(f"{type(value).__name__}: {value}")
    connection.send((is_error, value))
