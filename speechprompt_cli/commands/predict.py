"""`speechprompt predict`: labels of recordings."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from ..console import print_error, print_json, print_line, working
from ..corpora import device_or_best
from ..options import DeviceOption, JsonOption


def run(
    adapter: Annotated[str, typer.Argument(help="The folder that train wrote, or a Hub id.", show_default=False)],
    files: Annotated[list[str], typer.Argument(help="Recordings: wav, flac, ogg, opus or mp3.", show_default=False)],
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say which label each recording has.

    Prints a line a file: file, label, probability, separated by tabs. A file that cannot be read is one line on
    standard error and does not stop the others; the exit code is then 2.
    """
    with working():
        results = _predict(adapter, files, device, quiet=as_json)
    if as_json:
        print_json({"predictions": results})
    if any("error" in result for result in results):
        raise typer.Exit(2)


def _predict(adapter: str, files: list[str], device: str | None, *, quiet: bool) -> list[dict[str, Any]]:
    from speechprompt_hf import SpeechPromptForAudioClassification
    from speechprompt_hf.evaluation import predict_files

    model = SpeechPromptForAudioClassification.from_pretrained(adapter).to(device_or_best(device))
    results = []
    for prediction in predict_files(model, files):
        results.append({name: value for name, value in asdict(prediction).items() if value is not None})
        if prediction.error is not None:
            print_error(prediction.error)
        elif not quiet:
            print_line(f"{prediction.file}\t{prediction.label}\t{prediction.probability:.4f}")
    return results
