"""What all conversions share: finding the source, showing downloads, publishing the result, printing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..console import note, print_json, print_line, working

if TYPE_CHECKING:
    from speechprompt_hf.convert.source import Source

__all__ = [
    "DTypeOption",
    "Delivery",
    "DestinationArgument",
    "MirrorOption",
    "PrivateOption",
    "PushOption",
    "check_new",
    "check_repository",
    "convert_file",
    "finish",
    "server_of",
    "source_files",
    "units_and_parameters",
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


@dataclass(frozen=True)
class Delivery:
    """What becomes of a result.

    Attributes:
        push (`str`, *optional*): the repository that it is published in.
        private (`bool`): for a new repository.
        as_json (`bool`): print JSON.
    """

    push: str | None
    private: bool
    as_json: bool


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


def convert_file(
    kind: Any,
    source: str,
    destination: Path,
    convert: Callable[[Source], dict[str, Any]],
    describe: Callable[[dict[str, Any]], str],
    delivery: Delivery,
    *,
    companion: Path | None = None,
    mirror: str | None = None,
    publish: Callable[..., Any] | None = None,
) -> None:
    """Convert a file, an archive or a name of the list to a new folder, publish it if asked, and print.

    Args:
        kind (`str`): of the catalogue.
        source (`str`): what the user gave.
        destination (`Path`): the new folder.
        convert (`Callable`): writes it from the files that were found, and returns what it did.
        describe (`Callable`): that in a line for readers.
        delivery (`Delivery`): what becomes of the result.
        companion (`Path`, *optional*): the file that belongs to it, where the user gave one.
        mirror (`str`, *optional*): the server of names of the list.
        publish (`Callable`, *optional*): as in `finish`.
    """
    check_new(destination)
    with working():
        check_repository(delivery.push)
        from speechprompt_hf.convert.source import record_origin

        with source_files(kind, source, destination, companion=companion, mirror=mirror) as found:
            result = convert(found)
            record_origin(destination, found.origin)
        line = describe(result)
        result = {**result, "origin": found.origin}
        finish(result, line, destination, delivery, publish=publish)


def units_and_parameters(result: dict[str, Any]) -> str:
    """The line of a converted model of units."""
    return f"{result['output']}\t{result['units']} units\t{result['parameters']} parameters"


def finish(
    result: dict[str, Any],
    line: str,
    folder: Path,
    delivery: Delivery,
    *,
    publish: Callable[..., Any] | None = None,
) -> None:
    """Publish if asked, and print.

    Args:
        result (`dict`): what the converter returned.
        line (`str`): the same for readers.
        folder (`Path`): what is published.
        delivery (`Delivery`): where to, and how it is printed.
        publish (`Callable`, *optional*): instead of `push_converted`; called with folder, repository and `private`.
    """
    done = None
    if delivery.push is not None:
        from speechprompt_hf.core.errors import HubError
        from speechprompt_hf.hub.push_converted import push_converted

        push = publish or push_converted
        try:
            done = push(folder, delivery.push, private=delivery.private or None)
        except HubError:
            note(f"converted, but not published: the result is in {folder} (docs/converting.md, Publishing)")
            raise
        for sentence in done.kept:
            note(f"the card stays as it was edited: {sentence}")
        result = {**result, "pushed": {"repository": done.repo_id, "commit": done.commit, "url": done.url}}
    if delivery.as_json:
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
