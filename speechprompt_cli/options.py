"""Options that several commands share: one wording, one default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "DEFAULT_BASE",
    "BaseOption",
    "BeamsOption",
    "CorpusOption",
    "DatasetOption",
    "DeviceOption",
    "JsonOption",
    "LabelColumnOption",
    "OutputOption",
    "SeedOption",
    "SpeakerColumnOption",
    "TextColumnOption",
    "given_options",
    "label_columns",
]

#: The same text as `speechprompt_hf.core.embedded.DEFAULT_BASE`, repeated so that help needs no import.
DEFAULT_BASE = "speechprompt-hf/tiny-hubert-km100-gslm"

DatasetOption = Annotated[
    str,
    typer.Option(
        "--dataset",
        "-d",
        help="A folder with one sub-folder of recordings per label (optionally below train/, validation/ and test/), "
        "a folder with metadata.csv or metadata.jsonl, Parquet of recordings or of units, or a Hub data set's id.",
        show_default=False,
    ),
]
CorpusOption = Annotated[
    str,
    typer.Option(
        "--dataset",
        "-d",
        help="Recordings; labels are not needed. A folder of recordings at any depth, or whatever train takes.",
        show_default=False,
    ),
]
OutputOption = Annotated[
    Path,
    typer.Option("--output", "-o", help="The folder of the result.", file_okay=False, show_default=False),
]
BaseOption = Annotated[
    str, typer.Option("--base", help="The frozen backbone: a folder, a Hub id, or the one inside this package.")
]
LabelColumnOption = Annotated[
    str | None,
    typer.Option(
        "--label-column",
        help="The column that holds the label, label by default; several columns with commas between them make one "
        "label.",
        show_default=False,
    ),
]
SpeakerColumnOption = Annotated[
    str | None,
    typer.Option(
        "--speaker-column",
        help="The column that names the speaker, speaker or speaker_id by default: no speaker is then in two parts, "
        "and the accuracy is one on unseen speakers.",
        show_default=False,
    ),
]
TextColumnOption = Annotated[
    str | None,
    typer.Option(
        "--text-column",
        help="The column of the text, for tasks whose answer is one: text, phones, slots_json or translation by "
        "default. For slot_filling also several columns with commas between them, a slot a column.",
        show_default=False,
    ),
]
BeamsOption = Annotated[
    int,
    typer.Option("--beams", min=1, help="Of texts: how many beginnings are followed at once; 1 is the fastest."),
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Of every draw: the same seed gives the same result.")]
DeviceOption = Annotated[
    str | None, typer.Option("--device", help="For example cpu or cuda; a GPU is used where there is one.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document, for scripts.")]


def label_columns(given: str | None) -> list[str] | None:
    """The columns named by `--label-column`."""
    return [name.strip() for name in given.split(",")] if given else None


def given_options(context: typer.Context) -> list[str]:
    """Parameters that stood on the command line, or came from the environment, rather than by default."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return [name for name, source in sources.items() if source is not None and not source.name.startswith("DEFAULT")]
