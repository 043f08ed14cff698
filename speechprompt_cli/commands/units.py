"""`speechprompt units`: recordings to units."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import note, print_error, print_json, print_line, working
from ..corpora import device_or_best, read_tables, refuse_shards
from ..corpus_shards import make_shards, processes_of_this_run
from ..options import (
    DEFAULT_BASE,
    BaseOption,
    DeviceOption,
    JsonOption,
    LabelColumnOption,
    SpeakerColumnOption,
)

if TYPE_CHECKING:
    from datasets import Dataset


def run(
    files: Annotated[
        list[str] | None, typer.Argument(metavar="AUDIO...", help="Recordings.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset", "-d", help="A corpus instead of files: as for train, labels not needed.", show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for the corpus as Parquet.", file_okay=False, show_default=False),
    ] = None,
    base: BaseOption = DEFAULT_BASE,
    label_column: LabelColumnOption = None,
    speaker_column: SpeakerColumnOption = None,
    shard_rows: Annotated[
        int | None,
        typer.Option(
            "--shard-rows",
            min=1,
            help="Write the corpus in shards of this many recordings, which several processes share and a stopped run "
            "does not make again; 1000 where several processes run or the corpus is streamed.",
            show_default=False,
        ),
    ] = None,
    streaming: Annotated[
        bool,
        typer.Option(
            "--streaming", help="Read Parquet or a Hub data set as it comes, without a copy on the disk, in shards."
        ),
    ] = False,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn recordings into discrete units (clusters of speech sounds, 50 frames a second).

    For files, prints a line a file: file, units, and how many frames each lasts, separated by tabs. A file that cannot
    be read is one line on standard error and does not stop the others; the exit code is then 2.

    For a corpus, writes one Parquet file a part with the columns units, durations, label and speaker, which train and
    pretrain read, and lists recordings that cannot be used in skipped.jsonl. Units are kept in a cache: a second run
    reads them, and a run that was stopped goes on.

    A large corpus is written in shards, by as many processes as you like: torchrun --nproc_per_node 8 -m
    speechprompt_hf units --dataset ... --output ..., or accelerate launch -m. The same command goes on after a stop,
    also with another number of processes. The process that finishes last prints the result.
    """
    if bool(files) == bool(dataset):
        raise typer.BadParameter("give either recordings or --dataset")
    if bool(dataset) != bool(output):
        raise typer.BadParameter("--dataset and --output belong together")
    if (shard_rows or streaming) and not dataset:
        raise typer.BadParameter("--shard-rows and --streaming need --dataset")
    result: dict[str, Any] | None
    with working():
        if dataset is not None and output is not None:
            world = processes_of_this_run()
            if shard_rows or streaming or world.size > 1:
                columns = (label_column, speaker_column)
                result = make_shards(dataset, output, base, world, shard_rows, columns, device, streaming=streaming)
            else:
                result = _corpus(read_tables(dataset, label_column, speaker_column), output, base, device)
        else:
            result = _files(files or [], base, device, quiet=as_json)
    if result is None:
        return
    if as_json:
        print_json(result)
    elif "shards" in result:
        for name, part in result["parts"].items():
            counts = f"{part['recordings']} recordings\t{part['skipped']} left out\t{part['hours']:.2f} h"
            print_line(f"{output}\t{name}\t{counts}")
    elif output is not None:
        for name, part in result["parts"].items():
            print_line(f"{output / name}.parquet\t{part['recordings']} recordings\t{part['skipped']} left out")
    if any("error" in entry for entry in result.get("recordings", ())):
        raise typer.Exit(2)


def _processor(base: str, device: str | None) -> Any:
    from speechprompt_hf import SpeechUnitProcessor

    return SpeechUnitProcessor.from_pretrained(base).to(device_or_best(device))


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


def _corpus(tables: dict[str, Dataset], output: Path, base: str, device: str | None) -> dict[str, Any]:
    from speechprompt_hf.core.files import atomic_path, write_json, write_text
    from speechprompt_hf.data import extract_units

    refuse_shards(output)
    processor = _processor(base, device)
    parts: dict[str, dict[str, int]] = {}
    skipped: list[dict[str, str]] = []
    for name, table in tables.items():
        note(f"{name}: {len(table)} recordings")
        extracted = extract_units(table, processor, progress=True)
        with atomic_path(output / f"{name}.parquet") as temporary:
            extracted.dataset.to_parquet(temporary)
        parts[name] = {"recordings": len(extracted.dataset), "skipped": len(extracted.skips)}
        skipped += [{"part": name, **asdict(skip)} for skip in extracted.skips]
    write_text(output / "skipped.jsonl", "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in skipped))
    summary = {"base": base, "fingerprint": processor.fingerprint, "parts": parts}
    write_json(output / "units.json", summary)
    return summary
