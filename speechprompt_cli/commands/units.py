"""`speechprompt units`: recordings to units."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import note, print_error, print_json, print_line, working
from ..corpora import ALL, device_or_best, read_corpus
from ..options import (
    DEFAULT_BASE,
    BaseOption,
    DeviceOption,
    JsonOption,
    LabelColumnOption,
    SpeakerColumnOption,
    label_columns,
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
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Turn recordings into discrete units (clusters of speech sounds, 50 frames a second).

    For files, prints a line a file: file, units, and how many frames each lasts, separated by tabs. A file that cannot
    be read is one line on standard error and does not stop the others; the exit code is then 2.

    For a corpus, writes one Parquet file a part with the columns units, durations, label and speaker, which train and
    pretrain read, and lists recordings that cannot be used in skipped.jsonl. Units are kept in a cache: a second run
    reads them, and a run that was stopped goes on.
    """
    if bool(files) == bool(dataset):
        raise typer.BadParameter("give either recordings or --dataset")
    if bool(dataset) != bool(output):
        raise typer.BadParameter("--dataset and --output belong together")
    with working():
        if dataset is not None and output is not None:
            result = _corpus(_tables(dataset, label_column, speaker_column), output, base, device)
        else:
            result = _files(files or [], base, device, quiet=as_json)
    if as_json:
        print_json(result)
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


def _tables(dataset: str, label_column: str | None, speaker_column: str | None) -> dict[str, Dataset]:
    from speechprompt_hf.data import load_rows

    tables = read_corpus(dataset)
    for name, table in tables.items():
        if label_column or "label" in table.column_names:
            tables[name] = load_rows(
                dataset,
                split="pool" if name == ALL else name,
                label_column=label_columns(label_column),
                speaker_column=speaker_column,
            )
    return tables


def _corpus(tables: dict[str, Dataset], output: Path, base: str, device: str | None) -> dict[str, Any]:
    from speechprompt_hf.core.files import atomic_path, write_json, write_text
    from speechprompt_hf.data import extract_units

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
