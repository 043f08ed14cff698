"""The HTTP side: routes, bodies, statuses. A Starlette application (extra `serve`)."""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from ..core.extras import require
from .admission import Ticket, too_large
from .bodies import is_json, parse_json
from .engine import ServedModel
from .refusals import BusyError, RequestRefusedError, refusal_of
from .service import SpeechPromptService

__all__ = ["create_application"]

_logger = logging.getLogger(__name__)

_MAX_ADMIN_BYTES = 65_536
_CLIENT_HAS_GONE = 499
_IS_WHOLE = "speechprompt.body_is_whole"
_SECONDS_TO_THE_END = 2.0
_LATE = "the request's time was out before it was answered; try again later"


def create_application(
    service: SpeechPromptService, *, admin_token: str | None = None, on_start: Callable[[], None] | None = None
) -> Any:
    """The application around a service, which it starts and closes with itself.

    Args:
        service (`SpeechPromptService`): with its adapters.
        admin_token (`str`, *optional*): with it adapters can be loaded and unloaded while it runs, by requests with
            the header `Authorization: Bearer TOKEN`; without it nobody can.
        on_start (`Callable[[], None]`, *optional*): called once it answers.

    Returns:
        `starlette.applications.Starlette`: the application.

    Raises:
        MissingDependencyError: starlette is not installed.
    """
    applications: Any = require("starlette.applications", "serve")
    exceptions: Any = require("starlette.exceptions", "serve")
    routing: Any = require("starlette.routing", "serve")
    handlers = _Handlers(service, admin_token)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        service.start()
        if on_start is not None:
            on_start()
        yield
        await asyncio.to_thread(service.close)

    async def refuse_by_status(_: Any, error: Any) -> Any:
        sentence = {404: "there is nothing at this path", 405: "this method is not known here"}
        said = sentence.get(error.status_code, error.detail)
        return _refusal(RequestRefusedError(error.status_code, said, error.headers))

    return applications.Starlette(
        routes=[
            routing.Route("/health", handlers.health),
            routing.Route("/metrics", handlers.metrics),
            routing.Route("/models", handlers.models),
            routing.Route("/models/{name}", handlers.model, methods=["GET"]),
            routing.Route("/models/{name}", handlers.predict, methods=["POST"]),
            routing.Route("/models/{name}", handlers.load, methods=["PUT"]),
            routing.Route("/models/{name}", handlers.unload, methods=["DELETE"]),
        ],
        exception_handlers={exceptions.HTTPException: refuse_by_status},
        lifespan=lifespan,
    )


class _Handlers:
    """What each route does."""

    def __init__(self, service: SpeechPromptService, admin_token: str | None) -> None:
        self._service = service
        self._admin_token = admin_token

    async def health(self, _: Any) -> Any:
        healthy = self._service.is_healthy
        return _json({"status": "ok" if healthy else "the model has ended"}, 200 if healthy else 503)

    async def metrics(self, _: Any) -> Any:
        responses: Any = require("starlette.responses", "serve")
        text, content_type = self._service.metrics.text()
        return responses.Response(text, headers={"content-type": content_type})

    async def models(self, _: Any) -> Any:
        return _json({"models": [_described(model) for model in self._service.models]})

    async def model(self, request: Any) -> Any:
        try:
            return _json(_described(self._service.find(request.path_params["name"])))
        except RequestRefusedError as error:
            return _refusal(error)

    async def predict(self, request: Any) -> Any:
        started = time.monotonic()
        model, status = ServedModel("", ""), _CLIENT_HAS_GONE
        try:
            model = self._service.find(request.path_params["name"])
            response = await self._until_gone(request, model, started + self._service.limits.timeout_s)
        except Exception as error:
            response = await _refused(request, error)
            if not await _is_whole(request):
                response.headers["connection"] = "close"
        if response is None:
            response = _json({"error": "the client has gone"}, _CLIENT_HAS_GONE)
        status = response.status_code
        self._service.metrics.count_request(model.name, model.task, status, time.monotonic() - started)
        return response

    async def _until_gone(self, request: Any, model: ServedModel, deadline: float) -> Any:
        """The answer; `None` if the client goes before."""
        limits = self._service.limits
        _check_headers(request.headers, limits.max_body_bytes, lambda size: too_large(limits, size))
        ticket = self._service.admission.enter()
        try:
            body = await _read(request, limits.max_body_bytes, deadline, ticket, lambda: too_large(limits))
            if body is None:
                return None
            content_type = request.headers.get("content-type", "")
            work = asyncio.ensure_future(self._service.answer(model, body, content_type, ticket, deadline))
            del body
            gone = asyncio.ensure_future(_wait_until_gone(request.receive))
            try:
                await asyncio.wait(
                    (work, gone), timeout=deadline - time.monotonic(), return_when=asyncio.FIRST_COMPLETED
                )
                if work.done():
                    return _json(work.result())
                if gone.done():
                    return None
                raise BusyError(_LATE)
            finally:
                work.cancel()
                gone.cancel()
                # Nobody reads what a cancelled one says any more, but it has to be read.
                await asyncio.gather(work, gone, return_exceptions=True)
        finally:
            ticket.leave()

    async def load(self, request: Any) -> Any:
        async def change() -> Any:
            body = await _read(request, _MAX_ADMIN_BYTES, time.monotonic() + self._service.limits.timeout_s)
            if body is None or not is_json(request.headers.get("content-type", "")):
                raise RequestRefusedError(415, "the body must be JSON, with Content-Type: application/json")
            model = await self._service.load(request.path_params["name"], parse_json(body).get("adapter"))
            return _json(_described(model), 201)

        return await self._as_admin(request, change)

    async def unload(self, request: Any) -> Any:
        async def change() -> Any:
            await self._service.unload(request.path_params["name"])
            return _json({"unloaded": request.path_params["name"]})

        return await self._as_admin(request, change)

    async def _as_admin(self, request: Any, change: Callable[[], Awaitable[Any]]) -> Any:
        try:
            if self._admin_token is None:
                raise RequestRefusedError(403, "adapters cannot be changed here: the service has no admin token")
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self._admin_token}".encode()):
                raise RequestRefusedError(401, "the admin token is missing or wrong", {"WWW-Authenticate": "Bearer"})
            return await change()
        except Exception as error:
            return await _refused(request, error)


