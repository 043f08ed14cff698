"""What all conversions share: finding the source, showing downloads, publishing the result, printing."""

from __future__ import annotations

import os
import shlex
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
    "check_push",
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


_MODEL_TYPES = {
    "encoder": "hubert",
    "gslm": "gslm",
    "unit-mbart": "unit_mbart",
    "hifigan": "unit_hifigan",
    "prompt": "speechprompt",
}
"""What becomes of each kind of checkpoint, as the Hub's repositories name it."""

_SHOWN = 5
"""How many names of what was left out are printed."""


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

    def __post_init__(self) -> None:
        if self.private and self.push is None:
            raise typer.BadParameter(
                "it belongs to --push REPOSITORY: without it nothing is published", param_hint="--private"
            )


def check_new(destination: Path) -> None:
    """Refuse a folder that holds something before anything is downloaded for it."""
    if destination.is_symlink() or (destination.exists() and any(destination.iterdir())):
        raise typer.BadParameter(f"{destination} exists and is no empty folder: choose another one, or remove it")


def check_push(delivery: Delivery, model_type: str) -> None:
    """Refuse what cannot be published before anything is converted for it: repository, connection and login.

    Args:
        delivery (`Delivery`): nothing is asked without a repository.
        model_type (`str`): of the result.
    """
    if delivery.push is None:
        return
    from speechprompt_hf.core.locations import is_hub_id
    from speechprompt_hf.hub.push_folder import check_push as ask_the_hub

    if not is_hub_id(delivery.push):
        raise typer.BadParameter(f"{delivery.push!r} is no repository id: give organisation/name", param_hint="--push")
    ask_the_hub(delivery.push, model_type)


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
        check_push(delivery, _MODEL_TYPES[kind])
        from speechprompt_hf.convert.source import record_origin

        with source_files(kind, source, destination, companion=companion, mirror=mirror) as found:
            result = convert(found)
            record_origin(destination, found.origin)
        line = describe(result)
        result = {**result, "origin": found.origin}
        command = "push" if kind == "prompt" else "push-base"
        finish(result, line, destination, delivery, publish=publish, command=command)


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
    command: str = "push-base",
) -> None:
    """Publish if asked, and print; what a checkpoint held beyond that is counted, and named where it is little.

    Args:
        result (`dict`): what the converter returned.
        line (`str`): the same for readers.
        folder (`Path`): what is published.
        delivery (`Delivery`): where to, and how it is printed.
        publish (`Callable`, *optional*): instead of `push_converted`; called with folder, repository and `private`.
        command (`str`, defaults to `"push-base"`): which command publishes the folder later.
    """
    _remark_not_known(result)
    done = None
    if delivery.push is not None:
        from speechprompt_hf.hub.push_converted import push_converted

        push = publish or push_converted
        try:
            done = push(folder, delivery.push, private=delivery.private or None)
        except (Exception, KeyboardInterrupt):
            words = ["speechprompt", command, str(folder), delivery.push, *(["--private"] if delivery.private else [])]
            note(f"converted, but not published: the result is in {folder}; to publish it: {shlex.join(words)}")
            raise
        for sentence in done.kept:
            note(f"the card stays as it was edited: {sentence}")
        result = {**result, "pushed": {"repository": done.repo_id, "commit": done.commit, "url": done.url}}
    if delivery.as_json:
        print_json(_shortened(result, folder))
        return
    print_line(line)
    _remark_left_out(result, folder)
    if done is not None:
        print_line(f"{done.repo_id}\t{done.commit}\t{len(done.files)} files\t{done.num_bytes / 1e6:.1f} MB")
        print_line(done.url)


def _left_out(result: dict[str, Any]) -> dict[str, list[str]]:
    """What was left out of a checkpoint: keys, entries, settings."""
    return {
        name: list(result[name])
        for name in ("keys_left_out", "entries_left_out", "settings_left_out", "settings_not_known")
        if isinstance(result.get(name), dict | list)
    }


def _shortened(result: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A result whose long lists end early, with their lengths, and the file that has them whole."""
    shown = dict(result)
    for name, found in _left_out(result).items():
        shown[f"num_{name}"] = len(found)
        if len(found) > _SHOWN:
            whole = result[name]
            shown[name] = {key: whole[key] for key in found[:_SHOWN]} if isinstance(whole, dict) else found[:_SHOWN]
            shown["record"] = str(folder / "conversion.json")
    return shown


def _remark_left_out(result: dict[str, Any], folder: Path) -> None:
    keys = _left_out(result).get("keys_left_out")
    if keys:
        note(f"left out: {len(keys)} keys ({_first(keys)}); why: {folder / 'conversion.json'}")


def _remark_not_known(result: dict[str, Any]) -> None:
    names = result.get("settings_not_known")
    if names:
        note(
            f"not known, and passed over: {len(names)} settings ({_first(names)}); if the model depends on one of "
            "them, the result is another model: compare its output with the original's"
        )


def _first(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


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
