"""`speechprompt units`: recordings to units."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..console import print_error, print_json, print_line, working
from ..options import DEFAULT_BASE, BaseOption, DeviceOption, JsonOption, LabelColumnOption, SpeakerColumnOption


def run(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="AUDIO...", help="Recordings.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", "-d", help="A corpus instead of files; see train.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the corpus as Parquet.", show_default=False)
    ] = None,
    base: BaseOption = DEFAULT_BASE,
    label_column: LabelColumnOption = "label",
    speaker_column: SpeakerColumnOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn recordings into discrete units (clusters of speech sounds, 50 frames a second).

    For files, prints a line a file: file, units, and how many frames each lasts, separated by tabs. For a corpus,
    writes one Parquet file a part (train, validation, test) with the columns units, durations, label and speaker;
    train and pretrain read it. Recordings that cannot be read are listed in skipped.jsonl.
    """
    if bool(files) == bool(dataset):
        raise typer.BadParameter("give either recordings or --dataset")
    if bool(dataset) != bool(output):
        raise typer.BadParameter("--dataset and --output belong together")
    with working():
        if dataset is not None and output is not None:
            result = _corpus(dataset, output, base, label_column, speaker_column, device, quiet=as_json)
            failed = False
        else:
            result = _files(files or [], base, device, quiet=as_json)
            failed = any("error" in entry for entry in result["recordings"])
    if as_json:
        print_json(result)
    if failed:
        raise typer.Exit(2)


def _processor(base: str, device: str | None) -> Any:
    import torch

    from speechprompt_hf import SpeechUnitProcessor

    return SpeechUnitProcessor.from_pretrained(base).to(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def _files(files: list[str], base: str, device: str | None, *, quiet: bool) -> dict[str, Any]:
    processor = _processor(base, device)
    from speechprompt_hf.core.errors import SpeechPromptError

    recordings: list[dict[str, Any]] = []
    for file in files:
        try:
            sequence = processor.encode_units([file])[0]
        except SpeechPromptError as error:
            print_error(Exception.__str__(error), hint=error.hint)
            recordings.append({"file": file, "error": str(error)})
            continue
        units, durations = sequence.units.tolist(), sequence.durations.tolist()
        recordings.append({"file": file, "units": units, "durations": durations})
        if not quiet:
            print_line("\t".join([file, " ".join(map(str, units)), " ".join(map(str, durations))]))
    return {"fingerprint": processor.fingerprint["digest"], "recordings": recordings}


def _corpus(
    dataset: str,
    output: Path,
    base: str,
    label_column: str,
    speaker_column: str | None,
    device: str | None,
    *,
    quiet: bool,
) -> dict[str, Any]:
    raise NotImplementedError