def _check_headers(headers: Any, max_bytes: int, too_many: Callable[[int], RequestRefusedError]) -> None:
    """Refuse what need not be read."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise RequestRefusedError(415, f"bodies with Content-Encoding {encoding[:40]!r} are not read")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("multipart/") or kind == "application/x-www-form-urlencoded":
        raise RequestRefusedError(415, f"a body of {kind[:60]} is not read: send the file's bytes, or JSON")
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > max_bytes:
        raise too_many(int(length[:20]))


async def _read(
    request: Any,
    max_bytes: int,
    deadline: float,
    ticket: Ticket | None = None,
    too_many: Callable[[], RequestRefusedError] | None = None,
) -> bytes | None:
    """The body; `None` if the client goes before it is whole."""
    body = bytearray()
    try:
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    return None
                body += message.get("body", b"")
                if len(body) > max_bytes:
                    raise too_many() if too_many else RequestRefusedError(413, f"{max_bytes} bytes at most are taken")
                if ticket is not None:
                    ticket.hold(len(body))
                if not message.get("more_body", False):
                    request.scope[_IS_WHOLE] = True
                    return bytes(body)
    except TimeoutError:
        raise RequestRefusedError(408, "the body did not come in time") from None


async def _is_whole(request: Any) -> bool:
    """Whether a body was read to its end, or comes to it soon.

    A connection that is closed while its client still writes may lose the answer, and one that is kept lets a client
    write for ever.
    """
    if request.scope.get(_IS_WHOLE):
        return True
    try:
        async with asyncio.timeout(_SECONDS_TO_THE_END):
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    return False
                if not message.get("more_body", False):
                    return True
    except TimeoutError:
        return False


async def _wait_until_gone(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _refused(request: Any, error: Exception) -> Any:
    refusal = refusal_of(error)
    if refusal is None and isinstance(error, TimeoutError):
        refusal = BusyError(_LATE)
    if refusal is None:
        _logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        refusal = RequestRefusedError(500, "the service failed to answer; its log says why")
    return _refusal(refusal)


def _described(model: ServedModel) -> dict[str, Any]:
    document: dict[str, Any] = {"name": model.name, "task": model.task, "url": f"/models/{model.name}"}
    return document if model.labels is None else document | {"labels": list(model.labels)}


def _refusal(error: RequestRefusedError) -> Any:
    return _json({"error": error.sentence}, error.status, error.headers)


def _json(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> Any:
    responses: Any = require("starlette.responses", "serve")
    return responses.JSONResponse(document, status_code=status, headers=headers)
