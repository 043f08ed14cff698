"""A service on a socket, until it is told to end."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..core.errors import ConfigurationError, SpeechPromptError
from ..core.extras import require
from .application import create_application
from .service import SpeechPromptService

__all__ = ["open_socket", "serve", "url_of", "uvicorn_server"]

# Beside those that are answered: a client that waits for its next question.
_IDLE_CONNECTIONS = 1024
_BACKLOG = 2048
_MAX_HEADER_BYTES = 65_536


def open_socket(host: str, port: int) -> socket.socket:
    """Take an address, before anything takes time.

    Args:
        host (`str`): name or number.
        port (`int`): 0 takes a free one.

    Raises:
        ConfigurationError: it cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError, UnicodeError) as error:
        raise ConfigurationError(
            f"there is no address {host} port {port}: {error}", hint="give another host (--host)"
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigurationError(
            f"{host} port {port} cannot be served on: {error}", hint="take another port; 0 takes a free one"
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """Where a service answers.

    Args:
        listener (`socket.socket`): of `open_socket`.
    """
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def uvicorn_server(
    service: SpeechPromptService, *, admin_token: str | None = None, on_start: Callable[[], None] | None = None
) -> Any:
    """The server around a service.

    Args:
        service (`SpeechPromptService`): with its adapters.
        admin_token (`str`, *optional*): see `create_application`.
        on_start (`Callable[[], None]`, *optional*): called once it answers.

    Returns:
        `uvicorn.Server`: `run(sockets=[…])` answers until `should_exit` is set.

    Raises:
        MissingDependencyError: the extra `serve` is not installed.
    """
    uvicorn: Any = require("uvicorn", "serve")
    return uvicorn.Server(
        uvicorn.Config(
            create_application(service, admin_token=admin_token, on_start=on_start),
            # h11 bounds the size of headers; uvicorn's faster parser does not.
            http="h11",
            h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
            loop="asyncio",
            ws="none",
            lifespan="on",
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=service.limits.max_queue + _IDLE_CONNECTIONS,
            backlog=_BACKLOG,
            timeout_keep_alive=30,
            # Until then what was taken is answered.
            timeout_graceful_shutdown=int(service.limits.timeout_s) + 1,
        )
    )


def serve(
    service: SpeechPromptService,
    listener: socket.socket,
    *,
    admin_token: str | None = None,
    on_start: Callable[[], None] | None = None,
) -> None:
    """Answer until SIGINT or SIGTERM, or the model's end; then what was taken is answered, and nothing more is taken.

    Args:
        service (`SpeechPromptService`): with its adapters.
        listener (`socket.socket`): of `open_socket`.
        admin_token (`str`, *optional*): see `create_application`.
        on_start (`Callable[[], None]`, *optional*): called once it answers.

    Raises:
        SpeechPromptError: the model has ended.
    """
    server = uvicorn_server(service, admin_token=admin_token, on_start=on_start)

    def leave(_: BaseException) -> None:
        server.should_exit = True

    service.on_model_end = leave
    # Before on_start says that it answers: uvicorn listens after it.
    listener.listen(_BACKLOG)
    try:
        # uvicorn raises the signal again once all is answered.
        with suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
    finally:
        listener.close()
        # A second Ctrl-C leaves out the application's own end.
        service.close()
    if service.batcher.has_failed:
        raise SpeechPromptError(
            "the model's process has ended", hint="restart the service; is memory short?", is_mistake=False
        )
