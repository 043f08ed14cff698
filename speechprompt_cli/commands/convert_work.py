"""What all conversions share: finding the source, showing downloads, publishing the result, printing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..console import note, print_json, print_line

if TYPE_CHECKING:
    from speechprompt_hf.convert.source import Source

__all__ = [
    "DTypeOption",
    "DestinationArgument",
    "MirrorOption",
    "PrivateOption",
    "PushOption",
    "check_new",
    "check_repository",
    "finish",
    "server_of",
    "source_files",
]

DestinationArgument = Annotated[
    Path, typer.Argument(help="The folder of the result; a new one.", file_okay=False, show_default=False)
]
DTypeOption = Annotated[Literal["float32", "float16"], typer.Option(help="Precision of the weights.")]
PushOption = Annotated[
    str | None,
    typer.Option("--push", help="Publish the result on the Hub too: organisation/name.", show_default=False),
]
PrivateOption = Annotated[bool, typer.Option("--private", help="With --push: make a new repository private.")]
MirrorOption = Annotated[
    str | None,
    typer.Option(
        "--mirror",
        help="For names of the list: a server with the same paths as the publishers'; by default the one in "
        "SPEECHPROMPT_MIRROR, if any. Pinned digests are checked all the same.",
        show_default=False,
    ),
]


def check_new(destination: Path) -> None:
    """Refuse a folder that holds something before anything is downloaded for it."""
    if destination.is_symlink() or (destination.exists() and any(destination.iterdir())):
        raise typer.BadParameter(f"{destination} exists and is no empty folder: choose another one, or remove it")


def check_repository(push: str | None) -> None:
    """Refuse an impossible repository before anything is converted for it."""
    if push is None:
        return
    from speechprompt_hf.core.locations import is_hub_id

    if not is_hub_id(push):
        raise typer.BadParameter(f"{push!r} is no repository id: give organisation/name", param_hint="--push")


def server_of(mirror: str | None) -> str:
    """The server that names of the list are downloaded from."""
    from speechprompt_hf.convert.catalogue import SERVER

    # typer 0.26.0 does not read the variables that its options name.
    return mirror or os.environ.get("SPEECHPROMPT_MIRROR") or SERVER


@contextmanager
def source_files(
    kind: Any, source: str, destination: Path, *, companion: Path | None = None, mirror: str | None = None
) -> Iterator[Source]:
    """A file, an archive or a name of the list as files; what was unpacked beside the destination goes afterwards."""
    from speechprompt_hf.convert.source import open_source
    from speechprompt_hf.data.unit_store import default_cache_dir

    places = {"cache_dir": default_cache_dir(), "scratch": destination.absolute().parent}
    with open_source(
        kind, source, **places, companion=companion, server=server_of(mirror), progress=_download_bar
    ) as found:
        _remark(found.origin)
        yield found


def finish(
    result: dict[str, Any],
    line: str,
    *,
    folder: Path,
    push: str | None,
    private: bool,
    as_json: bool,
    publish: Callable[..., Any] | None = None,
) -> None:
    """Publish if asked, and print.

    Args:
        result (`dict`): what the converter returned.
        line (`str`): the same for readers.
        folder (`Path`): what is published.
        push (`str`, *optional*): where to.
        private (`bool`): for a new repository.
        as_json (`bool`): print JSON.
        publish (`Callable`, *optional*): instead of `push_converted`; called with folder, repository and `private`.
    """
    done = None
    if push is not None:
        from speechprompt_hf.hub.push_converted import push_converted

        done = (publish or push_converted)(folder, push, private=private or None)
        for sentence in done.kept:
            note(f"the card stays as it was edited: {sentence}")
        result = {**result, "pushed": {"repository": done.repo_id, "commit": done.commit, "url": done.url}}
    if as_json:
        print_json(result)
        return
    print_line(line)
    if done is not None:
        print_line(f"{done.repo_id}\t{done.commit}\t{len(done.files)} files\t{done.num_bytes / 1e6:.1f} MB")
        print_line(done.url)


def _remark(origin: dict[str, Any]) -> None:
    """What is known of downloaded files."""
    if "url" not in origin:
        return
    how = {
        "sha256": "has the SHA-256 that is pinned or recorded",
        "size": "is whole; nobody pinned its SHA-256, which is recorded now",
        "nothing": "could not be verified: neither a SHA-256 nor a size is known",
    }
    for file in (origin, origin.get("companion", {})):
        if "url" in file:
            note(f"{file['file']} {how[file['verified']]}: {file['sha256']}")
    note(f"licence: {origin['licence'] or 'none stated by the publisher'}")


@contextmanager
def _download_bar(name: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar on standard error with bytes, bytes a second and the time that is left."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
