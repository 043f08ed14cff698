"""`speechprompt evaluate`: an adapter on recordings or rows of units whose labels or texts are known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ..console import print_json, working
from ..options import (
    BeamsOption,
    DatasetOption,
    JsonOption,
    LabelColumnOption,
    SeedOption,
    SpeakerColumnOption,
    TextColumnOption,
    given_options,
    label_columns,
)
from ..reports import print_report
from ..sequences import check_options, measure_texts, print_sequence_report, says_sequences
from ..speech import answers_with_speech, measure_speech


def run(
    context: typer.Context,
    adapter: Annotated[str, typer.Argument(help="The folder that train wrote, or a Hub id.", show_default=False)],
    dataset: DatasetOption,
    part: Annotated[str, typer.Option(help="Which part, where the data set has parts.")] = "test",
    label_column: LabelColumnOption = None,
    text_column: TextColumnOption = None,
    task: Annotated[
        Literal["speech_recognition", "phone_recognition", "slot_filling", "speech_translation"] | None,
        typer.Option(
            help="How texts are measured, where no report beside the adapter says what it was trained for.",
            show_default=False,
        ),
    ] = None,
    beams: BeamsOption = 1,
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
    and how many rows were left out for which reason. Of adapters that were trained on texts it prints the task's
    metrics with their intervals instead, beside those of the most frequent text; of adapters that answer with speech
    the error rate of the units that they say by search.
    """
    given = given_options(context)
    with working():
        from speechprompt_hf.core.files import write_json

        is_text = says_sequences(adapter)
        check_options(given, is_text=is_text, of="this adapter", also_for_texts=["task"])
        options: dict[str, Any] = {"split": part, "speaker_column": speaker_column, "seed": seed}
        if is_text and answers_with_speech(adapter):
            report = measure_speech(adapter, dataset, beams, given, options)
        elif is_text:
            report = measure_texts(adapter, dataset, task, text_column, beams, options)
        else:
            from speechprompt_hf.evaluation import evaluate_adapter

            report = evaluate_adapter(adapter, dataset, label_column=label_columns(label_column), **options)
        if output is not None:
            write_json(output, report)
    if as_json:
        print_json(report)
    else:
        listed = "--output FILE lists them" if output is None else f"{output} lists them"
        (print_sequence_report if is_text else print_report)(report, listed=listed)
