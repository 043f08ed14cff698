"""`speechprompt evaluate`: an adapter on labelled recordings or rows of units."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..console import print_json, working
from ..options import DatasetOption, JsonOption, LabelColumnOption, SeedOption, SpeakerColumnOption, label_columns
from ..reports import print_report


def run(
    adapter: Annotated[str, typer.Argument(help="The folder that train wrote, or a Hub id.", show_default=False)],
    dataset: DatasetOption,
    part: Annotated[str, typer.Option(help="Which part, where the data set has parts.")] = "test",
    label_column: LabelColumnOption = None,
    speaker_column: SpeakerColumnOption = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Also write the report to this file.", dir_okay=False, show_default=False),
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure an adapter on labelled recordings, or on labelled rows of units.

    Prints accuracy with its 95 % interval (over speakers, where they are known), macro-F1, the accuracy of always
    saying the most frequent label of the training (of the measured rows, where the adapter's report does not tell it),
    and how many rows were left out for which reason.
    """
    with working():
        from speechprompt_hf.core.files import write_json
        from speechprompt_hf.evaluation import evaluate_adapter

        report = evaluate_adapter(
            adapter,
            dataset,
            split=part,
            label_column=label_columns(label_column),
            speaker_column=speaker_column,
            seed=seed,
        )
        if output is not None:
            write_json(output, report)
    if as_json:
        print_json(report)
    else:
        listed = "--output FILE lists them" if output is None else f"{output} lists them"
        print_report(report, listed=listed)
