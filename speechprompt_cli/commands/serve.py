"""`speechprompt serve`: adapters as an HTTP service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ..console import note, print_json, print_line, working
from ..corpora import device_or_best
from ..options import DeviceOption, JsonOption

if TYPE_CHECKING:
    from speechprompt_hf.serving.limits import AdapterPermissions


def run(
    adapters: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders that train wrote, or Hub ids, all on the same backbone. Each is served under its folder's "
            "name.",
            show_default=False,
        ),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--name", help="NAME=DIR: an adapter under another name; may be repeated.", show_default=False),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="The address; 0.0.0.0 is every one of this machine.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8000,
    max_batch_size: Annotated[
        int, typer.Option("--max-batch-size", min=1, help="Recordings that are answered at once.")
    ] = 32,
    max_wait_ms: Annotated[
        float,
        typer.Option("--max-wait-ms", min=0, help="How long the first recording waits for others while nothing runs."),
    ] = 5.0,
    max_queue: Annotated[
        int, typer.Option("--max-queue", min=1, help="Requests at once; more are told to come again (503).")
    ] = 256,
    max_seconds: Annotated[float, typer.Option("--max-seconds", help="Of one recording.")] = 60.0,
    max_bytes: Annotated[int, typer.Option("--max-bytes", min=1, help="Of one recording's file.")] = 10_485_760,
    timeout: Annotated[float, typer.Option("--timeout", help="Seconds until a request gets 503 instead.")] = 30.0,
    admin_token: Annotated[
        str | None,
        typer.Option(
            "--admin-token",
            envvar="SPEECHPROMPT_ADMIN_TOKEN",
            help="With it adapters are loaded and unloaded while it runs. Better in the environment, where other "
            "users do not see it.",
            show_default=False,
        ),
    ] = None,
    folders: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter-folder",
            help="Adapters may be loaded from this folder and below while it runs; may be repeated.",
            show_default=False,
        ),
    ] = None,
    repositories: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter-repo",
            help="Hub ids that may be loaded while it runs, such as 'your-name/*'; may be repeated.",
            show_default=False,
        ),
    ] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer over HTTP, one URL an adapter, as huggingface_hub's InferenceClient asks.

    Recordings for all adapters that say labels share batches over one backbone in memory. /health and /metrics are for
    whoever runs it. Prints a line an adapter once it answers: name, task and URL. Ends with Ctrl-C or SIGTERM, after
    what it took is answered.

    Needs the extra serve: pip install "speechprompt-hf[serve]".
    """
    with working():
        from pathlib import Path

        from speechprompt_hf.core.extras import require
        from speechprompt_hf.serving import BatchSettings, EngineProcess, ServingLimits
        from speechprompt_hf.serving.limits import AdapterPermissions
        from speechprompt_hf.serving.run import open_socket, serve, url_of
        from speechprompt_hf.serving.service import SpeechPromptService

        for module in ("starlette", "uvicorn", "prometheus_client"):
            require(module, "serve")
        chosen = _named(adapters or [], names or [])
        limits = ServingLimits(
            max_bytes=max_bytes,
            max_seconds=max_seconds,
            max_queue=max_queue,
            timeout_s=timeout,
            max_pending_bytes=max(ServingLimits.max_pending_bytes, 4 * max_bytes),
        )
        batches = BatchSettings(max_batch_size=max_batch_size, max_wait_ms=max_wait_ms)
        permissions = AdapterPermissions(tuple(map(Path, folders or [])), tuple(repositories or []))
        _check_permissions(permissions, admin_token)
        # The model's process must not inherit the socket, and a taken address is refused before it takes time.
        open_socket(host, port).close()
        note(f"opening {len(chosen)} adapter(s)")
        engine = EngineProcess(chosen, device=device_or_best(device))
        with open_socket(host, port) as listener:
            service = SpeechPromptService(engine, limits=limits, batches=batches, permissions=permissions)
            url = url_of(listener)
            served = [
                {"name": model.name, "task": model.task, "url": f"{url}/models/{model.name}"}
                for model in service.models
            ]

            def announce() -> None:
                if as_json:
                    print_json({"url": url, "models": served})
                    return
                for model in served:
                    print_line(f"{model['name']}\t{model['task']}\t{model['url']}")

            serve(service, listener, admin_token=admin_token, on_start=announce)


def _check_permissions(permissions: AdapterPermissions, admin_token: str | None) -> None:
    """Refuse what would do nothing."""
    from speechprompt_hf.core.errors import ConfigurationError

    if admin_token is None and (permissions.folders or permissions.repositories):
        raise ConfigurationError(
            "--adapter-folder and --adapter-repo need an admin token", hint="set SPEECHPROMPT_ADMIN_TOKEN"
        )
    for folder in permissions.folders:
        if not folder.is_dir():
            raise ConfigurationError(f"--adapter-folder {folder} is no folder", hint="check the path")


def _named(adapters: list[str], names: list[str]) -> dict[str, str]:
    """Name → adapter, of both ways to give one."""
    from speechprompt_hf.core.errors import ConfigurationError
    from speechprompt_hf.serving.engine import check_name, name_of

    pairs = [(name_of(adapter), adapter) for adapter in adapters]
    for text in names:
        name, equals, adapter = text.partition("=")
        if not equals or not adapter:
            raise ConfigurationError(f"--name {text!r} names no adapter", hint="--name NAME=DIR")
        pairs.append((check_name(name), adapter))
    chosen: dict[str, str] = {}
    for name, adapter in pairs:
        if name in chosen:
            raise ConfigurationError(
                f"{chosen[name]} and {adapter} are both called {name!r}", hint=f"--name OTHER={adapter}"
            )
        chosen[name] = adapter
    if not chosen:
        raise ConfigurationError("no adapter was given", hint="speechprompt serve DIR, or --name NAME=DIR")
    return chosen
