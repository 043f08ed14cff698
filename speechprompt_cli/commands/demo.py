"""`speechprompt demo`: a page in the browser on which adapters are tried out."""

from __future__ import annotations

from contextlib import suppress
from threading import Event
from typing import Annotated

import typer

from ..console import note, print_json, print_line, working
from ..corpora import device_or_best
from ..options import DeviceOption, JsonOption


def run(
    adapters: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders that train wrote, or Hub ids. Each is called by the last part of its path.",
            metavar="DIR...",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="NAME=DIR: a further adapter with a name of its own.", show_default=False),
    ] = None,
    title: Annotated[str, typer.Option(help="The page's heading.")] = "Speech prompts",
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on; 0.0.0.0 lets other computers in. This computer alone by default.",
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="The first free one from 7860 by default.", show_default=False),
    ] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Also a public address for a week, through gradio's servers.")
    ] = False,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open the page in the browser.")] = False,
    max_seconds: Annotated[float, typer.Option(min=0.1, help="Longer recordings are refused.")] = 60.0,
    max_megabytes: Annotated[float, typer.Option(min=0.001, help="Larger files are refused.")] = 20.0,
    vocoder: Annotated[
        str | None,
        typer.Option(
            "--vocoder",
            help="Of adapters that answer with speech: what makes their units sound, a folder or a Hub id. By default "
            "the one that an adapter names, if it is on this machine: nothing is downloaded that was not asked for.",
            show_default=False,
        ),
    ] = None,
    max_answer_seconds: Annotated[float, typer.Option(min=0.1, help="Longer answers of speech are cut.")] = 30.0,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Try adapters out in the browser: record or upload, see labels or text or hear speech, with the units.

    Adapters of any tasks may be shown together; those on one backbone share it in memory. Prints the page's address
    and shows the page until Ctrl-C. Adapters that answer with speech need a vocoder. Needs this package's extra demo
    (gradio). The page loads nothing from other hosts.
    """
    with working():
        from speechprompt_hf.demo import DemoAnswers, UploadLimits, build_page, launch_page, named_adapters, open_tasks

        named = named_adapters(adapters or (), name or ())
        limits = UploadLimits(max_seconds, int(max_megabytes * 1e6), max_answer_seconds)
        answers = DemoAnswers(open_tasks(named, device=device_or_best(device), vocoder=vocoder), limits)
        page = build_page(answers, title=title)
        note("making the page ready")
        answers.warm_up()
        address = launch_page(page, limits=limits, host=host, port=port, share=share, open_browser=not no_browser)
    if as_json:
        print_json({"address": address, "tasks": list(named)})
    else:
        print_line(address)
    note("Ctrl-C ends it")
    # Ctrl-C is how a page ends, no failure.
    with suppress(KeyboardInterrupt):
        Event().wait()
    page.close(verbose=False)
