"""`speechprompt predict`: labels or texts of recordings, or of rows of units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..console import print_error, print_json, print_line, working
from ..corpora import device_or_best
from ..options import BeamsOption, DeviceOption, JsonOption, given_options
from ..sequences import check_options

if TYPE_CHECKING:
    from speechprompt_hf.evaluation.prediction import FilePrediction


def run(
    context: typer.Context,
    adapter: Annotated[str, typer.Argument(help="The folder that train wrote, or a Hub id.", show_default=False)],
    files: Annotated[
        list[str],
        typer.Argument(
            help="Recordings: wav, flac, ogg, opus or mp3. Or rows of units: .parquet, .jsonl or .csv with a column "
            "units, as speechprompt units writes it.",
            show_default=False,
        ),
    ],
    beams: BeamsOption = 1,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which label or text each recording has, or each row of a table of units.

    Prints a line a file: file, label, probability, separated by tabs; or file and text, of adapters that were trained
    on texts. A file that cannot be read is one line on standard error and does not stop the others; the exit code is
    then 2.

    Of a table of units it prints a line a row, which begins with what the column item, path, id or file_name calls the
    row, else with the file and the row's number, counted from 0. Tables need no processor, so they are for adapters on
    a base without one too.
    """
    given = given_options(context)
    with working():
        from speechprompt_hf.modeling.auto import SpeechPromptModel

        model = SpeechPromptModel.from_pretrained(adapter)
        check_options(given, is_text=model.says_sequences, of="this adapter")
        results = _predict(model.to(device_or_best(device)), files, beams, quiet=as_json)
    if as_json:
        print_json({"predictions": results})
    if any("error" in result for result in results):
        raise typer.Exit(2)


def _predict(model: Any, files: list[str], beams: int, *, quiet: bool) -> list[dict[str, Any]]:
    results = []
    for prediction in _predictions(model, files, beams):
        results.append({name: value for name, value in asdict(prediction).items() if value is not None})
        if prediction.error is not None:
            print_error(prediction.error)
        elif not quiet:
            answer = (
                f"{prediction.label}\t{prediction.probability:.4f}" if prediction.text is None else prediction.text
            )
            print_line(f"{_called(prediction)}\t{answer}")
    return results


def _predictions(model: Any, files: list[str], beams: int) -> Iterator[FilePrediction]:
    """Files in the order in which they are given, whatever they hold."""
    from speechprompt_hf.data.unit_tables import UNIT_TABLE_SUFFIXES
    from speechprompt_hf.evaluation import predict_files, predict_units

    for are_tables, group in groupby(files, lambda file: file.endswith(UNIT_TABLE_SUFFIXES)):
        yield from (predict_units if are_tables else predict_files)(model, group, num_beams=beams)


def _called(prediction: FilePrediction) -> str:
    if prediction.row is None:
        return prediction.file
    return prediction.item or f"{prediction.file} row {prediction.row}"
